/**
 * Keys, each sealed to one reader and signed. A host's keybag is the signed list of its entries; a copy lies on every
 * peer, so that the recovery words and the peers alone give every key back. Who may sign which entry: `mayDeliver`
 * (docs/formats/keybag.md).
 */
import * as v from 'valibot'
import { ImagerError } from '../base/errors.js'
import { type Hex, toHex } from '../base/ids.js'
import { Secret, type SecretHandle } from '../native.js'
import { Base64, Count, Id, Key } from './fields.js'
import type { Membership } from './membership.js'
import { openStatement, signStatement } from './statement.js'

/** The reader that the recovery words stand for. */
export const RECOVERY = 'recovery'

const EntryBody = v.strictObject({
  fleet: Id,
  /** domain: D. manifest: M_a of an appliance. catalog: C. trailer: C_a, all an appliance gets of C. */
  purpose: v.picklist(['domain', 'manifest', 'catalog', 'trailer']),
  /** The public id of the key that is sealed. */
  key: Id,
  owner: Key,
  reader: v.union([Key, v.literal(RECOVERY)]),
  sealed: Base64(256),
})
const KeybagBody = v.strictObject({
  fleet: Id,
  sequence: Count,
  owner: Key,
  entries: v.pipe(v.array(Base64(2048)), v.maxLength(400)),
})
export type KeyEntry = v.InferOutput<typeof EntryBody>
export type KeyPurpose = KeyEntry['purpose']
export interface Keybag {
  fleet: Hex
  sequence: number
  owner: Hex
  /** `key` statements, each to be opened by `openEntry`. */
  entries: Buffer[]
}

/** C_a: all that an appliance gets of the catalog key C. */
export function deriveTrailerKey(catalogKey: SecretHandle, appliance: Hex): SecretHandle {
  return catalogKey.derive('imager v1 trailer', Buffer.from(appliance, 'hex'))
}

export interface Sealing {
  fleet: Hex
  purpose: KeyPurpose
  owner: Hex
  /** Who shall read it, a host or RECOVERY, and the X25519 key of that reader. */
  reader: Hex
  readerSealing: Hex
}

export function sealEntry(key: SecretHandle, to: Sealing, signer: SecretHandle): Buffer {
  const entry = { fleet: to.fleet, purpose: to.purpose, key: toHex(key.id()), owner: to.owner, reader: to.reader }
  const sealed = key.sealTo(Buffer.from(to.readerSealing, 'hex'), binding(entry))
  return signStatement('key', { ...entry, sealed: sealed.toString('base64') }, signer)
}

/** A new random key of this host, sealed to itself and to the recovery words. */
export function makeKey(purpose: KeyPurpose, fleet: Hex, rootSealing: Hex, identity: SecretHandle): Buffer[] {
  const key = Secret.random()
  const owner = toHex(identity.signingKey())
  const own = { fleet, purpose, owner, reader: owner, readerSealing: toHex(identity.sealingKey()) }
  const recovery = { ...own, reader: RECOVERY, readerSealing: rootSealing }
  return [sealEntry(key, own, identity), sealEntry(key, recovery, identity)]
}

/** What an entry says, its signature verified, still sealed. */
export function readEntry(bytes: Uint8Array): { entry: KeyEntry; signer: Hex } {
  const { body, signer } = openStatement('key', EntryBody, bytes)
  return { entry: body, signer }
}

export interface EntryReader {
  fleet: Hex
  /** A host, or RECOVERY. */
  reader: Hex
  /** Opens what is sealed to that reader: the host's identity, or the root. */
  secret: SecretHandle
  /** May this signer deliver this entry? Usually `mayDeliver`. */
  accept(signer: Hex, entry: KeyEntry): boolean
}

/** Throws FORGED where it is for another fleet or reader, from a wrong signer, or holds another key than it says. */
export function openEntry(bytes: Uint8Array, as: EntryReader): { key: SecretHandle; entry: KeyEntry } {
  const { entry, signer } = readEntry(bytes)
  const forged = (what: string) => new ImagerError('FORGED', { what: `A ${entry.purpose} key ${what}` })
  if (entry.fleet !== as.fleet) throw forged('belongs to another fleet')
  if (entry.reader !== as.reader) throw forged('is sealed to another host')
  if (!as.accept(signer, entry)) throw forged('comes from a host that may not hand it out')
  const key = as.secret.openSealed(Buffer.from(entry.sealed, 'base64'), binding(entry))
  if (toHex(key.id()) !== entry.key) throw forged('is not the one its entry names')
  return { key, entry }
}

/**
 * The root may deliver anything. Else an entry comes from its owner: its own manifest key, a private domain key that it
 * seals to itself and to recovery only, or anything if the root made it a holder.
 */
export function mayDeliver(signer: Hex, entry: KeyEntry, membership: Membership, rootKey: Hex): boolean {
  if (signer === rootKey) return true
  if (signer !== entry.owner) return false
  const toItself = entry.reader === entry.owner || entry.reader === RECOVERY
  if (toItself && (entry.purpose === 'manifest' || entry.purpose === 'domain')) return true
  return membership.delegated(signer, 'holder')
}

export function signKeybag(bag: Keybag, owner: SecretHandle): Buffer {
  const entries = bag.entries.map((entry) => entry.toString('base64'))
  return signStatement('keybag', { fleet: bag.fleet, sequence: bag.sequence, owner: bag.owner, entries }, owner)
}

/** Throws FORGED where its owner did not sign it, or it is another fleet's. Its entries are not opened. */
export function openKeybag(bytes: Uint8Array, fleet: Hex): Keybag {
  const { body, signer } = openStatement('keybag', KeybagBody, bytes)
  if (body.fleet !== fleet) throw new ImagerError('FORGED', { what: 'A keybag belongs to another fleet' })
  if (signer !== body.owner) throw new ImagerError('FORGED', { what: 'A keybag is not signed by its owner' })
  return { ...body, entries: body.entries.map((text) => Buffer.from(text, 'base64')) }
}

/** HPKE's info: a sealed key cannot be passed off as another purpose's, key's, fleet's or reader's. */
function binding(entry: Omit<KeyEntry, 'sealed' | 'owner'>): Buffer {
  const fields = [entry.fleet, entry.purpose, entry.key, entry.reader].map((text) => Buffer.from(text))
  return Buffer.concat([
    Buffer.from('imager v1 keybag\0'),
    ...fields.flatMap((field) => [Buffer.from([field.length]), field]),
  ])
}
