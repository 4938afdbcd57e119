/**
 * A host leaves the fleet for good: its shards count as missing, and what that means for the snapshots is known before it is
 * done. Run in one transaction by who signs the membership without the host (coordinator/admission.ts).
 */
import type Database from 'better-sqlite3'
import { ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import { formatCount } from '../base/units.js'
import type { SnapshotRow } from './types.js'

/**
 * The host is no member from now on, and each of its shards is known to be missing. Its row stays: shards name it. Gives the
 * stripes of which it held a shard.
 */
export function departHost(db: Database.Database, host: Hex, by: Hex, now: number): number[] {
  db.prepare(`UPDATE host SET member = 0, suspect = '' WHERE host = ?`).run(host)
  return db
    .prepare<[{ host: Hex; by: Hex; now: number }], number>(
      `INSERT OR REPLACE INTO evidence (stripe, position, fact, time, by)
      SELECT shard.stripe, shard.position, 'missing', @now, @by FROM shard JOIN stripe USING (stripe)
      WHERE stripe.committed AND shard.host = (SELECT n FROM host WHERE host = @host) RETURNING stripe`,
    )
    .pluck()
    .all({ host, by, now })
}

export interface Effect {
  /** Snapshots that can be restored with the host, and not without it. */
  readonly lost: readonly Hex[]
  /** How many bear fewer losses than they should, lost ones among them. */
  readonly snapshotsBelowTarget: number
}

type Figured = Pick<SnapshotRow, 'id' | 'survives' | 'target'>

/** What that means for snapshots, given as they were with the host and as they are without. Pure. */
export function effectOn(before: readonly Figured[], after: readonly Figured[]): Effect {
  const restorable = new Set(before.filter(({ survives }) => survives >= 0).map(({ id }) => id))
  return {
    lost: after.filter(({ id, survives }) => survives < 0 && restorable.has(id)).map(({ id }) => id),
    snapshotsBelowTarget: after.filter(({ survives, target }) => survives < target).length,
  }
}

const NAMED = 5

/** Throws WOULD_LOSE where snapshots would be lost with a host. */
export function requireNoLoss(name: string, { lost }: Effect): void {
  if (lost.length === 0) return
  const ids = lost.slice(0, NAMED).map((id) => id.slice(0, 8))
  const which = `${ids.join(', ')}${lost.length > NAMED ? ', ...' : ''}`
  throw new ImagerError('WOULD_LOSE', {
    what: `Without ${name}, ${formatCount(lost.length, 'snapshot')} could not be restored any more: ${which}`,
    todo: `If it can come back, start it again. If it is gone for good: \`imager remove ${name} --force\``,
  })
}

/** A recovery believes heads of members only. Throws WOULD_LOSE where the host has snapshots. */
export function requireNoSnapshots(name: string, count: number): void {
  if (count === 0) return
  throw new ImagerError('WOULD_LOSE', {
    what: `${name} has ${formatCount(count, 'snapshot')}, which a recovery does not find once it is no member`,
    todo: `To end the alarms about its disks and keep them: \`imager retire ${name}:SOURCE\`. To give them up: \`imager remove ${name} --force\``,
  })
}
