/** The parts of docs/ that are made from code: the table of errors and the tables of limits. */
import { ERRORS, Exit } from '../src/base/errors.js'
import * as typescriptLimits from '../src/base/limits.js'
import { PROBLEMS } from '../src/fleet/problems.js'
import { read } from './sources.js'

const cell = (text: string) => text.replaceAll('|', '\\|')
const row = (...cells: string[]) => `| ${cells.map(cell).join(' | ')} |`

/** Grouped by exit code, in the order of the table in code. */
export function errorsTable(): string {
  const rows = Object.entries(ERRORS)
    .sort(([, a], [, b]) => a.exit - b.exit)
    .map(([code, { exit, retryable, sentence, remedy }]) =>
      row(`\`${code}\``, String(exit), retryable ? 'yes' : '', sentence, remedy),
    )
  return [row('Code', 'Exit', 'Try again?', 'What happened', 'What to do'), '|---|---|---|---|---|', ...rows].join('\n')
}

/** What `imager status` finds. */
export function problemsTable(): string {
  const rows = Object.entries(PROBLEMS).map(([code, meaning]) => row(`\`${code}\``, meaning))
  return [row('Code', 'Meaning'), '|---|---|', ...rows].join('\n')
}

export function exitTable(meanings: Record<keyof typeof Exit, string>): string {
  const rows = Object.entries(Exit).map(([name, exit]) => row(String(exit), meanings[name as keyof typeof Exit]))
  return [row('Exit code', 'Meaning'), '|---|---|', ...rows].join('\n')
}

const values: Record<string, unknown> = { ...typescriptLimits }

interface Limit {
  readonly name: string
  readonly value: string
  readonly why: string
}

/** A constant after its comment; constants that follow without a blank line share it. */
function limitsIn(
  source: string,
  comment: RegExp,
  constant: RegExp,
  show: (name: string, code: string) => string,
): Limit[] {
  const found: Limit[] = []
  let why: string[] = []
  let open = false
  for (const line of source.split('\n')) {
    const text = comment.exec(line)?.[1]
    const [, name, code] = constant.exec(line) ?? []
    if (text !== undefined) {
      why = open ? [...why, text] : [text]
      open = true
    } else {
      open = false
      if (line.trim() === '') why = []
      if (name && code) found.push({ name, value: show(name, code), why: why.join(' ').trim() })
    }
  }
  return found.filter(({ name }) => !/^[KMG]I?B$/i.test(name))
}

export function limitsTable(side: 'typescript' | 'rust'): string {
  const found =
    side === 'typescript'
      ? limitsIn(
          read('src/base/limits.ts'),
          /^(?:\/\*\*| \*) ?(.*?)(?: ?\*\/)?$/,
          /^export const (\w+) = (.*)$/,
          (name) => readable(name, values[name]),
        )
      : limitsIn(read('native/src/base/limits.rs'), /^\/\/\/ ?(.*)$/, /^pub const (\w+): [^=]*= (.*);$/, (name, code) =>
          readable(name, evaluate(code) ?? code),
        )
  const rows = found.map(({ name, value, why }) => row(`\`${name}\``, value, why))
  return [row('Limit', 'Value', 'Why'), '|---|---|---|', ...rows].join('\n')
}

/** `16 * MIB`, `1 << 16`; undefined for anything else. */
export function evaluate(code: string): number | undefined {
  const units: Record<string, number> = { KIB: 1024, MIB: 1024 ** 2, GIB: 1024 ** 3 }
  let value: number | undefined
  for (const [, operator, word] of code.replace(/ as u\d+$/, '').matchAll(/\s*(\*|<<|^)?\s*([\w.]+|\S)/g)) {
    const number = units[word!] ?? (/^[\d_]+$/.test(word!) ? Number(word!.replaceAll('_', '')) : undefined)
    if (number === undefined) return undefined
    if (value === undefined) value = number
    else if (operator === '*') value *= number
    else if (operator === '<<') value *= 2 ** number
    else return undefined
  }
  return value
}

function readable(name: string, value: unknown): string {
  if (typeof value !== 'number') return String(value)
  if (name.endsWith('_MS')) return value % 60_000 === 0 ? `${value / 60_000} min` : `${value / 1000} s`
  if (!name.includes('BYTES')) return value.toLocaleString('en')
  for (const [unit, size] of [
    ['GiB', 1024 ** 3],
    ['MiB', 1024 ** 2],
    ['KiB', 1024],
  ] as const) {
    if (value >= size && value % size === 0) return `${(value / size).toLocaleString('en')} ${unit}`
  }
  return `${value.toLocaleString('en')} B`
}
