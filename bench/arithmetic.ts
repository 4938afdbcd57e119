/** What is done with measured numbers before a person sees them. Pure. */

export interface Spread {
  readonly median: number
  readonly least: number
  readonly most: number
  readonly runs: number
}

/** The middle one; the mean of the two middle ones when their count is even. Throws on none. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const upper = sorted[Math.floor(sorted.length / 2)]
  const lower = sorted[Math.ceil(sorted.length / 2) - 1]
  if (upper === undefined || lower === undefined) throw new RangeError('the median of no values')
  return (lower + upper) / 2
}

export function spread(values: readonly number[]): Spread {
  return { median: median(values), least: Math.min(...values), most: Math.max(...values), runs: values.length }
}

/** `4.2 (4.0 to 4.9)`; the range is left out where there was one run. */
export function showSpread({ median: middle, least, most, runs }: Spread, digits = 1): string {
  const text = middle.toFixed(digits)
  return runs < 2 ? text : `${text} (${least.toFixed(digits)} to ${most.toFixed(digits)})`
}

/** A Markdown table with its columns aligned; the first row is the heading. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(3, ...rows.map((row) => (row[column] ?? '').length)))
  const line = (cells: readonly string[]) =>
    `| ${widths.map((width, i) => (cells[i] ?? '').padEnd(width)).join(' | ')} |`
  const [heading = [], ...body] = rows
  return [line(heading), line(widths.map((width) => '-'.repeat(width))), ...body.map(line)].join('\n')
}
