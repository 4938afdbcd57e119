/** Bars of imager's ratio to the best neighbour, as one SVG that is readable on light and on dark ground. */
import { bestNeighbour, type Results, ratio } from './results.js'
import type { Scenario } from './scenario.js'

export interface Bar {
  readonly name: string
  readonly neighbour: string
  /** Below 1 imager is ahead. */
  readonly ratio: number
}

export function barsOf({ scenarios }: Results, from: readonly Scenario[]): Bar[] {
  return from.flatMap(({ name, tables }) => {
    const rows = scenarios[name]?.rows ?? []
    return tables
      .flatMap((table) => table.columns)
      .flatMap((column) => {
        const best = bestNeighbour(rows, column)
        const value = ratio(rows, column, best?.median)
        if (!column.chart || !best || value === undefined) return []
        return [{ name: column.chart, neighbour: best.tool, ratio: value }]
      })
  })
}

const ROW = 24
const TOP = 56
const LEFT = 250
const WIDTH = 860
/** Where the axis ends, on a logarithmic scale with 1 in the middle. */
const END = 16
const PLOT = WIDTH - LEFT - 150

const x = (value: number) => {
  const bounded = Math.min(END, Math.max(1 / END, value))
  return LEFT + (PLOT * (Math.log2(bounded) + Math.log2(END))) / (2 * Math.log2(END))
}

const STYLE = `
text { font: 13px system-ui, sans-serif; fill: #24292f }
.small { font-size: 11px; fill: #57606a }
.axis { stroke: #8c959f }
.grid { stroke: #8c959f; stroke-opacity: .3 }
.ahead { fill: #1a7f37 }
.behind { fill: #bc4c00 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .small { fill: #9198a1 }
  .ahead { fill: #3fb950 }
  .behind { fill: #f0883e }
}`

export function chart(results: Results, scenarios: readonly Scenario[]): string {
  const bars = barsOf(results, scenarios)
  const height = TOP + bars.length * ROW + 12
  const marks = [1 / 16, 1 / 4, 1, 4, 16].map((value) => {
    const label = value < 1 ? `1/${1 / value}` : `${value}`
    const kind = value === 1 ? 'axis' : 'grid'
    return `<line class="${kind}" x1="${round(x(value))}" y1="${TOP - 8}" x2="${round(x(value))}" y2="${height - 8}"/>
<text class="small" x="${round(x(value))}" y="${TOP - 14}" text-anchor="middle">${label}</text>`
  })
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" role="img">
<title>imager's ratio to the best neighbour in each figure</title>
<style>${STYLE}
</style>
<text x="${round(x(1)) - 12}" y="20" text-anchor="end">◀ imager is ahead</text>
<text x="${round(x(1)) + 12}" y="20">the neighbour is ahead ▶</text>
${marks.join('\n')}
${bars.map(bar).join('\n')}
</svg>
`
}

function bar({ name, neighbour, ratio: value }: Bar, index: number): string {
  const y = TOP + index * ROW
  const [from, to] = [Math.min(x(1), x(value)), Math.max(x(1), x(value))]
  const kind = value <= 1 ? 'ahead' : 'behind'
  const text = `${value.toFixed(2)} × ${neighbour}`
  return `<text x="${LEFT - 12}" y="${y + 13}" text-anchor="end">${escaped(name)}</text>
<rect class="${kind}" x="${round(from)}" y="${y + 1}" width="${round(Math.max(1, to - from))}" height="${ROW - 8}"/>
<text class="small" x="${round(Math.max(to, x(1))) + 6}" y="${y + 13}">${escaped(text)}</text>`
}

const round = (value: number) => Math.round(value)

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;')
}
