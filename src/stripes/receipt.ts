/**
 * What a peer says of a shard once it is durable and was read back: that it holds this root. It says nothing of what is in it.
 * Format (integers little-endian; docs/formats/receipt.md):
 *
 *   offset  size  field
 *   0       4     magic "IMRC"
 *   4       2     version = 1
 *   6       2     feature bits = 0
 *   8       32    identity of the stripe: BLAKE3 of what its writer signed
 *   40      4     length of the shard's file
 *   44      1     index of the shard
 *   45      3     zeros
 *   48      16    id of the store
 *   64      8     sequence of the store, below 2^53
 *   72      64    Ed25519 signature by the peer over "imager v1 receipt\0", fleet (16), shard id (16), root (32), bytes 0..72
 *
 * Fleet, shard, root and peer are known to whoever reads it, and are not sent.
 */
import { ImagerError } from '../base/errors.js'
import { fromHex, type Hex, toHex } from '../base/ids.js'
import { type SecretHandle, verifySignature } from '../native.js'

export const RECEIPT_BYTES = 136

const MAGIC = Buffer.from('IMRC')
const DOMAIN = Buffer.from('imager v1 receipt\0')
const SIGNED_BYTES = 72

export interface Receipt {
  /** Identity of the stripe. */
  readonly stripe: Hex
  readonly index: number
  /** Of the shard's file. */
  readonly lengthBytes: number
  /** Id of the store, and its sequence when it held the shard. */
  readonly store: Hex
  readonly sequence: number
}

/** Which shard it is about. */
export interface ReceiptSubject {
  readonly fleet: Hex
  readonly shard: Hex
  readonly root: Hex
}

export function signReceipt(receipt: Receipt, subject: ReceiptSubject, peer: Pick<SecretHandle, 'sign'>): Buffer {
  const bytes = Buffer.alloc(SIGNED_BYTES)
  MAGIC.copy(bytes, 0)
  bytes.writeUInt16LE(1, 4)
  bytes.write(receipt.stripe, 8, 'hex')
  bytes.writeUInt32LE(receipt.lengthBytes, 40)
  bytes.writeUInt8(receipt.index, 44)
  bytes.write(receipt.store, 48, 'hex')
  bytes.writeBigUInt64LE(BigInt(receipt.sequence), 64)
  return Buffer.concat([bytes, peer.sign(messageOf(bytes, subject))])
}

/** Throws CORRUPT, UNSUPPORTED; FORGED where `host` did not sign it for this shard and root. */
export function openReceipt(bytes: Uint8Array, { host, ...subject }: ReceiptSubject & { readonly host: Hex }): Receipt {
  const receipt = readReceipt(bytes)
  const signed = bytes.subarray(0, SIGNED_BYTES)
  if (verifySignature(bytesOf(host, 32), messageOf(signed, subject), bytes.subarray(SIGNED_BYTES))) return receipt
  throw new ImagerError('FORGED', { what: `The receipt of shard ${subject.shard} is not its host's` })
}

/** What it says, whoever signed it. Throws CORRUPT, UNSUPPORTED. */
export function readReceipt(bytes: Uint8Array): Receipt {
  const receipt = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (receipt.length !== RECEIPT_BYTES || !receipt.subarray(0, 4).equals(MAGIC)) {
    throw new ImagerError('CORRUPT', { what: `${receipt.length} bytes that are no receipt` })
  }
  const [version, features] = [receipt.readUInt16LE(4), receipt.readUInt16LE(6)]
  if (version !== 1 || features !== 0) {
    throw new ImagerError('UNSUPPORTED', { what: `A receipt has version ${version}, features ${features}` })
  }
  const sequence = Number(receipt.readBigUInt64LE(64))
  if (receipt.readUIntLE(45, 3) !== 0 || !Number.isSafeInteger(sequence)) {
    throw new ImagerError('CORRUPT', { what: 'A receipt is malformed' })
  }
  return {
    stripe: toHex(receipt.subarray(8, 40)),
    index: receipt.readUInt8(44),
    lengthBytes: receipt.readUInt32LE(40),
    store: toHex(receipt.subarray(48, 64)),
    sequence,
  }
}

/** It names this very shard of this very stripe. */
export function isReceiptOf(said: Receipt, of: Pick<Receipt, 'stripe' | 'index' | 'lengthBytes'>): boolean {
  return said.stripe === of.stripe && said.index === of.index && said.lengthBytes === of.lengthBytes
}

function messageOf(signed: Uint8Array, { fleet, shard, root }: ReceiptSubject): Buffer {
  return Buffer.concat([DOMAIN, bytesOf(fleet, 16), bytesOf(shard, 16), bytesOf(root, 32), signed])
}

function bytesOf(hex: Hex, count: number): Buffer {
  const bytes = fromHex(hex, count)
  if (!bytes) throw new ImagerError('CORRUPT', { what: `An id is not ${count} bytes` })
  return bytes
}
