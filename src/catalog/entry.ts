/**
 * A snapshot's row of the catalog as its coordinator leaves it with the witnesses: what a coordinator that was set back cannot
 * know any more and no other host could tell it. Sealed under the catalog key C. Format (docs/formats/checkpoint.md):
 *
 *   offset  size  field
 *   0       4     magic "IMCE"
 *   4       2     version = 1
 *   6       2     feature bits = 0; an unknown bit is refused
 *   8       12    nonce, random
 *   20      n     AES-256-GCM of the row as JSON, deflated
 *   20+n    16    tag, over all before and the id of the head
 *
 *   key = keyed BLAKE3 of "imager v1 catalog entry" and the id of the head under derive(C, "imager v1 catalog entry")
 */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import { deflateRawSync, inflateRawSync } from 'node:zlib'
import * as v from 'valibot'
import { ImagerError } from '../base/errors.js'
import { MiB } from '../base/units.js'
import { Base64, Count, Id, Key, Time } from '../keys/fields.js'
import { encodeHeadId, type HeadId } from '../keys/head-set.js'
import { STATEMENT_BYTES } from '../keys/statement.js'
import type { SecretHandle } from '../native.js'
import type { SnapshotSummary } from './types.js'

const MAGIC = Buffer.from('IMCE')
const CONTEXT = 'imager v1 catalog entry'
const VERSION = 1
const HEADER_BYTES = 20
const TAG_BYTES = 16
/** A list of 2^20 stripes, in base64, and a summary. */
const PLAIN_BYTES = 16 * MiB

const Row = v.strictObject({
  ...{ id: Id, appliance: Key, volume: Id, source: v.string(), label: v.string(), sequence: Count },
  ...{ parent: v.nullable(Id), time: Time, arrived: Time },
  head: Base64(STATEMENT_BYTES),
  /** Names of the runs that `stripes` counts from 1 (docs/formats/names.md). */
  runs: v.array(v.string()),
  stripes: Base64(PLAIN_BYTES),
  /** As the coordinator checked it when it took it. */
  summary: v.custom<SnapshotSummary>((value) => typeof value === 'object' && value !== null),
})
type Row = v.InferOutput<typeof Row>
/** A row of the table `snapshot`, without what follows from others. */
export interface EntryRow extends Omit<Row, 'head' | 'stripes'> {
  readonly head: Buffer
  /** u64 little-endian each, ascending; their runs are those of `runs`. */
  readonly stripes: Buffer
}

export function sealCatalogEntry(row: EntryRow, catalogKey: SecretHandle): Buffer {
  const { head, stripes, ...plain } = row
  const body: Row = { ...plain, head: head.toString('base64'), stripes: stripes.toString('base64') }
  const header = Buffer.alloc(HEADER_BYTES)
  MAGIC.copy(header, 0)
  header.writeUInt16LE(VERSION, 4)
  randomBytes(12).copy(header, 8)
  const id = idOf(row)
  const cipher = createCipheriv('aes-256-gcm', keyOf(id, catalogKey), header.subarray(8))
  cipher.setAAD(Buffer.concat([header, id]))
  const sealed = Buffer.concat([cipher.update(deflateRawSync(JSON.stringify(body))), cipher.final()])
  return Buffer.concat([header, sealed, cipher.getAuthTag()])
}

/** Throws FORGED where it is not this head's under this key; CORRUPT, UNSUPPORTED. */
export function openCatalogEntry(bytes: Buffer, of: HeadId, catalogKey: SecretHandle): EntryRow {
  const corrupt = (what: string, cause?: unknown) =>
    new ImagerError('CORRUPT', { what: `A catalog entry ${what}` }, { cause })
  if (bytes.length < HEADER_BYTES + TAG_BYTES || !bytes.subarray(0, 4).equals(MAGIC)) throw corrupt('is none')
  const [version, features] = [bytes.readUInt16LE(4), bytes.readUInt16LE(6)]
  if (version !== VERSION || features !== 0) {
    throw new ImagerError('UNSUPPORTED', { what: `A catalog entry of version ${version}, features ${features}` })
  }
  const id = encodeHeadId(of)
  const header = bytes.subarray(0, HEADER_BYTES)
  const cipher = createDecipheriv('aes-256-gcm', keyOf(id, catalogKey), header.subarray(8))
  cipher.setAAD(Buffer.concat([header, id]))
  cipher.setAuthTag(bytes.subarray(-TAG_BYTES))
  let plain: Buffer
  try {
    plain = Buffer.concat([cipher.update(bytes.subarray(HEADER_BYTES, -TAG_BYTES)), cipher.final()])
  } catch (cause) {
    throw new ImagerError('FORGED', { what: 'A catalog entry does not open' }, { cause })
  }
  try {
    const row = v.parse(Row, JSON.parse(inflateRawSync(plain, { maxOutputLength: PLAIN_BYTES }).toString()))
    return { ...row, head: Buffer.from(row.head, 'base64'), stripes: Buffer.from(row.stripes, 'base64') }
  } catch (cause) {
    throw corrupt('holds no row', cause)
  }
}

const idOf = ({ appliance, id }: Pick<Row, 'appliance' | 'id'>) => encodeHeadId({ appliance, snapshot: id })

function keyOf(id: Buffer, catalogKey: SecretHandle): Buffer {
  return catalogKey.derive(CONTEXT).tag(Buffer.concat([Buffer.from(CONTEXT), id]))
}
