/**
 * What the coordinator hears of a run that came to nothing, so that `status` can say so. A run may fail before it knows which disk it
 * has before it: then it is told of the volume that the path was last, or of one that only the path names.
 */
import { realpathSync } from 'node:fs'
import { hasCode, ImagerError } from '../../base/errors.js'
import { type Hex, toHex } from '../../base/ids.js'
import { hash } from '../../native.js'
import { isNotMember } from '../../wire/refusal.js'
import type { PipelineParts } from './pipeline.js'
import type { RunLocks } from './run-locks.js'

/** Ended by another, refused by the coordinator, not heard by it; or a run that never was one. */
const UNTOLD = ['REMOVED', 'LEASE_ENDED', 'COORDINATOR_UNREACHABLE', 'NOT_ALLOWED', 'BUSY', 'USAGE', 'INVALID'] as const

export interface RunFacts {
  readonly source: string
  readonly label: string
  /** Once it has begun. */
  readonly lease: Hex | undefined
}

/** Where peers know this host no more, the coordinator says whether it was removed: they may only lack the newest membership. */
export async function causeOf(error: unknown, { catalog }: Pick<PipelineParts, 'catalog'>): Promise<unknown> {
  if (!hasCode(error, 'NOT_PLACED') || !isNotMember(error.cause)) return error
  try {
    await catalog.condition()
    return error
  } catch (refusal) {
    return hasCode(refusal, 'REMOVED') ? refusal : error
  }
}

/** Never throws: what cannot be told counts as failed once a newer run has begun. */
export async function tellFailure(error: unknown, run: RunFacts, locks: RunLocks, parts: PipelineParts): Promise<void> {
  const interrupted = parts.signal.aborted
  if (hasCode(error, ...UNTOLD) || (interrupted && run.lease === undefined)) return
  const code = error instanceof ImagerError ? error.code : 'INTERNAL'
  try {
    const lease = run.lease ?? (await beginForPath(error, run, locks, parts))
    if (lease !== undefined) await parts.catalog.abandon(lease, interrupted ? 'INTERRUPTED' : code)
  } catch {}
}

/**
 * Undefined where a run of that volume goes on, which must not be ended for this; and for a path that never was a disk and cannot
 * be opened, which is a wrong word.
 */
async function beginForPath(
  error: unknown,
  { source, label }: RunFacts,
  locks: RunLocks,
  parts: PipelineParts,
): Promise<Hex | undefined> {
  const { catalog, home } = parts
  const last = await lastVolume(source, parts)
  if (last === undefined && hasCode(error, 'SOURCE_MISSING', 'SOURCE_UNREADABLE')) return undefined
  const volume = last ?? volumeOf(`${home.membership().line.originOf(home.host)} ${source}`)
  if (!locks.tryHold(lockOfVolume(volume))) return undefined
  return (await catalog.begin({ appliance: home.host, volume, source, label })).lease
}

async function lastVolume(source: string, { catalog, home }: PipelineParts): Promise<Hex | undefined> {
  try {
    return (await catalog.snapshot('latest', { source, host: home.host })).volume
  } catch (error) {
    if (hasCode(error, 'NO_SUCH_SNAPSHOT')) return undefined
    throw error
  }
}

/** The same disk has the same one. */
export function volumeOf(identity: string): Hex {
  return toHex(hash(Buffer.from(identity))).slice(0, 32)
}

export function lockOfVolume(volume: Hex): string {
  return `volume-${volume}`
}

/** Of a source that exists, whatever of its names was given. */
export function lockOfPath(path: string): string {
  return `path-${volumeOf(realpathSync(path))}`
}
