/**
 * The self-signed X.509 certificate that TLS wants around a host's Ed25519 key. Nobody believes anything in it but the
 * key, which the other side pins; so it is minimal, the same each time it is made, and does not expire.
 * RFC 5280 (structure, 99991231235959Z), RFC 8410 (Ed25519), written as DER by hand: six fields.
 */
import { X509Certificate } from 'node:crypto'
import { ImagerError } from '../base/errors.js'
import { type Hex, toHex } from '../base/ids.js'
import type { SecretHandle } from '../native.js'

export interface TlsIdentity {
  readonly host: Hex
  /** PEM. */
  readonly key: string
  readonly cert: string
}

const SEQUENCE = 0x30
const SET = 0x31
const ED25519 = der(SEQUENCE, Buffer.from('06032b6570', 'hex'))
const COMMON_NAME = Buffer.from('0603550403', 'hex')
/** SubjectPublicKeyInfo of an Ed25519 key, up to its 32 bytes. */
const SPKI_PREFIX = Buffer.from('302a300506032b6570032100', 'hex')

export function tlsIdentity(secret: SecretHandle): TlsIdentity {
  const publicKey = secret.signingKey()
  const host = toHex(publicKey)
  const name = der(SEQUENCE, der(SET, der(SEQUENCE, COMMON_NAME, der(0x0c, Buffer.from(host)))))
  const serial = Buffer.concat([Buffer.from([0x01]), publicKey.subarray(0, 15)])
  const validity = der(SEQUENCE, der(0x17, Buffer.from('200101000000Z')), der(0x18, Buffer.from('99991231235959Z')))
  const spki = Buffer.concat([SPKI_PREFIX, publicKey])
  const body = der(SEQUENCE, der(0x02, serial), ED25519, name, validity, name, spki)
  const signature = der(0x03, Buffer.from([0]), secret.sign(body))
  return {
    host,
    key: pem('PRIVATE KEY', secret.tlsKey()),
    cert: pem('CERTIFICATE', der(SEQUENCE, body, ED25519, signature)),
  }
}

/** The host behind a certificate (DER): its Ed25519 key. TLS has proved that the other side holds it. */
export function certificateHost(certificate: Uint8Array): Hex {
  const spki = new X509Certificate(certificate).publicKey.export({ format: 'der', type: 'spki' })
  const prefix = spki.subarray(0, SPKI_PREFIX.length)
  if (!prefix.equals(SPKI_PREFIX)) throw new ImagerError('FORGED', { what: 'A certificate holds no Ed25519 key' })
  return toHex(spki.subarray(SPKI_PREFIX.length))
}

function der(tag: number, ...content: Buffer[]): Buffer {
  const body = Buffer.concat(content)
  const length = body.length < 0x80 ? [body.length] : [0x82, body.length >> 8, body.length & 0xff]
  if (body.length >= 0x80 && body.length < 0x100) length.splice(0, 2, 0x81)
  return Buffer.concat([Buffer.from([tag, ...length]), body])
}

function pem(label: string, bytes: Buffer): string {
  const lines = bytes.toString('base64').match(/.{1,64}/g) ?? []
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`
}
