/**
 * A join token: all that a new host must know to trust the right fleet, in one line that can be pasted. It pins the root
 * and the coordinator; its secret, the seed of an Ed25519 key, is never sent: it signs the admission of one host, and nobody but
 * that host can bring it. An enroller vouched for its public key (admission.ts).
 * Text: `imager1.` + base64url of (integers little-endian; docs/formats/token.md):
 *
 *   offset  size  field
 *   0       16    fleet
 *   16      32    root's signing key
 *   48      32    root's sealing key
 *   80      32    coordinator, a host
 *   112     32    secret, the seed of the token's key
 *   144     8     expires, ms since 1970
 *   152     8     term of the enroller
 *   160     1     role: 1 peer, 2 appliance, 3 admin
 *   161     1     A, length of the address
 *   162     A     coordinator's address, `host:port`
 *   162+A   4     first bytes of BLAKE3 over all before: tells a bad paste from a refused token
 */
import { createPrivateKey, createPublicKey, type KeyObject, sign } from 'node:crypto'
import * as v from 'valibot'
import { ImagerError } from '../base/errors.js'
import { type Hex, toHex } from '../base/ids.js'
import { hash } from '../native.js'
import { Address } from './fields.js'
import type { Signer } from './statement.js'

export interface Token {
  fleet: Hex
  rootKey: Hex
  rootSealing: Hex
  coordinator: { key: Hex; address: string }
  role: JoinRole
  secret: Buffer
  expires: number
  /** In which the enroller vouched for it. */
  term: number
}
export type JoinRole = (typeof ROLES)[number]

const ROLES = ['peer', 'appliance', 'admin'] as const
export function isJoinRole(role: string): role is JoinRole {
  return (ROLES as readonly string[]).includes(role)
}

const PREFIX = 'imager1.'
const ADDRESS_OFFSET = 162
const CHECK_BYTES = 4
const KEY_BYTES = 32
/** RFC 8410: an Ed25519 key, up to its 32 bytes. */
const PKCS8_PREFIX = Buffer.from('302e020100300506032b657004220420', 'hex')

export function encodeToken(token: Token): string {
  const address = Buffer.from(token.coordinator.address)
  const numbers = Buffer.alloc(18)
  numbers.writeBigUInt64LE(BigInt(token.expires), 0)
  numbers.writeBigUInt64LE(BigInt(token.term), 8)
  numbers.writeUInt8(ROLES.indexOf(token.role) + 1, 16)
  numbers.writeUInt8(address.length, 17)
  const keys = [token.fleet, token.rootKey, token.rootSealing, token.coordinator.key].map((hex) =>
    Buffer.from(hex, 'hex'),
  )
  const body = Buffer.concat([...keys, token.secret, numbers, address])
  return PREFIX + Buffer.concat([body, hash(body).subarray(0, CHECK_BYTES)]).toString('base64url')
}

/** Throws WRONG_KEY on anything that `encodeToken` did not make. Does not look at the clock: the coordinator does. */
export function decodeToken(text: string): Token {
  const wrong = (what: string) => new ImagerError('WRONG_KEY', { what })
  const trimmed = text.trim()
  if (!trimmed.startsWith(PREFIX)) throw wrong(`That is no join token: it does not begin with ${PREFIX}`)
  const bytes = Buffer.from(trimmed.slice(PREFIX.length), 'base64url')
  const body = bytes.subarray(0, -CHECK_BYTES)
  const whole = body.length >= ADDRESS_OFFSET && body.length === ADDRESS_OFFSET + body.readUInt8(161)
  if (!whole || !hash(body).subarray(0, CHECK_BYTES).equals(bytes.subarray(-CHECK_BYTES))) {
    throw wrong('The join token is incomplete or has a typing error')
  }
  const role = ROLES[body.readUInt8(160) - 1]
  const address = body.toString('utf8', ADDRESS_OFFSET)
  const [expires, term] = [body.readBigUInt64LE(144), body.readBigUInt64LE(152)]
  const isTooLarge = (number: bigint) => number > BigInt(Number.MAX_SAFE_INTEGER)
  if (!role || isTooLarge(expires) || isTooLarge(term) || !v.is(Address, address)) {
    throw wrong('The join token names a role or an address that is unknown here')
  }
  return {
    fleet: toHex(body.subarray(0, 16)),
    rootKey: toHex(body.subarray(16, 48)),
    rootSealing: toHex(body.subarray(48, 80)),
    coordinator: { key: toHex(body.subarray(80, 112)), address },
    role,
    secret: Buffer.from(body.subarray(112, 144)),
    expires: Number(expires),
    term: Number(term),
  }
}

/** The key of a token: signs the admission of whoever holds it. */
export class TokenKey implements Signer {
  readonly #key: KeyObject

  constructor(secret: Uint8Array) {
    this.#key = createPrivateKey({ key: Buffer.concat([PKCS8_PREFIX, secret]), format: 'der', type: 'pkcs8' })
  }

  signingKey(): Buffer {
    return createPublicKey(this.#key).export({ format: 'der', type: 'spki' }).subarray(-KEY_BYTES)
  }

  sign(message: Uint8Array): Buffer {
    return sign(null, message, this.#key)
  }
}

/** A public name of the token, by which the coordinator finds it. */
export function tokenId(key: Uint8Array): Hex {
  return toHex(hash(Buffer.concat([Buffer.from('imager v1 token\0'), key])).subarray(0, 16))
}
