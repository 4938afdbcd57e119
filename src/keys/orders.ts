/**
 * What an admin orders of snapshots: to forget them, to hold them whatever else is said, and to release a hold. Each proves itself, so
 * that every peer keeps all of them and judges by them (docs/formats/orders.md). A hold goes before a forget.
 */
import * as v from 'valibot'
import { ImagerError } from '../base/errors.js'
import { type Hex, toHex } from '../base/ids.js'
import { ORDER_SNAPSHOTS } from '../base/limits.js'
import { hash, type SecretHandle } from '../native.js'
import type { Admins } from './admins.js'
import { Id, Key, Term, Time } from './fields.js'
import { encodeHeadId, type HeadId, HeadSet } from './head-set.js'
import { openStatement, signStatement } from './statement.js'

const Snapshots = v.pipe(v.array(Id), v.minLength(1), v.maxLength(ORDER_SNAPSHOTS))
const common = {
  fleet: Id,
  /** Of the membership under which it was signed. */
  term: Term,
  /** By the clock of whoever signed it. */
  time: Time,
}
const BODIES = {
  forget: v.strictObject({ ...common, appliance: Key, snapshots: Snapshots }),
  /** Without snapshots: all of the appliance's, those to come too. */
  hold: v.strictObject({ ...common, appliance: Key, snapshots: v.nullable(Snapshots) }),
  /** BLAKE3 of the hold, the whole statement. */
  release: v.strictObject({ ...common, hold: Key }),
}

export const ORDER_KINDS = ['forget', 'hold', 'release'] as const
export type OrderKind = (typeof ORDER_KINDS)[number]
export function isOrder(kind: string): kind is OrderKind {
  return (ORDER_KINDS as readonly string[]).includes(kind)
}
export type OrderBody<K extends OrderKind> = v.InferOutput<(typeof BODIES)[K]>

export interface Order<K extends OrderKind> {
  readonly body: OrderBody<K>
  readonly signer: Hex
  /** BLAKE3 of the statement. */
  readonly hash: Hex
}

export function signOrder<K extends OrderKind>(kind: K, body: OrderBody<K>, admin: SecretHandle): Buffer {
  return signStatement(kind, body, admin)
}

/** Throws FORGED where its signer is no admin now, nor the root, or it is another fleet's or a later term's. */
export function openOrder<K extends OrderKind>(kind: K, bytes: Uint8Array, by: Admins): Order<K> {
  const { body, signer } = openStatement(kind, BODIES[kind], bytes)
  const forged = (what: string) => new ImagerError('FORGED', { what: `A ${kind} ${what}` })
  if (body.fleet !== by.fleet) throw forged('belongs to another fleet')
  if (body.term > by.term) throw forged('is of a later term')
  if (!by.isAdmin(signer)) throw forged('is signed by nobody who is an admin')
  return { body: body as OrderBody<K>, signer, hash: toHex(hash(bytes)) }
}

/** Under which it is kept, 128 hexadecimal digits: who signed it, and its hash. So each signer has so many. */
export function orderName({ signer, hash }: Pick<Order<OrderKind>, 'signer' | 'hash'>): string {
  return `${signer}${hash}`
}

export const SIGNER_DIGITS = 64

/** Is that snapshot held? Pure. */
export function isHeld(
  { appliance, snapshot }: HeadId,
  holds: readonly Order<'hold'>[],
  releases: readonly Order<'release'>[],
): boolean {
  const released = new Set(releases.map(({ body }) => body.hold))
  return holds.some(({ hash, body }) => {
    const isMeant = body.appliance === appliance && (body.snapshots?.includes(snapshot) ?? true)
    return isMeant && !released.has(hash)
  })
}

/** The heads that these say are to be forgotten. Throws PROTOCOL where there are more than a fleet has. Pure. */
export function forgottenBy(forgets: readonly Order<'forget'>[]): HeadSet {
  const ids = forgets.flatMap(({ body: { appliance, snapshots } }) => {
    return snapshots.map((snapshot) => encodeHeadId({ appliance, snapshot }))
  })
  return HeadSet.empty.with(Buffer.concat(ids))
}
