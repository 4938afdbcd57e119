/** Results as Markdown, and into docs/performance.md between its markers. */
import { readFileSync, writeFileSync } from 'node:fs'
import { median, showSpread, table } from './arithmetic.js'
import { chart } from './chart.js'
import { goals } from './goals.js'
import { bestNeighbour, type Outcome, type Results, ratio, spreadOf, valuesOf } from './results.js'
import { type Column, FLOOR, type Row, type Scenario, type Table } from './scenario.js'

const PAGE = 'docs/performance.md'
const CHART = 'docs/performance.svg'
const BEGIN = '<!-- made by npm run bench -->'
const END = '<!-- end of what npm run bench made -->'

/** Writes the tables and the chart; what stands around the markers stays. */
export function writePage(results: Results, scenarios: readonly Scenario[]): void {
  writeFileSync(CHART, chart(results, scenarios))
  const [before = '', rest = ''] = split(readFileSync(PAGE, 'utf8'), BEGIN)
  const [, after = ''] = split(rest, END)
  const picture = `![imager's ratio to the best neighbour in each figure; the tables below have the numbers](performance.svg)`
  writeFileSync(PAGE, [before, BEGIN, `\n\n${picture}\n\n`, report(results, scenarios), '\n\n', END, after].join(''))
}

function split(text: string, marker: string): string[] {
  const parts = text.split(marker)
  if (parts.length !== 2) throw new Error(`${PAGE} must hold ${marker} once`)
  return parts
}

export function report(results: Results, scenarios: readonly Scenario[]): string {
  const { processor, cores, memoryGiB, kernel, node } = results.machine
  const parts = [`${processor}, ${cores} cores, ${memoryGiB} GiB, Linux ${kernel}, Node ${node}.`]
  for (const { name, how, tables } of scenarios) {
    const outcome = results.scenarios[name]
    if (!outcome) continue
    parts.push(`### ${name}`, `${outcome.date.slice(0, 10)}, ${how ?? `${count(outcome.runs)}, alternating`}.`)
    for (const one of tables) parts.push(`${one.title}:`, show(one, outcome))
  }
  parts.push('### goals', table([['goal', 'measured', 'wanted', 'reached'], ...goals(results)]))
  return parts.join('\n\n')
}

const count = (runs: number) => (runs === 1 ? 'one run' : `${runs} runs`)

function show({ columns }: Table, { rows, tools }: Outcome): string {
  const names = [...new Set(rows.map((row) => row.tool))]
  const present = names.filter((name) => columns.some((column) => valuesOf(rows, name, column)))
  const line = (name: string) => {
    const cells = columns.map((column) => {
      const found = spreadOf(rows, name, column)
      return found ? showSpread(found, column.digits) : ''
    })
    return [`${name} ${tools[name] ?? ''}`.trim(), ...cells]
  }
  const compared = (name: string, other: (column: Column) => number | undefined) => {
    const cells = columns.map((column) => ratio(rows, column, other(column))?.toFixed(2) ?? '')
    return cells.some((cell) => cell !== '') ? [[name, ...cells]] : []
  }
  return table([
    ['', ...columns.map((column) => column.heading)],
    ...present.map(line),
    ...compared('imager / best neighbour', (column) => bestNeighbour(rows, column)?.median),
    ...compared('imager / floor', (column) => floorOf(rows, column)),
  ])
}

function floorOf(rows: readonly Row[], column: Column): number | undefined {
  const values = valuesOf(rows, FLOOR, column)
  return values && median(values)
}
