/** How lists of amounts, doubts and what is wrong with a source read in a terminal. */
import { formatBytes, formatCount, formatSeconds, formatTime } from '../base/units.js'
import type { Flaws, Ordered, SnapshotRow, SnapshotSummary } from '../catalog/types.js'
import type { Estimate } from '../jobs/restore/estimate.js'
import { oneLine } from './output.js'

/** Of a server, and of whose place it has. */
export function describePlace(name: string, former: { host: string; name: string }): string {
  return `${name} took the place of ${former.name} (key ${former.host.slice(0, 16)}...): that one's backups are its own`
}

/** Of a snapshot, what admins ordered. */
export function describeOrdered({ what, by, time }: Ordered): string {
  const when = `${by} said so, ${formatTime(time)}`
  return what === 'hold' ? `held: ${when}` : `to be forgotten: ${when}; this version deletes nothing, so it stays`
}

/** Of a snapshot whose appliance's clock was wrong. */
export function describeDoubt({
  applianceName,
  time,
  arrived,
}: Pick<SnapshotRow, 'applianceName' | 'time' | 'arrived'>): string {
  const truth = arrived > 0 ? `it arrived ${formatTime(arrived)}` : 'which is still to come'
  return `the clock of ${applianceName} said ${formatTime(time)}, ${truth}`
}

/** `.so 1.2 GB, .html 300 MB`, the largest first. */
export function formatShares(shares: Readonly<Record<string, number>>, most: number): string {
  const rows = Object.entries(shares).sort(([, a], [, b]) => b - a)
  const shown = rows.slice(0, most).map(([name, bytes]) => `${name} ${formatBytes(bytes)}`)
  const rest = rows.length - shown.length
  return [...shown, ...(rest > 0 ? [`and ${rest} more`] : [])].join(', ') || '-'
}

/** `swap file /1/swapfile, 2.0 GB` */
export function describeLeftOut({ partition, what, path, bytes }: SnapshotSummary['leftOut'][number]): string {
  return oneLine(`${what} ${path === '' ? 'of ' : ''}/${partition}${path}, ${formatBytes(bytes)}`)
}

/** What could not be read, in a sentence and with the first files that it belongs to. */
export function describeUnreadable(flaws: Flaws, most: number): string {
  return describeFlaws('could not be read', flaws, most)
}

/** What never held still. */
export function describeTorn(flaws: Flaws, most: number): string {
  return describeFlaws('went on being written and may be of several moments', flaws, most)
}

/** More hosts have it than have signed for it. */
export function describeUnsigned({ receipted, target }: { receipted: number; target: number }): string {
  const covers = receipted < 0 ? 'too little to restore it' : `the loss of any ${formatCount(receipted, 'host')}`
  return `What the hosts have signed covers ${covers}; asked were ${target}`
}

const SHARDS_SHOWN = 20

/** What a restore met and did without. */
export function describeDamaged(shards: readonly { host: string; shard: string; what: string }[]): string {
  const shown = shards
    .slice(0, SHARDS_SHOWN)
    .map(({ host, shard, what }) => `${host} (shard ${shard.slice(0, 8)}, ${what})`)
  const more = shards.length > SHARDS_SHOWN ? ` and ${shards.length - SHARDS_SHOWN} more` : ''
  const count = `${shards.length} damaged ${shards.length === 1 ? 'shard' : 'shards'}`
  return oneLine(`Corrected ${count} on the way: ${shown.join(', ')}${more}.`)
}

function describeFlaws(what: string, { bytes, ranges, files }: Flaws, most: number): string {
  const where = ranges.slice(0, most).map(({ start, length }) => `${length} bytes at ${start}`)
  const more = ranges.length > most ? ', and more' : ''
  const named = files.slice(0, most).join(', ')
  const theirs = files.length > 0 ? `; in ${named}${files.length > most ? ' and other files' : ''}` : '; in no file'
  return oneLine(`${formatBytes(bytes)} ${what}: ${where.join(', ')}${more}${theirs}`)
}

const RATES = { stated: 'as --limit says', measured: 'measured just now', assumed: 'assumed' } as const

/** How long something takes, and where that is known from. */
export function describeEstimate({ seconds, bytesPerSecond, rate }: Omit<Estimate, 'fetchBytes'>): string {
  return `About ${formatSeconds(seconds)} at ${formatBytes(bytesPerSecond)}/s, ${RATES[rate]}.`
}
