/** What a run leaves in bench/results, and how tools compare in it. Pure but for reading and writing the file. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { median, type Spread, spread } from './arithmetic.js'
import { type Column, FLOOR, IMAGER, type Row } from './scenario.js'

export interface Results {
  /** Of this file; others are not added to. */
  readonly version: 2
  readonly machine: Readonly<Record<string, string | number>>
  readonly scenarios: Record<string, Outcome>
}

export interface Outcome {
  readonly date: string
  readonly runs: number
  /** Name and version of whoever took part. */
  readonly tools: Readonly<Record<string, string>>
  readonly rows: readonly Row[]
}

const FOLDER = join('bench', 'results')

/** Today's results, with these scenarios new or in the place of older ones. */
export function keep(today: string, { version, machine, scenarios }: Results): { path: string; results: Results } {
  const path = join(FOLDER, `${today}.json`)
  const before = existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as Results) : undefined
  const results = {
    version,
    machine,
    scenarios: { ...(before?.version === version ? before.scenarios : {}), ...scenarios },
  }
  mkdirSync(FOLDER, { recursive: true })
  writeFileSync(path, `${JSON.stringify(results, null, 1)}\n`)
  return { path, results }
}

export function valuesOf(rows: readonly Row[], tool: string, { step, figure }: Pick<Column, 'step' | 'figure'>) {
  return rows.find((row) => row.tool === tool && row.step === step)?.figures[figure]
}

/** In the unit of the column. */
export function spreadOf(rows: readonly Row[], tool: string, column: Column): Spread | undefined {
  const values = valuesOf(rows, tool, column)
  return values && spread(values.map((value) => value / column.unit))
}

export interface Best {
  readonly tool: string
  readonly median: number
}

/** The best of the neighbours: neither imager nor the floor. */
export function bestNeighbour(rows: readonly Row[], column: Column): Best | undefined {
  const others = rows.filter((row) => row.step === column.step && row.tool !== IMAGER && row.tool !== FLOOR)
  const medians = others.flatMap(({ tool, figures }) => {
    const values = figures[column.figure]
    return values ? [{ tool, median: median(values) }] : []
  })
  const sign = column.better === 'more' ? -1 : 1
  return medians.sort((a, b) => sign * (a.median - b.median))[0]
}

/** How many times as much imager takes as `other`, whichever way is better: below 1 imager is ahead. */
export function ratio(rows: readonly Row[], column: Column, other: number | undefined): number | undefined {
  const own = valuesOf(rows, IMAGER, column)
  if (!own || other === undefined || !column.better) return undefined
  const quotient = column.better === 'more' ? other / median(own) : median(own) / other
  return Number.isFinite(quotient) ? quotient : undefined
}
