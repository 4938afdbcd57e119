/**
 * In which order snapshots came, and which of their times are to be believed. A head's time is its appliance's clock, which may be
 * a year off; the sequence within a volume, and when a `finish` arrived here, are not. Pure.
 */
import type { Hex } from '../base/ids.js'

/** What of a row matters here. */
export interface Dated {
  readonly id: Hex
  readonly appliance: Hex
  readonly volume: Hex
  readonly sequence: number
  /** By its appliance's clock. */
  readonly time: number
  /** By the coordinator's; 0: read back from peers, or of a catalog before format 4. */
  readonly arrived: number
}

/** Clocks that keep themselves by the network differ by less. */
const DOUBT_MS = 5 * 60_000

/** Oldest first: by sequence within a volume, and the volumes among each other by when their snapshots came. */
export function inOrder<R extends Dated>(rows: readonly R[], now: number): R[] {
  const volumes = new Map<string, R[]>()
  for (const row of rows) {
    const members = volumes.get(volumeOf(row))
    if (members) members.push(row)
    else volumes.set(volumeOf(row), [row])
  }
  const placed = [...volumes].flatMap(([volume, members]) => {
    const ordered = members.sort((a, b) => a.sequence - b.sequence || a.arrived - b.arrived || (a.id < b.id ? -1 : 1))
    const came = cameAt(ordered, now)
    return ordered.map((row, at) => ({ row, volume, at, came: came[at] as number }))
  })
  placed.sort((a, b) => a.came - b.came || (a.volume === b.volume ? a.at - b.at : a.volume < b.volume ? -1 : 1))
  return placed.map(({ row }) => row)
}

/** Whose disk it is. */
export function volumeOf({ appliance, volume }: Pick<Dated, 'appliance' | 'volume'>): string {
  return `${appliance}/${volume}`
}

/**
 * Of the snapshots of one volume, in their order: a time for each, never falling. Without an arrival it is the head's, unless
 * that is still to come or after a later snapshot's.
 */
function cameAt(ordered: readonly Dated[], now: number): number[] {
  const came: number[] = []
  for (const { time, arrived } of ordered) came.push(arrived || (time <= now ? time : (came.at(-1) ?? 0)))
  for (let at = came.length - 2; at >= 0; at--) came[at] = Math.min(came[at] as number, came[at + 1] as number)
  return came
}

/** How old it is, in milliseconds; undefined where its only time is still to come. */
export function ageOf({ time, arrived }: Pick<Dated, 'time' | 'arrived'>, now: number): number | undefined {
  if (arrived > 0) return Math.max(0, now - arrived)
  return time <= now + DOUBT_MS ? Math.max(0, now - time) : undefined
}

/**
 * Its appliance's clock was wrong: the head's time is not within the run, which lasted `seconds` and ended with the arrival, or it
 * is still to come.
 */
export function doubtfulTime(
  { time, arrived, summary }: Pick<Dated, 'time' | 'arrived'> & { summary: { seconds: number } },
  now: number,
): boolean {
  if (arrived === 0) return time > now + DOUBT_MS
  return time > arrived + DOUBT_MS || time < arrived - summary.seconds * 1000 - DOUBT_MS
}
