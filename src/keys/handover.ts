/**
 * How a living coordinator gives its place to another host, within a term and without the words: it signs that it does, and an
 * enroller that he agrees; where one machine holds both duties, its own signature is all there is. Memberships and checkpoints carry
 * all handovers of their term, so each proves who may sign it to whoever knows the root's key (docs/formats/membership.md). Pure.
 */
import * as v from 'valibot'
import { ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import { type Delegation, openDelegation } from './delegation.js'
import { Base64, Count, Id, Key, Term } from './fields.js'
import { openStatement, type Signer, signStatement } from './statement.js'

/** Each checkpoint carries them; a new term begins without any. */
export const MOST_HANDOVERS = 16

const HandoverBody = v.strictObject({
  fleet: Id,
  term: Term,
  /** From 1, in its term. */
  number: v.pipe(Count, v.minValue(1), v.maxValue(MOST_HANDOVERS)),
  from: Key,
  to: Key,
})
export type Handover = v.InferOutput<typeof HandoverBody>

/** What a membership holds of one. */
export const Handed = v.strictObject({
  /** By the coordinator that leaves. */
  handover: Base64(1024),
  /** The root's delegation of the enroller who agrees. */
  enroller: Base64(1024),
  /** The same words by that enroller; left out where he is the coordinator that leaves. */
  consent: v.exactOptional(Base64(1024)),
})
export type Handed = v.InferOutput<typeof Handed>

interface OfTerm {
  readonly fleet: Hex
  readonly term: number
  readonly rootKey: Hex
  /** Whom the root made coordinator in this term. */
  readonly first: Hex
}

/** In base64; by the coordinator, or as consent by an enroller. */
export function signHandover(handover: Handover, signer: Signer): string {
  return signStatement('handover', handover, signer).toString('base64')
}

/** Throws FORGED where one of two signatures is missing, or of another host, fleet, term or number; CORRUPT. */
export function openHandovers(handed: readonly Handed[], of: OfTerm): Handover[] {
  const opened: Handover[] = []
  for (const one of handed) opened.push(openNext(one, opened, of))
  return opened
}

function openNext({ handover: text, enroller, consent }: Handed, before: readonly Handover[], of: OfTerm): Handover {
  const { fleet, term, rootKey, first } = of
  const forged = (what: string) => new ImagerError('FORGED', { what: `A handover ${what}` })
  const coordinator = before.at(-1)?.to ?? first
  const handover = openSaid(text, coordinator, 'by the coordinator')
  if (handover.fleet !== fleet) throw forged('belongs to another fleet')
  if (handover.term !== term) throw forged('is of another term')
  if (handover.number !== before.length + 1) throw forged(`is number ${handover.number}, not ${before.length + 1}`)
  if (handover.from !== coordinator) throw forged('is from a host that is not the coordinator')
  if (handover.to === coordinator || before.some(({ from }) => from === handover.to)) {
    throw forged('is to a host that was the coordinator in this term')
  }
  const agrees = openDelegation(Buffer.from(enroller, 'base64'), fleet, rootKey)
  if (agrees.duty !== 'enroller' || agrees.term !== term) throw forged('is agreed to by no enroller of its term')
  const host = holderOf(agrees.host, before)
  if (host === coordinator) return handover
  if (consent === undefined) throw forged('lacks the word of an enroller')
  const said = openSaid(consent, host, 'by the enroller')
  if (HANDOVER_FIELDS.every((field) => said[field] === handover[field])) return handover
  throw forged('is not what the enroller agreed to')
}

const HANDOVER_FIELDS = ['fleet', 'term', 'number', 'from', 'to'] as const

function openSaid(text: string, by: Hex, who: string): Handover {
  const { body, signer } = openStatement('handover', HandoverBody, Buffer.from(text, 'base64'))
  if (signer === by) return body
  throw new ImagerError('FORGED', { what: `A handover is not signed ${who}` })
}

/** What an enroller says of it, which no coordinator may change. Throws FORGED where `by` did not sign it. */
export function openConsent(bytes: Uint8Array, by: (signer: Hex) => boolean): Handover & { readonly signer: Hex } {
  const { body, signer } = openStatement('handover', HandoverBody, bytes)
  if (by(signer)) return { ...body, signer }
  throw new ImagerError('FORGED', { what: 'A handover is agreed to by a host that is no enroller' })
}

/** Who has now what the root gave to this host: whoever has its place as coordinator, else itself. */
export function holderOf(host: Hex, handovers: readonly Handover[]): Hex {
  return handovers.some(({ from }) => from === host) ? (handovers.at(-1)?.to ?? host) : host
}

/**
 * What follows from them beside what the root said: a duty of who left is that of everybody who had his place, so that what each of
 * them signed stays believed; but only the last one lets hosts in.
 */
export function handDown<D extends Delegation>(
  delegations: readonly D[],
  term: number,
  handovers: readonly Handover[],
): (D | (Delegation & { readonly text: '' }))[] {
  return delegations.flatMap((one) => {
    const at = one.term === term ? handovers.findIndex(({ from }) => from === one.host) : -1
    if (at < 0) return [one]
    const heirs = handovers.slice(at).map(({ to }) => ({ ...one, host: to }))
    return one.duty === 'enroller' ? heirs.slice(-1) : [one, ...heirs.map((heir) => ({ ...heir, text: '' as const }))]
  })
}

/** Does one list of handovers go on with another? */
export function goesOn(handovers: readonly Handover[], before: readonly Handover[]): boolean {
  return before.every(({ to }, at) => handovers[at]?.to === to)
}

/** Which of two of one fleet is newer; what counts first is the term, then the handovers in it. */
export interface Place {
  readonly term: number
  /** Handovers of the term up to then. */
  readonly handed: number
  readonly sequence: number
}

export function isNewer(one: Place, than: Place | undefined): boolean {
  if (!than) return true
  if (one.term !== than.term) return one.term > than.term
  return one.handed !== than.handed ? one.handed > than.handed : one.sequence > than.sequence
}
