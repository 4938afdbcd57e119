/**
 * Admins: keys of persons, not of hosts. The root alone makes one, for a term, and it stands in the membership; what an admin
 * signs, every host believes (docs/formats/membership.md). One who is dismissed by the root or by another admin is none any more in that
 * term, and whatever his key signed counts no more.
 */
import * as v from 'valibot'
import { ImagerError } from '../base/errors.js'
import { type Hex, toHex } from '../base/ids.js'
import { hash, type SecretHandle } from '../native.js'
import { DelegationBody, openDelegation, signDelegation } from './delegation.js'
import { Base64, Id, Key, Term } from './fields.js'
import { type LabelKey, SealedLabel } from './labels.js'
import { openStatement, signStatement } from './statement.js'

export const MOST_ADMINS = 16
/** Admins come and go rarely, and a term forgets who left in the one before. */
export const MOST_DISMISSALS = 256

export const ListedAdmin = v.strictObject({
  /** By the root, of this term. */
  delegation: Base64(1024),
  /** X25519: the names of hosts are sealed to it. By the coordinator's word, who has these names. */
  sealing: Key,
  /** How people call him (labels.ts). */
  label: SealedLabel,
})
export type ListedAdmin = v.InferOutput<typeof ListedAdmin>
/** Before its name is sealed. */
export interface NamedAdmin extends Pick<ListedAdmin, 'delegation' | 'sealing'> {
  readonly name: string
}
export interface Admin extends NamedAdmin {
  readonly key: Hex
  /** BLAKE3 of the delegation: what a dismissal names. */
  readonly id: Hex
}

const DismissalBody = v.strictObject({
  fleet: Id,
  term: Term,
  admin: Key,
  /** BLAKE3 of the delegation that does not count any more. */
  delegation: Key,
})
export type Dismissal = v.InferOutput<typeof DismissalBody>

/** Whose word is an admin's: the root's, and that of each admin of now. */
export interface Admins {
  readonly fleet: Hex
  readonly term: number
  isAdmin(signer: Hex): boolean
}

interface OfTerm {
  readonly fleet: Hex
  readonly term: number
  readonly rootKey: Hex
}

export function appoint(key: Hex, { fleet, term }: Pick<OfTerm, 'fleet' | 'term'>, root: SecretHandle): Buffer {
  return signDelegation({ fleet, term, duty: 'admin', host: key }, root)
}

/** Whom it makes one; of what was opened before, or is being made. In base64. */
export function adminOf(delegation: string): Hex {
  return openStatement('delegation', DelegationBody, Buffer.from(delegation, 'base64')).body.host
}

/** The same admins in a term that the root begins. */
export function appointAgain(admins: readonly Admin[], of: Pick<OfTerm, 'fleet' | 'term'>, root: SecretHandle) {
  const listed = admins.map(({ key, sealing, name }): NamedAdmin => {
    return { delegation: appoint(key, of, root).toString('base64'), sealing, name }
  })
  return listed.length > 0 ? { admins: listed } : {}
}

/** Throws FORGED where the root did not make that key an admin in this term. */
export function openAppointment(bytes: Uint8Array, { fleet, term, rootKey }: OfTerm): Pick<Admin, 'key' | 'id'> {
  const made = openDelegation(bytes, fleet, rootKey)
  if (made.duty !== 'admin') throw new ImagerError('FORGED', { what: `A delegation is of ${made.duty}, not of admin` })
  if (made.term !== term) throw new ImagerError('FORGED', { what: 'An admin is of another term' })
  return { key: made.host, id: toHex(hash(bytes)) }
}

/** Throws FORGED, and CORRUPT where one is listed twice. Without `labels` each is called by his key. */
export function openAdmins(listed: readonly ListedAdmin[], of: OfTerm, labels: LabelKey | undefined): Admin[] {
  const admins = listed.map(({ delegation, sealing, label }): Admin => {
    const { key, id } = openAppointment(Buffer.from(delegation, 'base64'), of)
    return { key, id, delegation, sealing, name: labels?.open(key, label)?.name ?? key.slice(0, 8) }
  })
  if (new Set(admins.map(({ key }) => key)).size === admins.length) return admins
  throw new ImagerError('CORRUPT', { what: 'A membership lists an admin twice' })
}

/** By his name, or the beginning of his key. Throws NOT_ADMIN. Pure. */
export function findAdmin(admins: readonly Admin[], wanted: string): Admin {
  const named = admins.filter(({ name }) => name === wanted)
  const isPrefix = /^[0-9a-f]{4,64}$/.test(wanted)
  const found = named.length > 0 ? named : admins.filter(({ key }) => isPrefix && key.startsWith(wanted))
  if (found.length === 1) return found[0] as Admin
  const what = found.length === 0 ? `Nobody who is called ${wanted} is an admin` : `${wanted} may be several admins`
  throw new ImagerError('NOT_ADMIN', { what })
}

export function sealAdmin({ name, ...admin }: NamedAdmin, key: Hex, labels: LabelKey): ListedAdmin {
  return { ...admin, label: labels.seal(key, { name, domain: name }) }
}

export function signDismissal(dismissal: Dismissal, signer: SecretHandle): Buffer {
  return signStatement('dismissal', dismissal, signer)
}

/** Throws FORGED where neither the root nor an admin signed it, or for another fleet or term. */
export function openDismissal(bytes: Uint8Array, by: Admins): Dismissal {
  const { body, signer } = openStatement('dismissal', DismissalBody, bytes)
  const forged = (what: string) => new ImagerError('FORGED', { what: `A dismissal ${what}` })
  if (body.fleet !== by.fleet) throw forged('belongs to another fleet')
  if (body.term !== by.term) throw forged('is of another term')
  if (!by.isAdmin(signer)) throw forged('is signed by nobody who is an admin')
  return body
}
