/** Who may read from a peer, and who may store what. Decided by the peer alone, from its own copy of the membership. */
import type { Clock } from '../base/clock.js'
import { ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import type { Role } from '../keys/fields.js'
import { verifyGrant } from '../keys/grant.js'
import { openRepair, shardsOf } from '../keys/repair.js'
import type { SecretHandle } from '../native.js'
import { notMember } from '../wire/refusal.js'
import type { Trust } from './documents.js'
import type { ShardStore } from './store.js'
import type { Witness } from './witness.js'

export interface PeerParts {
  /** This peer's own key, which grants name. */
  readonly host: Hex
  /** Signs receipts. */
  readonly secret: Pick<SecretHandle, 'sign'>
  readonly trust: Trust
  readonly store: ShardStore
  readonly clock: Clock
  /** This peer as witness of the coordinator. */
  readonly witness: Witness
  /** Other peers, for repairs. */
  readonly others: { get(host: Hex): Other }
  /** A membership was brought and verified; the newer one is kept by whom it concerns. */
  readonly adopt: (membership: Buffer) => void
  /** Where a host says that it listens. */
  readonly onAddress?: (host: Hex, addresses: readonly string[]) => void
}

/** Another peer, of which this one fetches (PeerClient). */
export interface Other {
  readonly name: string
  fetchForRepair(shard: Hex, leave: string): Promise<Buffer>
}

/** Peers hold what they cannot read, and need nothing of each other's. */
const READERS: readonly Role[] = ['appliance', 'admin', 'coordinator']

/** The root reads too: a recovery has nobody else to speak for it. */
function mayRead(trust: Trust, host: Hex): boolean {
  const role = trust.membership().role(host)
  return host === trust.rootKey || (role !== undefined && READERS.includes(role))
}

/** All who may read, by the membership of this moment. */
export function listReaders(trust: Trust): Hex[] {
  const hosts = [trust.rootKey, ...trust.membership().hosts.map(({ host }) => host)]
  return hosts.filter((host) => mayRead(trust, host))
}

export function requireReader(trust: Trust, host: Hex): void {
  if (mayRead(trust, host)) return
  throw new ImagerError('NOT_ALLOWED', { what: 'This host may not read what peers hold', role: 'appliance' })
}

/** Or a peer that the coordinator has make another shard of that stripe. `leave`: in base64. Throws NOT_ALLOWED. */
export function requireReaderOf(trust: Trust, host: Hex, shard: Hex, leave: unknown): void {
  const repair = typeof leave === 'string' && openRepair(Buffer.from(leave, 'base64'), trust.membership(), host)
  if (!repair || !shardsOf(repair).includes(shard)) requireReader(trust, host)
}

export function requireCoordinator(trust: Trust, host: Hex): void {
  if (host === trust.membership().coordinator) return
  throw new ImagerError('NOT_ALLOWED', { what: 'This host is not the coordinator', role: 'coordinator' })
}

export function isMember(trust: Trust, host: Hex): boolean {
  return host === trust.rootKey || trust.membership().find(host) !== undefined
}

/** Asked again once the bytes are there: whoever was expelled meanwhile stores nothing. Throws NOT_ALLOWED. */
export function requireMember(trust: Trust, host: Hex): void {
  if (!isMember(trust, host)) throw notMember()
}

/** What arrived is the shard that was granted, as its writer signed it for this fleet. Throws FORGED. */
export function requireShard(trust: Trust, shard: Hex, arrived: { shard: Hex; fleet: Hex }): void {
  if (arrived.shard === shard && arrived.fleet === trust.fleet) return
  throw new ImagerError('FORGED', { what: `The bytes are not of shard ${shard} of this fleet` })
}

export interface Brought {
  readonly bearer: Hex
  readonly shard: Hex
  readonly lengthBytes: number
  readonly grant: Uint8Array
}

/** Throws NOT_ALLOWED. */
export function requireGrant({ host, trust }: PeerParts, { grant, ...use }: Brought): void {
  verifyGrant(grant, { membership: trust.membership(), fleet: trust.fleet, host, ...use })
}
