/**
 * What follows from a change of the dedupe domain's key, from what the runs of each snapshot said: what is still sealed under an
 * older one, and what may be stored twice. Pure.
 */
import type { Hex } from '../base/ids.js'
import { formatBytes, formatCount, formatTime } from '../base/units.js'
import type { SnapshotRow } from '../catalog/types.js'

type Row = Pick<SnapshotRow, 'applianceName' | 'time' | 'arrived'> & {
  summary: Pick<SnapshotRow['summary'], 'domains' | 'newBytes'>
}

export interface DomainChange {
  /** Snapshots whose new blocks are under an older key. */
  readonly older: number
  /** When the last of them came, in milliseconds since 1970: what was stored until then can be guessed at by who had their key. */
  readonly until: number
  /**
   * Plain bytes, at most: what runs stored under a newer key that lacked an older one. Whoever has both refers to what is there, so
   * that of him nothing is stored twice.
   */
  readonly twiceBytes: number
  /** Names of who stored those. */
  readonly twiceBy: readonly string[]
}

/** Undefined where all is under one key. */
export function domainChange(rows: readonly Row[]): DomainChange | undefined {
  const runs = rows.filter(({ summary }) => summary.domains.length > 0)
  const newest = newestDomain(runs)
  const older = runs.filter(({ summary }) => summary.domains[0] !== newest)
  if (older.length === 0) return undefined
  const keys = new Set(runs.map(({ summary }) => summary.domains[0] as Hex))
  const rank = ranks(runs)
  const lacks = ({ summary: { domains } }: Row) =>
    [...keys].some((key) => !domains.includes(key) && (rank.get(key) ?? 0) < (rank.get(domains[0] as Hex) ?? 0))
  const twice = runs.filter(lacks)
  return {
    older: older.length,
    until: Math.max(...older.map(timeOf)),
    twiceBytes: twice.reduce((sum, { summary }) => sum + summary.newBytes, 0),
    twiceBy: [...new Set(twice.map(({ applianceName }) => applianceName))].sort(),
  }
}

const timeOf = ({ time, arrived }: Row): number => arrived || time

/** Keys came in the order in which they were first sealed under. */
function ranks(rows: readonly Row[]): Map<Hex, number> {
  const inOrder = rows.toSorted((a, b) => timeOf(a) - timeOf(b)).map(({ summary }) => summary.domains[0] as Hex)
  return new Map([...new Set(inOrder)].map((key, at) => [key, at]))
}

function newestDomain(rows: readonly Row[]): Hex | undefined {
  return [...ranks(rows).keys()].at(-1)
}

/** For people. */
export function describeChange({ older, until, twiceBytes, twiceBy }: DomainChange): string {
  const what = `The key of new blocks was changed after ${formatCount(older, 'snapshot')}, the last of ${formatTime(until)}`
  const guesses = 'whoever was removed then, and gets hold of shards, can test guesses on what was stored until then'
  if (twiceBy.length === 0) return `${what}: ${guesses}, on nothing newer. Nothing is stored twice because of it.`
  const twice = `At most ${formatBytes(twiceBytes)} of ${twiceBy.join(', ')} are stored twice because of it`
  return `${what}: ${guesses}, on nothing newer. ${twice}.`
}
