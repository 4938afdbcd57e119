/** Which snapshot a name means: an id, the beginning of one, its full name, or `latest`. Pure. */
import { ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import { volumeOf } from './order.js'
import type { Among, FoundSnapshot, Named, SnapshotRow } from './types.js'

/** Disks that `latest` names beside the one it took, at most. */
export const OTHERS = 16

/** The one name that no other snapshot has: ids are drawn by chance, and an appliance in wrong hands may sign one of another's. */
export function fullName({ appliance, id }: Pick<SnapshotRow, 'appliance' | 'id'>): string {
  return appliance + id
}

/** What ids may begin with, and of which appliance they are where that is said; undefined where nothing can have that name. */
export function askedFor(name: string): { prefix: string; appliance?: Hex } | undefined {
  if (name === 'latest') return { prefix: '' }
  if (/^[0-9a-f]{96}$/.test(name)) return { appliance: name.slice(0, 64), prefix: name.slice(64) }
  return /^[0-9a-f]{1,32}$/.test(name) ? { prefix: name } : undefined
}

/**
 * `rows`: newest last, all whose id begins so. A disk that is retired is `latest` only where no other is meant. Throws
 * NO_SUCH_SNAPSHOT.
 */
export function choose<R extends SnapshotRow & { head: Uint8Array }>(
  name: string,
  rows: readonly R[],
  among: Among,
  isRetired: (row: R) => boolean = () => false,
): FoundSnapshot {
  const meant = rows.filter((row) => isAmong(row, among))
  const kept = name === 'latest' ? meant.filter((row) => !isRetired(row)) : meant
  const found = kept.length > 0 ? kept : meant
  const last = found.at(-1)
  if (!last)
    throw new ImagerError('NO_SUCH_SNAPSHOT', { snapshot: `${name === 'latest' ? 'yet' : name}${ofWhich(among)}` })
  if (name !== 'latest' && found.length > 1) {
    const more = found.every((row) => row.id === last.id) ? ', each of another host: --host chooses' : ''
    throw new ImagerError('NO_SUCH_SNAPSHOT', { snapshot: `${name}: ${found.length} begin with it${more}` })
  }
  return { ...last, others: otherDisks(last, found).slice(0, OTHERS) }
}

/** Is that one of those which the name, and what chooses among several, mean? */
export function isMeant(name: string, row: SnapshotRow, among: Among): boolean {
  const asked = askedFor(name)
  if (!asked?.prefix && name !== 'latest') return false
  const hosts = [row.appliance, row.takenBy?.host]
  const isOf = asked?.appliance === undefined || hosts.includes(asked.appliance)
  return isOf && row.id.startsWith(asked?.prefix ?? '') && isAmong(row, among)
}

function isAmong({ source, appliance, applianceName, takenBy }: SnapshotRow, among: Among): boolean {
  if (among.source !== undefined && among.source !== source) return false
  const hosts = [applianceName, appliance, takenBy?.name, takenBy?.host]
  return among.host === undefined || hosts.includes(among.host)
}

function ofWhich({ source, host }: Among): string {
  return `${source === undefined ? '' : ` of ${source}`}${host === undefined ? '' : ` on ${host}`}`
}

/** Newest first. A disk that took the place of another, under its name, is that disk to whoever asks for it. */
function otherDisks(taken: SnapshotRow, rows: readonly SnapshotRow[]): Named[] {
  const newest = [...new Map(rows.map((row) => [volumeOf(row), row])).values()].reverse()
  const same = (row: SnapshotRow) => row.appliance === taken.appliance && row.source === taken.source
  return newest
    .filter((row) => volumeOf(row) !== volumeOf(taken) && !same(row))
    .map(({ id, source, applianceName, time, arrived }) => ({ id, source, applianceName, time, arrived }))
}
