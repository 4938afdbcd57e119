/**
 * What a person decided of the whole fleet and of single disks: one statement that says all of it, each with a sequence one higher
 * (docs/formats/orders.md). Peers keep the newest of each who signed one, so that a coordinator that was set back, and a recovery, have
 * it again. An admin's goes before a coordinator's.
 */
import * as v from 'valibot'
import { ImagerError } from '../base/errors.js'
import { type Hex, toHex } from '../base/ids.js'
import { hash, type SecretHandle } from '../native.js'
import { Count, Id, Key, Term, Time } from './fields.js'
import type { Membership } from './membership.js'
import { openStatement, signStatement } from './statement.js'

/** A stripe has no more shards. */
const MOST_HOSTS = 32
const MOST_ROWS = 2000

/** How many snapshots stay of each kind of period, the newest of each; used by what lets go of snapshots. */
const Keep = v.strictObject({ last: Count, hourly: Count, daily: Count, weekly: Count, monthly: Count, yearly: Count })
const rules = {
  /** Hosts that may be missing; null: nothing was decided. */
  tolerate: v.nullable(v.pipe(Count, v.maxValue(MOST_HOSTS))),
  /** Age of the newest snapshot at which an alarm is due, ms; 0: never; null: nothing was decided. */
  maxAgeMs: v.nullable(Count),
  keep: v.nullable(Keep),
}
const PolicyBody = v.strictObject({
  fleet: Id,
  term: Term,
  sequence: v.pipe(Count, v.minValue(1)),
  /** By the clock of whoever signed it. */
  time: Time,
  /** Of what has no decision of its own. */
  rules: v.strictObject(rules),
  volumes: v.pipe(v.array(v.strictObject({ appliance: Key, volume: Id, ...rules })), v.maxLength(MOST_ROWS)),
  /** The most that an appliance may store. */
  quotas: v.pipe(v.array(v.strictObject({ appliance: Key, bytes: Count })), v.maxLength(MOST_ROWS)),
})
export type PolicyBody = v.InferOutput<typeof PolicyBody>

export interface SignedPolicy extends PolicyBody {
  readonly signer: Hex
  readonly isAdmins: boolean
  readonly bytes: Buffer
  /** BLAKE3 of the statement: what a checkpoint names. */
  readonly hash: Hex
}

export function signPolicy(body: PolicyBody, signer: SecretHandle): Buffer {
  return signStatement('policy', body, signer)
}

/** Throws FORGED where its signer is no admin now, nor the root, nor the coordinator of now or of its term. */
export function openPolicy(bytes: Uint8Array, membership: Membership, rootKey: Hex): SignedPolicy {
  const { body, signer } = openStatement('policy', PolicyBody, bytes)
  const forged = (what: string) => new ImagerError('FORGED', { what: `A policy ${what}` })
  if (body.fleet !== membership.fleet) throw forged('belongs to another fleet')
  if (body.term > membership.term) throw forged('is of a later term')
  const isAdmins = membership.adminsBy(rootKey).isAdmin(signer)
  const isCoordinators = signer === membership.coordinator || membership.delegated(signer, 'coordinator', body.term)
  if (!isAdmins && !isCoordinators) {
    throw forged('is signed by nobody who is an admin or the coordinator')
  }
  return { ...body, signer, isAdmins, bytes: Buffer.from(bytes), hash: toHex(hash(bytes)) }
}

/** Of one signer the newer one. Pure. */
export function isNewerPolicy(one: SignedPolicy, than: SignedPolicy | undefined): boolean {
  if (!than) return true
  if (!one.isAdmins && one.term !== than.term) return one.term > than.term
  return one.sequence > than.sequence
}

/** Which of those of several signers is in force: an admin's first, then the newest. Pure. */
export function choosePolicy(policies: readonly SignedPolicy[]): SignedPolicy | undefined {
  const admins = policies.filter(({ isAdmins }) => isAdmins)
  const among = admins.length > 0 ? admins : policies
  return among.reduce<SignedPolicy | undefined>((best, one) => {
    if (!best || isNewerPolicy(one, best)) return one
    // Of two with one number always the same.
    return !isNewerPolicy(best, one) && one.hash > best.hash ? one : best
  }, undefined)
}
