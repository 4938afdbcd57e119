/**
 * A message: JSON for what is small and named, one attachment for what is large. The body of every request and answer that
 * is not a shard or a statement. Format (integers little-endian; docs/formats/message.md):
 *
 *   offset  size  field
 *   0       4     magic "IMMS"
 *   4       2     version = 1
 *   6       2     feature bits = 0; an unknown bit is refused
 *   8       4     J, length of the JSON
 *   12      J     UTF-8 JSON, padded with spaces so that the attachment begins at a multiple of 8
 *   12+J    rest  attachment
 */
import * as v from 'valibot'
import { ImagerError } from '../base/errors.js'
import { MESSAGE_BYTES } from '../base/limits.js'

const MAGIC = Buffer.from('IMMS')
const VERSION = 1
const HEADER_BYTES = 12
const NOTHING = new Uint8Array()

export interface Message<T> {
  readonly body: T
  /** A view into the message; empty where there is none. */
  readonly attachment: Buffer
}

export function encodeMessage(body: unknown, attachment: Uint8Array = NOTHING): Buffer {
  const text = Buffer.from(JSON.stringify(body))
  const start = Math.ceil((HEADER_BYTES + text.length) / 8) * 8
  const bytes = Buffer.allocUnsafe(start + attachment.length)
  MAGIC.copy(bytes, 0)
  bytes.writeUInt16LE(VERSION, 4)
  bytes.writeUInt16LE(0, 6)
  bytes.writeUInt32LE(start - HEADER_BYTES, 8)
  text.copy(bytes, HEADER_BYTES)
  bytes.fill(0x20, HEADER_BYTES + text.length, start)
  bytes.set(attachment, start)
  return bytes
}

/** Throws PROTOCOL where it is not a whole message of that shape, UNSUPPORTED where it is a newer one. */
export function decodeMessage<S extends v.GenericSchema>(schema: S, bytes: Uint8Array): Message<v.InferOutput<S>> {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (buffer.length < HEADER_BYTES) throw bad(`it is cut short at ${buffer.length} bytes`)
  if (!buffer.subarray(0, 4).equals(MAGIC)) throw bad('it does not begin with IMMS')
  const version = buffer.readUInt16LE(4)
  if (version !== VERSION) throw newer(`version ${version}`)
  const features = buffer.readUInt16LE(6)
  if (features !== 0) throw newer(`features 0x${features.toString(16).padStart(4, '0')}`)
  const jsonBytes = buffer.readUInt32LE(8)
  if (jsonBytes > MESSAGE_BYTES) throw bad(`its JSON of ${jsonBytes} bytes is over the cap`)
  const start = HEADER_BYTES + jsonBytes
  if (start % 8 !== 0) throw bad(`its attachment begins at ${start}, no multiple of 8`)
  if (start > buffer.length) throw bad(`it has ${buffer.length} bytes where its length says ${start} or more`)
  const result = v.safeParse(schema, parseJson(buffer.subarray(HEADER_BYTES, start)))
  if (!result.success) {
    const issue = result.issues[0]
    throw bad(`malformed at ${v.getDotPath(issue) ?? 'its body'}: ${issue.message}`)
  }
  return { body: result.output, attachment: buffer.subarray(start) }
}

function parseJson(text: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(text))
  } catch (cause) {
    throw bad('it holds no JSON', cause)
  }
}

function bad(what: string, cause?: unknown): ImagerError {
  return new ImagerError('PROTOCOL', { what }, { cause })
}

function newer(what: string): ImagerError {
  return new ImagerError('UNSUPPORTED', { what: `A message has ${what}, which is unknown here` })
}
