/**
 * The memberships that a peer keeps: the newest under the fleet's id, and under their own hashes earlier ones, so that a
 * coordinator in foreign hands cannot take out of the world who the peers were. A recovery asks the hosts of all of them.
 */
import type { Clock } from '../base/clock.js'
import { type Hex, toHex } from '../base/ids.js'
import { openMembership } from '../keys/membership.js'
import { hash } from '../native.js'
import { checkDocument, readable, type Trust } from './documents.js'
import type { ShardStore } from './store.js'

export interface Version {
  readonly name: Hex
  readonly term: number
  /** Handovers in it. */
  readonly handed: number
  readonly sequence: number
  /** By this host's clock, ms since 1970. */
  readonly received: number
}

const FOUR_WEEKS_MS = 28 * 24 * 3_600_000
/** Besides the last of each term. */
export const VERSIONS_KEPT = 64

/** Throws what `checkDocument` does, and HOST_REFUSED where one as new is held. */
export async function keepMembership(store: ShardStore, trust: Trust, clock: Clock, bytes: Buffer): Promise<void> {
  const { fleet } = trust
  const replaces = checkDocument(trust, 'membership', fleet, bytes)
  const held = await store.document('membership', fleet)
  if (held && !held.equals(bytes)) replaces(held)
  await store.putDocument('membership', toHex(hash(bytes)), bytes, () => {})
  await store.putDocument('membership', fleet, bytes, replaces)
  for (const name of versionsToDrop(await listVersions(store, trust), clock.now())) {
    await store.dropDocument('membership', name)
  }
}

/** What rotted is none, and goes. */
async function listVersions(store: ShardStore, { fleet, rootKey }: Trust): Promise<Version[]> {
  const versions: Version[] = []
  for (const name of await store.documents('membership')) {
    if (name === fleet) continue
    const bytes = await store.document('membership', name)
    const opened = bytes && readable(() => openMembership(bytes, fleet, rootKey))
    const { term, handed, sequence } = opened ?? { term: 0, handed: 0, sequence: 0 }
    versions.push({ name, term, handed, sequence, received: await store.documentTime('membership', name) })
  }
  return versions
}

/**
 * The last of each term stays, for only the root begins one; and what was in force within four weeks. Of too many of these go
 * those that were it for the shortest time: who signs a thousand in an hour pushes out his own. Pure.
 */
export function versionsToDrop(versions: readonly Version[], now: number): Hex[] {
  const ordered = [...versions].sort((a, b) => a.term - b.term || a.handed - b.handed || a.sequence - b.sequence)
  const earlier = ordered.flatMap((one, at) => {
    const next = ordered[at + 1]
    return next?.term === one.term
      ? [{ name: one.name, until: next.received, forMs: next.received - one.received }]
      : []
  })
  const rotten = versions.filter(({ term }) => term === 0).map(({ name }) => name)
  const recent = earlier.filter(({ until }) => until > now - FOUR_WEEKS_MS).sort((a, b) => b.forMs - a.forMs)
  const kept = new Set(recent.slice(0, VERSIONS_KEPT).map(({ name }) => name))
  return [...new Set([...rotten, ...earlier.map(({ name }) => name).filter((name) => !kept.has(name))])]
}
