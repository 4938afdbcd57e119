/**
 * A join token: all that a new host must know to trust the right fleet, in one line that can be pasted. It pins the root
 * and the coordinator; its secret is never sent, only a proof bound to the TLS session, so a relay gains nothing.
 * Text: `imager1.` + base64url of (integers little-endian; docs/formats/token.md):
 *
 *   offset  size  field
 *   0       16    fleet
 *   16      32    root's signing key
 *   48      32    root's sealing key
 *   80      32    coordinator, a host
 *   112     32    secret
 *   144     8     expires, ms since 1970
 *   152     1     role: 1 peer, 2 appliance, 3 admin
 *   153     1     A, length of the address
 *   154     A     coordinator's address, `host:port`
 *   154+A   4     first bytes of BLAKE3 over all before: tells a bad paste from a refused token
 */
import { createHmac, timingSafeEqual } from 'node:crypto'
import * as v from 'valibot'
import { ImagerError } from '../base/errors.js'
import { type Hex, toHex } from '../base/ids.js'
import { hash } from '../native.js'
import { Address } from './fields.js'

export interface Token {
  fleet: Hex
  rootKey: Hex
  rootSealing: Hex
  coordinator: { key: Hex; address: string }
  role: JoinRole
  secret: Buffer
  expires: number
}
export type JoinRole = (typeof ROLES)[number]

const ROLES = ['peer', 'appliance', 'admin'] as const
const PREFIX = 'imager1.'
const ADDRESS_OFFSET = 154
const CHECK_BYTES = 4

export function encodeToken(token: Token): string {
  const address = Buffer.from(token.coordinator.address)
  const numbers = Buffer.alloc(10)
  numbers.writeBigUInt64LE(BigInt(token.expires), 0)
  numbers.writeUInt8(ROLES.indexOf(token.role) + 1, 8)
  numbers.writeUInt8(address.length, 9)
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
  const whole = body.length >= ADDRESS_OFFSET && body.length === ADDRESS_OFFSET + body.readUInt8(153)
  if (!whole || !hash(body).subarray(0, CHECK_BYTES).equals(bytes.subarray(-CHECK_BYTES))) {
    throw wrong('The join token is incomplete or has a typing error')
  }
  const role = ROLES[body.readUInt8(152) - 1]
  const address = body.toString('utf8', ADDRESS_OFFSET)
  const expires = body.readBigUInt64LE(144)
  if (!role || expires > BigInt(Number.MAX_SAFE_INTEGER) || !v.is(Address, address)) {
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
  }
}

/** A public name of the token, by which the coordinator finds it: says nothing about the secret. */
export function tokenId(secret: Uint8Array): Hex {
  return toHex(hash(Buffer.concat([Buffer.from('imager v1 token\0'), secret])).subarray(0, 16))
}

/** HMAC-SHA-256 keyed by the token's secret, over the TLS exporter (32 bytes) and the joining host's key. */
export function joinProof(secret: Uint8Array, exporter: Uint8Array, host: Hex): Buffer {
  return createHmac('sha256', secret)
    .update('imager v1 join\0')
    .update(exporter)
    .update(Buffer.from(host, 'hex'))
    .digest()
}

export function checkJoinProof(proof: Uint8Array, secret: Uint8Array, exporter: Uint8Array, host: Hex): boolean {
  const expected = joinProof(secret, exporter, host)
  return proof.length === expected.length && timingSafeEqual(proof, expected)
}
