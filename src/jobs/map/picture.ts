/**
 * What a picture of a disk shows (`imager map --svg`): the whole disk in a few rows, below it each volume in rows of its
 * own. The number of cells is bounded whatever the disk, and so are the volumes.
 */
import type { DiskScanHandle, VolumeFacts } from '../../native.js'

/** In the order of `strip::Kind` in the addon. */
export const REGIONS = ['outside', 'metadata', 'files', 'free', 'raw', 'unsettled', 'leftOut'] as const
export type Region = (typeof REGIONS)[number]
export type Bytes = Readonly<Record<Region, number>>

export const ROW_CELLS = 100
const DISK_ROWS = 2
const VOLUME_ROWS = 13
const VOLUMES = 10

export interface Strip {
  /** Null: the whole disk. */
  readonly volume: VolumeFacts | null
  readonly lengthBytes: number
  readonly cells: readonly Bytes[]
}

export interface Picture {
  readonly source: string
  readonly sizeBytes: number
  readonly table: string
  readonly sectorBytes: number
  readonly bytes: Bytes
  /** Bytes of files that lie in their own records; they are among the metadata. */
  readonly residentBytes: number
  readonly strips: readonly Strip[]
  /** Volumes that have no rows of their own. */
  readonly hidden: number
}

export function pictureOf(scan: DiskScanHandle, source: string): Picture {
  const { size, table, sectorBytes, volumes } = scan.facts()
  const largest = [...volumes].sort((a, b) => b.length - a.length).slice(0, VOLUMES)
  const shown = volumes.filter((volume) => largest.includes(volume))
  const rows = shareRows(shown.map(({ length }) => length))
  const wanted = shown.map((volume, at) => ({
    volume: volumes.indexOf(volume),
    cells: (rows[at] ?? 1) * ROW_CELLS,
  }))
  const [all, ...own] = scan.strips([{ volume: null, cells: DISK_ROWS * ROW_CELLS }, ...wanted])
  const disk = cellsOf(all)
  return {
    ...{ source, sizeBytes: size, table, sectorBytes, hidden: volumes.length - shown.length },
    bytes: sum(disk),
    residentBytes: scan.residentBytes(),
    strips: [
      { volume: null, lengthBytes: size, cells: disk },
      ...shown.map((volume, at) => ({ volume, lengthBytes: volume.length, cells: cellsOf(own[at]) })),
    ],
  }
}

/** One row for each volume, and the others in proportion to their lengths. */
function shareRows(lengths: readonly number[]): number[] {
  const total = Math.max(
    1,
    lengths.reduce((all, length) => all + length, 0),
  )
  const spare = VOLUME_ROWS - lengths.length
  return lengths.map((length) => 1 + Math.floor((spare * length) / total))
}

function cellsOf(numbers: Float64Array = new Float64Array()): Bytes[] {
  return Array.from({ length: numbers.length / REGIONS.length }, (_, cell) => {
    const bytes = REGIONS.map((region, at) => [region, numbers[cell * REGIONS.length + at] ?? 0])
    return Object.fromEntries(bytes) as Bytes
  })
}

/** Of all cells together. */
export function sum(cells: readonly Bytes[]): Bytes {
  const bytes = REGIONS.map((region) => [region, cells.reduce((all, cell) => all + cell[region], 0)])
  return Object.fromEntries(bytes) as Bytes
}
