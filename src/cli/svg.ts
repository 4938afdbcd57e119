/**
 * The picture of a disk as SVG. Each run of cells of one colour is a shape with a text of its own. The colours are those of
 * Okabe and Ito, which people with any colour vision tell apart; kinds that could still be taken for one another have a
 * pattern too. Light or dark follows the viewer.
 */
import { formatBytes } from '../base/units.js'
import { type Bytes, type Picture, REGIONS, type Region, ROW_CELLS, type Strip, sum } from '../jobs/map/picture.js'
import { oneLine } from './output.js'

const WIDTH = 1000
const MARGIN = 20
const CELL = (WIDTH - 2 * MARGIN) / ROW_CELLS
const ROW = 28
const ROW_GAP = 4
const HEADING = 34
const LEGEND_LINE = 22
const HEADING_LETTERS = 120

const NAMES: Record<Region, string> = {
  files: 'files',
  metadata: 'metadata: tables, folders, journal',
  free: 'free, not read',
  unsettled: 'free, but read: not cleanly unmounted',
  raw: 'read raw',
  outside: 'outside of volumes: partition tables, gaps',
  leftOut: 'in use, left out: swap, page files, empty journals',
}
const SHORT: Record<Region, string> = {
  ...{ files: 'files', metadata: 'metadata', free: 'free', unsettled: 'free but read', raw: 'raw' },
  ...{ outside: 'outside of volumes', leftOut: 'left out' },
}

const STYLE = `
    svg { font-family: Helvetica, Arial, sans-serif; font-size: 14px }
    text { fill: #111827 } .paper { fill: #ffffff } .small { fill: #4b5563 } .bold { font-weight: bold }
    .files { fill: #0072b2 } .metadata { fill: #e69f00 } .free { fill: #e2e6ec } .outside { fill: #6b7280 }
    .raw { fill: url(#raw) } .unsettled { fill: url(#unsettled) } .leftOut { fill: url(#left-out) } .frame { fill: none; stroke: #9ca3af }
    @media (prefers-color-scheme: dark) {
      text { fill: #f3f4f6 } .paper { fill: #111827 } .small { fill: #c4c9d2 }
      .files { fill: #3d9fe0 } .free { fill: #2f3846 } .outside { fill: #a8afba } .frame { stroke: #6b7280 }
    }
  `
const PATTERNS = `<pattern id="raw" width="8" height="8" patternUnits="userSpaceOnUse"><rect width="8" height="8" fill="#cc79a7"/><path d="M0 8 8 0" stroke="#ffffff" stroke-width="1.5"/></pattern>
    <pattern id="unsettled" width="8" height="8" patternUnits="userSpaceOnUse"><rect width="8" height="8" fill="#009e73"/><circle cx="4" cy="4" r="1.6" fill="#ffffff"/></pattern>
    <pattern id="left-out" width="6" height="6" patternUnits="userSpaceOnUse"><rect width="6" height="6" fill="#e2e6ec"/><path d="M0 3h6" stroke="#d55e00" stroke-width="2"/></pattern>`

export function renderSvg(picture: Picture): string {
  const { source, sizeBytes, table, sectorBytes, strips, hidden } = picture
  const tables = table === 'none' ? 'no partition table' : `${table.toUpperCase()} partition table`
  const about = `${formatBytes(sizeBytes)}, ${tables}, sectors of ${sectorBytes} bytes`
  const body: string[] = [text(MARGIN, 34, source, 'bold'), text(MARGIN, 56, about, 'small')]
  let y = 78
  const legend = legendOf(picture)
  for (const [at, line] of legend.entries()) {
    const x = MARGIN + (at % 2) * (WIDTH / 2)
    const top = y + Math.floor(at / 2) * LEGEND_LINE
    body.push(
      `<rect class="${line.region}" x="${x}" y="${top}" width="16" height="16"/>`,
      text(x + 24, top + 13, line.text),
    )
  }
  y += Math.ceil(legend.length / 2) * LEGEND_LINE
  if (picture.residentBytes > 0) {
    const resident = `Of the metadata, ${formatBytes(picture.residentBytes)} are files that lie in their own records.`
    body.push(text(MARGIN, y + 13, resident, 'small'))
    y += LEGEND_LINE
  }
  for (const strip of strips) {
    body.push(text(MARGIN, y + HEADING - 10, headingOf(strip)), ...shapesOf(strip, y + HEADING))
    y += HEADING + (strip.cells.length / ROW_CELLS) * (ROW + ROW_GAP)
  }
  if (hidden > 0) {
    body.push(text(MARGIN, y + 22, `${hidden} smaller volumes are shown in the strip of the whole disk only.`, 'small'))
    y += HEADING
  }
  const height = y + MARGIN
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" role="img" aria-labelledby="title description">
  <title id="title">${escaped(`What lies where on ${source}`)}</title>
  <desc id="description">${escaped(`${about}. ${legend.map((line) => line.text).join('; ')}.`)}</desc>
  <defs>
    <style>${STYLE}</style>
    ${PATTERNS}
  </defs>
  <rect class="paper" width="${WIDTH}" height="${height}"/>
  ${body.join('\n  ')}
</svg>
`
}

function legendOf({ bytes, sizeBytes }: Picture): { region: Region; text: string }[] {
  const present = (Object.keys(NAMES) as Region[]).filter((region) => bytes[region] > 0)
  return present.map((region) => {
    return { region, text: `${NAMES[region]}: ${formatBytes(bytes[region])}, ${percent(bytes[region], sizeBytes)}` }
  })
}

function headingOf({ volume, lengthBytes, cells }: Strip): string {
  const size = formatBytes(lengthBytes)
  if (!volume) return `The whole disk, ${size}`
  const { index, fileSystem, label, raw, files, within, name } = volume
  const named = [`/${index}`, within !== null && name, fileSystem, label && `"${label}"`].filter(Boolean).join(' ')
  if (raw !== null) return `${named}, ${size}, read raw: ${raw}`
  return `${named}, ${size}, ${files} files, ${formatBytes(sum(cells).free)} free`
}

/** Row by row, cells of one colour as one shape. */
function shapesOf({ volume, lengthBytes, cells }: Strip, top: number): string[] {
  const shapes: string[] = []
  const named = volume ? `/${volume.index}` : 'Disk'
  for (let row = 0; row < cells.length / ROW_CELLS; row++) {
    const y = top + row * (ROW + ROW_GAP)
    const end = (row + 1) * ROW_CELLS
    for (let first = row * ROW_CELLS, next: number; first < end; first = next) {
      const region = dominant(cells[first])
      for (next = first + 1; next < end && dominant(cells[next]) === region; next++);
      const edge = (cell: number) => Math.floor((lengthBytes / cells.length) * cell)
      const about = `${named}, from byte ${edge(first)} to ${edge(next)}: ${sharesOf(sum(cells.slice(first, next)))}`
      const x = MARGIN + (first - row * ROW_CELLS) * CELL
      const box = `x="${round(x)}" y="${y}" width="${round((next - first) * CELL)}" height="${ROW}"`
      shapes.push(`<rect class="${region}" ${box}><title>${escaped(about)}</title></rect>`)
    }
    shapes.push(`<rect class="frame" x="${MARGIN}" y="${y}" width="${WIDTH - 2 * MARGIN}" height="${ROW}"/>`)
  }
  return shapes
}

/** What a cell holds most of. */
function dominant(cell: Bytes | undefined): Region {
  return REGIONS.reduce((best, region) => ((cell?.[region] ?? 0) > (cell?.[best] ?? 0) ? region : best))
}

function sharesOf(bytes: Bytes): string {
  const total = REGIONS.reduce((all, region) => all + bytes[region], 0)
  const present = REGIONS.filter((region) => bytes[region] > 0).sort((a, b) => bytes[b] - bytes[a])
  return present.map((region) => `${SHORT[region]} ${percent(bytes[region], total)}`).join(', ') || 'nothing'
}

function percent(part: number, whole: number): string {
  const share = (100 * part) / Math.max(1, whole)
  if (part > 0 && share < 0.1) return 'below 0.1 %'
  return `${share.toFixed(share < 10 ? 1 : 0)} %`
}

function text(x: number, y: number, content: string, style = ''): string {
  const letters = Array.from(content)
  const short = letters.length > HEADING_LETTERS ? `${letters.slice(0, HEADING_LETTERS - 3).join('')}...` : content
  return `<text x="${x}" y="${y}"${style && ` class="${style}"`}>${escaped(short)}</text>`
}

/** Names come from disks: nothing that XML does not allow, nothing that ends a text. */
function escaped(content: string): string {
  const marks: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' }
  return oneLine(content)
    .replace(/[\u{fffe}\u{ffff}\p{Cs}]/gu, '?')
    .replace(/[&<>"]/g, (mark) => marks[mark] ?? mark)
}

function round(value: number): number {
  return Math.round(value * 100) / 100
}
