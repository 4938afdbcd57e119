/**
 * What the fleet's root lets a host do, for a term. The root is offline after `init`; recovery raises the term, and a
 * higher term takes the place of every lower one (docs/formats/membership.md).
 */
import * as v from 'valibot'
import { ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import type { SecretHandle } from '../native.js'
import { Id, Key, Term } from './fields.js'
import { openStatement, signStatement } from './statement.js'

export const DelegationBody = v.strictObject({
  fleet: Id,
  term: Term,
  /**
   * coordinator: signs grants. enroller: admits hosts. holder: hands out shared keys. pruner: deletes. admin: a person, who says what
   * is forgotten, held and kept (admins.ts).
   */
  duty: v.picklist(['coordinator', 'enroller', 'holder', 'pruner', 'admin']),
  /** Of an admin it is his own key. */
  host: Key,
})
export type Delegation = v.InferOutput<typeof DelegationBody>
export type Duty = Delegation['duty']

/** What each of them allows, for people. */
export const DUTY_WORDS: Record<Duty, string> = {
  coordinator: 'keep the list of backups, sign what is stored where',
  enroller: 'let hosts in, remove them',
  holder: "hand the fleet's keys to servers",
  pruner: 'have old backups deleted',
  admin: 'say what is forgotten, held and kept; let hosts in, remove them',
}

/** All that the root gives to the one host that founds a fleet, or takes it over. */
export const DUTIES: readonly Duty[] = ['coordinator', 'enroller', 'holder', 'pruner']

export function signDelegation(delegation: Delegation, root: SecretHandle): Buffer {
  return signStatement('delegation', delegation, root)
}

/** Throws FORGED where it is not this fleet's root that signed it for this fleet. */
export function openDelegation(bytes: Uint8Array, fleet: Hex, rootKey: Hex): Delegation {
  const { body, signer } = openStatement('delegation', DelegationBody, bytes)
  if (signer !== rootKey) throw new ImagerError('FORGED', { what: "A delegation is not signed by the fleet's root" })
  if (body.fleet !== fleet) throw new ImagerError('FORGED', { what: 'A delegation belongs to another fleet' })
  return body
}

interface Given {
  readonly term: number
  readonly delegations: readonly Delegation[]
  readonly handovers: readonly { readonly from: Hex }[]
}

/** Had the host a duty in an earlier term, and none in this one, or did it hand it over? A recovery, or itself, put another in its place. */
export function isFormer(of: Given, host: Hex): boolean {
  if (of.handovers.some(({ from }) => from === host)) return true
  const own = of.delegations.filter((one) => one.host === host)
  return own.length > 0 && own.every((one) => one.term < of.term)
}
