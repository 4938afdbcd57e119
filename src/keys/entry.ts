/**
 * Keys, each sealed to one reader and signed by itself. What peers keep is the union of all entries: the first of a (purpose,
 * key id, reader) stays, and nothing that is signed later takes one away, so that the recovery words and the peers alone give
 * every key back. Who may sign which entry: `mayDeliver`; which ones peers keep: `mayBeKept` (docs/formats/key.md).
 */
import * as v from 'valibot'
import { ImagerError } from '../base/errors.js'
import { type Hex, toHex } from '../base/ids.js'
import { hash, Secret, type SecretHandle } from '../native.js'
import { Base64, Count, Id, Key, Term } from './fields.js'
import type { Membership } from './membership.js'
import { openStatement, signStatement } from './statement.js'

/** The reader that the recovery words stand for. */
export const RECOVERY = 'recovery'

const EntryBody = v.strictObject({
  fleet: Id,
  /** Of the membership under which it was signed: its signer's right is judged by that term's delegations. */
  term: Term,
  /** domain: D. manifest: M_a of an appliance. catalog: C. trailer: C_a, all an appliance gets of C. */
  purpose: v.picklist(['domain', 'manifest', 'catalog', 'trailer']),
  /** Of a `domain` key: how often it was changed in this term before. 0 for the other purposes. */
  rotation: Count,
  /** The public id of the key that is sealed. */
  key: Id,
  owner: Key,
  reader: v.union([Key, v.literal(RECOVERY)]),
  /** Of a domain key: blocks of this volume of its owner's alone are under it. Nothing here makes one (docs/formats/key.md). */
  volume: v.exactOptional(Id),
  sealed: Base64(256),
})
export type KeyEntry = v.InferOutput<typeof EntryBody>
export type KeyPurpose = KeyEntry['purpose']

/** C_a: all that an appliance gets of the catalog key C. */
export function deriveTrailerKey(catalogKey: SecretHandle, appliance: Hex): SecretHandle {
  return catalogKey.derive('imager v1 trailer', Buffer.from(appliance, 'hex'))
}

export interface Sealing {
  fleet: Hex
  term: number
  purpose: KeyPurpose
  /** 0 where left out. */
  rotation?: number
  owner: Hex
  /** Who shall read it, a host or RECOVERY, and the X25519 key of that reader. */
  reader: Hex
  readerSealing: Hex
  volume?: Hex
}

export function sealEntry(key: SecretHandle, { readerSealing, ...to }: Sealing, signer: SecretHandle): Buffer {
  const { fleet, term, purpose, rotation = 0, owner, reader, volume } = to
  const own = volume === undefined ? {} : { volume }
  const entry = { fleet, term, purpose, rotation, key: toHex(key.id()), owner, reader, ...own }
  const sealed = key.sealTo(Buffer.from(readerSealing, 'hex'), binding(entry))
  return signStatement('key', { ...entry, sealed: sealed.toString('base64') }, signer)
}

export interface Maker {
  fleet: Hex
  term: number
  rootSealing: Hex
  identity: SecretHandle
}

/** A new random key of this host, sealed to itself and to the recovery words. */
export function makeKey(purpose: KeyPurpose, maker: Maker, rotation = 0): Buffer[] {
  const { fleet, term, identity } = maker
  const key = Secret.random()
  const owner = toHex(identity.signingKey())
  const own = { fleet, term, purpose, rotation, owner, reader: owner, readerSealing: toHex(identity.sealingKey()) }
  return [sealEntry(key, own, identity), sealToRecovery(purpose, key, maker, rotation)]
}

/** A key that this host uses, in its own name: whatever becomes of the host that gave it, the words find it. */
export function sealToRecovery(purpose: KeyPurpose, key: SecretHandle, maker: Maker, rotation = 0): Buffer {
  const { fleet, term, rootSealing, identity } = maker
  const owner = toHex(identity.signingKey())
  const to = { fleet, term, purpose, rotation, owner, reader: RECOVERY, readerSealing: rootSealing }
  return sealEntry(key, to, identity)
}

/** For sorting: the key that is to be used for what is new comes first. */
export function newestFirst(a: Pick<KeyEntry, 'term' | 'rotation'>, b: Pick<KeyEntry, 'term' | 'rotation'>): number {
  return b.term - a.term || b.rotation - a.rotation
}

/** What an entry says, its signature verified, still sealed. */
export function readEntry(bytes: Uint8Array): { entry: KeyEntry; signer: Hex } {
  const { body, signer } = openStatement('key', EntryBody, bytes)
  return { entry: body, signer }
}

type Named = Pick<KeyEntry, 'purpose' | 'key' | 'owner' | 'reader' | 'volume'>

/** Of the owner, of the key, of what it is for: the parts of a name, in hexadecimal digits. */
const [OWNER_DIGITS, KEY_DIGITS, USE_BYTES] = [64, 32, 16]

/**
 * Under which it is kept, 128 hexadecimal digits: the owner, the key's id, and 16 bytes of the BLAKE3 of purpose, reader and volume.
 * It begins with the owner, who alone (or the root) signs what counts: nobody takes a name that is another's.
 */
export function entryName({ purpose, key, owner, reader, volume }: Named): string {
  const parts = [purpose, reader, ...(volume === undefined ? [] : [volume])]
  const use = toHex(hash(Buffer.from(`imager v1 key name\0${parts.join('\0')}`)).subarray(0, USE_BYTES))
  return `${owner}${key}${use}`
}

/** Whose, and of which key; any other text gives what stands there. */
export function partsOfEntryName(name: string): { owner: Hex; key: Hex } {
  return { owner: name.slice(0, OWNER_DIGITS), key: name.slice(OWNER_DIGITS, OWNER_DIGITS + KEY_DIGITS) }
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
 * The root may deliver anything. Else an entry comes from its owner: what it seals to itself and to recovery only (its own
 * manifest key, and the keys that it was given), or anything if the root made it a holder in the entry's term.
 */
export function mayDeliver(signer: Hex, entry: KeyEntry, membership: Membership, rootKey: Hex): boolean {
  if (!isPossible(entry)) return false
  if (signer === rootKey) return true
  if (signer !== entry.owner || entry.term > membership.term) return false
  // What a volume keeps to itself no holder hands to others.
  if (isPrivate(entry)) return isOwnersOrRecoverys(entry)
  if (isOwnersOrRecoverys(entry) && entry.purpose !== 'catalog') return true
  return membership.delegated(signer, 'holder', entry.term)
}

/**
 * Do peers keep it? What its owner or a recovery can open, of a member that has keys, of a server whose place another took, or of
 * who was a holder in the entry's term:
 * what other hosts shall open, these are handed.
 */
export function mayBeKept(signer: Hex, entry: KeyEntry, membership: Membership, rootKey: Hex): boolean {
  const role = membership.role(entry.owner)
  const hasKeys = role === 'appliance' || role === 'coordinator' || membership.line.isFormer(entry.owner)
  const mayOwn = signer === rootKey || hasKeys || membership.delegated(entry.owner, 'holder', entry.term)
  return mayOwn && isOwnersOrRecoverys(entry) && mayDeliver(signer, entry, membership, rootKey)
}

/** A dedupe domain of one volume's own. What it says opens old blocks, and seals nothing. */
export function isPrivate({ volume }: Pick<KeyEntry, 'volume'>): boolean {
  return volume !== undefined
}

/** Only domains are a volume's. */
function isPossible(entry: KeyEntry): boolean {
  return !isPrivate(entry) || entry.purpose === 'domain'
}

function isOwnersOrRecoverys({ owner, reader }: KeyEntry): boolean {
  return reader === owner || reader === RECOVERY
}

/** HPKE's info: a sealed key cannot be passed off as another purpose's, key's, fleet's, owner's, reader's or volume's. */
function binding(entry: Named & Pick<KeyEntry, 'fleet'>): Buffer {
  const { fleet, purpose, key, owner, reader, volume } = entry
  const texts = [fleet, purpose, key, owner, reader, ...(volume === undefined ? [] : [volume])]
  const fields = texts.map((text) => Buffer.from(text))
  return Buffer.concat([
    Buffer.from('imager v1 key\0'),
    ...fields.flatMap((field) => [Buffer.from([field.length]), field]),
  ])
}
