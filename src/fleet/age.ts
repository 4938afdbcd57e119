/** How old a volume's newest snapshot may be before an alarm is due. Pure. */

const HOUR_MS = 3_600_000
export const DAY_MS = 24 * HOUR_MS
/** Daily backups are late by hours now and then. */
const LEAST_MS = 26 * HOUR_MS
/** Weekly ones by a day; also where too little is known to tell. */
const MOST_MS = 8 * DAY_MS
const INTERVALS = 5

/**
 * Twice the median of the last five intervals, at least 26 hours, at most 8 days; fewer than three snapshots tell nothing: 8
 * days. `times`: of the volume's snapshots, ascending. What a person decided goes before; 0 there is never: undefined.
 */
export function maxAge(times: readonly number[], decided: number | null): number | undefined {
  if (decided !== null) return decided === 0 ? undefined : decided
  const last = times.slice(-INTERVALS - 1)
  const intervals = last.slice(1).map((time, at) => time - (last[at] as number))
  if (intervals.length < 2) return MOST_MS
  return Math.min(MOST_MS, Math.max(LEAST_MS, 2 * median(intervals)))
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = Math.floor(sorted.length / 2)
  if (sorted.length % 2 === 1) return sorted[middle] as number
  return ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2
}
