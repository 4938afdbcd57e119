/**
 * The head of a snapshot: where its manifest's root lies and the root's key, sealed under the appliance's manifest key.
 * Signed by the appliance and kept whole on the peers, so a snapshot outlives the coordinator (docs/formats/head.md).
 */
import * as v from 'valibot'
import { ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import { SHARD_BYTES } from '../base/limits.js'
import type { SecretHandle } from '../native.js'
import { Base64, Count, Id, Key, Run, StripeNumber, Time } from './fields.js'
import { openStatement, signStatement } from './statement.js'

/** Widest stripe there is (docs/formats/stripe.md). */
const WIDTH = 32
const Width = v.pipe(Count, v.maxValue(WIDTH))
const HeadShard = v.strictObject({ index: v.pipe(Count, v.maxValue(WIDTH - 1)), host: Key })
const HeadBody = v.strictObject({
  fleet: Id,
  appliance: Key,
  volume: Id,
  sequence: v.pipe(Count, v.minValue(1)),
  snapshot: Id,
  parent: v.nullable(Id),
  time: Time,
  root: v.strictObject({
    /** The root page's block key, sealed under the manifest key. */
    key: Base64(512),
    /** The stripe that holds it, which it was first stored in, and its place among that one's records. */
    writer: Key,
    run: Run,
    number: StripeNumber,
    ordinal: v.pipe(Count, v.maxValue(65_535)),
    k: v.pipe(Width, v.minValue(1)),
    m: Width,
    packBytes: v.pipe(Count, v.maxValue(WIDTH * SHARD_BYTES)),
    /** Of the root page's record in the pack. */
    offset: Count,
    length: Count,
    shards: v.pipe(v.array(HeadShard), v.minLength(1), v.maxLength(WIDTH)),
  }),
  /** BLAKE3 of the snapshot's reference bitmap. */
  references: Key,
})
export type Head = v.InferOutput<typeof HeadBody>

/** What a peer keeps it under: its appliance and its snapshot, so that nobody else's comes under that name. */
export function headName({ appliance, snapshot }: Pick<Head, 'appliance' | 'snapshot'>): string {
  return appliance + snapshot
}

export function signHead(head: Head, appliance: SecretHandle): Buffer {
  return signStatement('head', head, appliance)
}

/** Throws FORGED where the appliance it names did not sign it, CORRUPT where its figures cannot be. */
export function openHead(bytes: Uint8Array, fleet: Hex): Head {
  const { body, signer } = openStatement('head', HeadBody, bytes)
  if (body.fleet !== fleet) throw new ImagerError('FORGED', { what: 'A head belongs to another fleet' })
  if (signer !== body.appliance) throw new ImagerError('FORGED', { what: 'A head is not signed by its appliance' })
  const { k, m, packBytes, offset, length, shards } = body.root
  const impossible = (what: string) => new ImagerError('CORRUPT', { what: `A head is impossible: ${what}` })
  if (k + m > WIDTH) throw impossible(`${k}+${m} is too wide`)
  if (offset + length > packBytes) throw impossible('its root lies outside its pack')
  if (shards.some((shard) => shard.index >= k + m)) throw impossible('it names a shard outside its stripe')
  if (new Set(shards.map((shard) => shard.index)).size !== shards.length) throw impossible('it names a shard twice')
  return body
}
