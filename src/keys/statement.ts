/**
 * A signed statement: the one envelope of everything a host or the root says to others. The signature covers every byte
 * before it and is checked before the body is parsed. Format (integers little-endian; docs/formats/statement.md):
 *
 *   offset   size  field
 *   0        4     magic "IMST"
 *   4        2     version = 1
 *   6        2     feature bits = 0; an unknown bit is refused
 *   8        1     K, length of the kind, 1 to 32
 *   9        K     kind, lower-case ASCII
 *   9+K      32    signer, an Ed25519 public key
 *   41+K     4     B, length of the body
 *   45+K     B     body, UTF-8 JSON
 *   45+K+B   64    Ed25519 signature over "imager v1 statement\0" and all bytes before
 */
import * as v from 'valibot'
import { ImagerError } from '../base/errors.js'
import { type Hex, toHex } from '../base/ids.js'
import { MiB } from '../base/units.js'
import { type SecretHandle, verifySignature } from '../native.js'

/** The largest statement is a membership: about 900 hosts. */
export const STATEMENT_BYTES = MiB

const MAGIC = Buffer.from('IMST')
const VERSION = 1
const DOMAIN = Buffer.from('imager v1 statement\0')
const KIND_OFFSET = 9
const SIGNATURE_BYTES = 64

export interface Statement<T> {
  readonly body: T
  /** Whose signature this is. The caller decides whether that host may say such a thing. */
  readonly signer: Hex
}

/** A host's identity, the root, or the key of a token. */
export type Signer = Pick<SecretHandle, 'sign' | 'signingKey'>

export function signStatement(kind: string, body: object, signer: Signer): Buffer {
  const text = Buffer.from(JSON.stringify(body))
  const head = Buffer.alloc(KIND_OFFSET)
  MAGIC.copy(head, 0)
  head.writeUInt16LE(VERSION, 4)
  head.writeUInt16LE(0, 6)
  head.writeUInt8(kind.length, 8)
  const length = Buffer.alloc(4)
  length.writeUInt32LE(text.length)
  const signed = Buffer.concat([head, Buffer.from(kind, 'ascii'), signer.signingKey(), length, text])
  if (signed.length + SIGNATURE_BYTES > STATEMENT_BYTES) {
    throw new ImagerError('INVALID', { what: `A ${kind} statement of ${signed.length} bytes is too large` })
  }
  return Buffer.concat([signed, signer.sign(Buffer.concat([DOMAIN, signed]))])
}

/** Throws CORRUPT (not a whole statement), UNSUPPORTED (a newer one) or FORGED (another kind, a wrong signature). */
export function openStatement<S extends v.GenericSchema>(
  kind: string,
  schema: S,
  bytes: Uint8Array,
): Statement<v.InferOutput<S>> {
  const parts = split(kind, bytes)
  const message = Buffer.concat([DOMAIN, parts.signed])
  if (!verifySignature(parts.signer, message, parts.signature)) {
    throw new ImagerError('FORGED', { what: `The signature of a ${kind} statement is wrong` })
  }
  const result = v.safeParse(schema, parseJson(kind, parts.text))
  if (!result.success) {
    const issue = result.issues[0]
    const where = v.getDotPath(issue) ?? 'its body'
    throw new ImagerError('CORRUPT', { what: `A ${kind} statement is malformed at ${where}: ${issue.message}` })
  }
  return { body: result.output, signer: toHex(parts.signer) }
}

/** The kind a statement claims, before anything of it is verified; undefined where it is no statement. */
export function statementKind(bytes: Uint8Array): string | undefined {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (buffer.length < KIND_OFFSET || !buffer.subarray(0, 4).equals(MAGIC)) return undefined
  return buffer.toString('ascii', KIND_OFFSET, KIND_OFFSET + buffer.readUInt8(8))
}

function split(kind: string, bytes: Uint8Array) {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const corrupt = (what: string) => new ImagerError('CORRUPT', { what: `A ${kind} statement ${what}` })
  const newer = (what: string) =>
    new ImagerError('UNSUPPORTED', { what: `A ${kind} statement has ${what}, which is unknown here` })
  if (buffer.length > STATEMENT_BYTES) throw corrupt(`of ${buffer.length} bytes is over the cap`)
  if (buffer.length < KIND_OFFSET) throw corrupt(`is cut short at ${buffer.length} bytes`)
  if (!buffer.subarray(0, 4).equals(MAGIC)) throw corrupt('does not begin with IMST')
  const version = buffer.readUInt16LE(4)
  if (version !== VERSION) throw newer(`version ${version}`)
  const features = buffer.readUInt16LE(6)
  if (features !== 0) throw newer(`features 0x${features.toString(16).padStart(4, '0')}`)
  const kindEnd = KIND_OFFSET + buffer.readUInt8(8)
  const bodyStart = kindEnd + 36
  if (buffer.length < bodyStart) throw corrupt(`is cut short at ${buffer.length} bytes`)
  const actual = buffer.toString('latin1', KIND_OFFSET, kindEnd)
  if (actual !== kind) {
    throw new ImagerError('FORGED', { what: `A statement is of kind ${JSON.stringify(actual)}, not ${kind}` })
  }
  const bodyBytes = buffer.readUInt32LE(kindEnd + 32)
  if (buffer.length !== bodyStart + bodyBytes + SIGNATURE_BYTES) {
    throw corrupt(`has ${buffer.length} bytes where its lengths say ${bodyStart + bodyBytes + SIGNATURE_BYTES}`)
  }
  return {
    signer: buffer.subarray(kindEnd, kindEnd + 32),
    text: buffer.subarray(bodyStart, bodyStart + bodyBytes),
    signed: buffer.subarray(0, bodyStart + bodyBytes),
    signature: buffer.subarray(bodyStart + bodyBytes),
  }
}

function parseJson(kind: string, text: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(text))
  } catch (cause) {
    throw new ImagerError('CORRUPT', { what: `A ${kind} statement holds no JSON` }, { cause })
  }
}
