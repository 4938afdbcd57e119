/**
 * The head of a snapshot: that it is there, and, sealed, where its manifest's root lies and of which disk it is. Signed by the
 * appliance and kept whole on the peers, so a snapshot outlives the coordinator (docs/formats/head.md). Who keeps it learns whose it
 * is and which bitmap belongs to it; the rest opens for the appliance, the coordinator and a recovery.
 */
import * as v from 'valibot'
import { hasCode, ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import { SHARD_BYTES } from '../base/limits.js'
import { KiB } from '../base/units.js'
import type { SecretHandle } from '../native.js'
import { Base64, Count, Id, Key, Run, StripeNumber, Time } from './fields.js'
import { openStatement, signStatement } from './statement.js'

/** Widest stripe there is (docs/formats/stripe.md). */
const WIDTH = 32
/** 32 shards are some 3 KiB; it grows by what a record adds. */
const SEALED_BYTES = 16 * KiB
const Width = v.pipe(Count, v.maxValue(WIDTH))
const HeadShard = v.strictObject({ index: v.pipe(Count, v.maxValue(WIDTH - 1)), host: Key })
/** What everybody may read. */
const ClearBody = v.strictObject({
  fleet: Id,
  appliance: Key,
  snapshot: Id,
  /** BLAKE3 of the snapshot's reference bitmap. */
  references: Key,
  /** A record that holds `SealedBody`. */
  sealed: Base64(SEALED_BYTES),
})
const SealedBody = v.strictObject({
  volume: Id,
  sequence: v.pipe(Count, v.minValue(1)),
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
})
type Clear = v.InferOutput<typeof ClearBody>
export type SignedHead = Omit<Clear, 'sealed'>
export type Head = SignedHead & v.InferOutput<typeof SealedBody>
/** What C_a of an appliance may be; none where this host holds none. */
export type TrailerKeysOf = (appliance: Hex) => readonly SecretHandle[]

/** What a peer keeps it under: its appliance and its snapshot, so that nobody else's comes under that name. */
export function headName({ appliance, snapshot }: Pick<SignedHead, 'appliance' | 'snapshot'>): string {
  return appliance + snapshot
}

/** `trailerKey`: C_a. */
export function signHead(head: Head, appliance: SecretHandle, trailerKey: SecretHandle): Buffer {
  const { fleet, appliance: signer, snapshot, references, ...rest } = head
  const sealed = sealingKey(trailerKey).sealRecord(aboutOf(snapshot), Buffer.from(JSON.stringify(rest)))
  const body: Clear = { fleet, appliance: signer, snapshot, references, sealed: sealed.toString('base64') }
  return signStatement('head', body, appliance)
}

/** What it says to everybody. Throws FORGED where the appliance it names did not sign it, CORRUPT. */
export function readHead(bytes: Uint8Array, fleet: Hex): SignedHead {
  const { sealed: _, ...clear } = readClear(bytes, fleet)
  return clear
}

/**
 * All that it says. Throws NOT_ALLOWED without the key of its appliance, FORGED where the appliance it names did not sign it, or
 * sealed it under another key or for another snapshot; CORRUPT where its figures cannot be.
 */
export function openHead(bytes: Uint8Array, fleet: Hex, trailerKeysOf: TrailerKeysOf): Head {
  const { sealed, ...clear } = readClear(bytes, fleet)
  const plain = openInside(Buffer.from(sealed, 'base64'), clear.snapshot, trailerKeysOf(clear.appliance))
  const result = v.safeParse(SealedBody, parseJson(plain))
  if (!result.success) {
    const issue = result.issues[0]
    throw impossible(`${v.getDotPath(issue) ?? 'its sealed part'}: ${issue.message}`)
  }
  requirePossible(result.output.root)
  return { ...clear, ...result.output }
}

/** With the first key that opens it. */
function openInside(sealed: Buffer, snapshot: Hex, trailerKeys: readonly SecretHandle[]): Buffer {
  for (const [at, key] of trailerKeys.entries()) {
    try {
      return sealingKey(key).openRecord(aboutOf(snapshot), sealed, SEALED_BYTES)
    } catch (error) {
      if (!hasCode(error, 'FORGED') || at === trailerKeys.length - 1) throw error
    }
  }
  throw new ImagerError('NOT_ALLOWED', { what: 'This host may not open that head', role: 'coordinator' })
}

function readClear(bytes: Uint8Array, fleet: Hex): Clear {
  const { body, signer } = openStatement('head', ClearBody, bytes)
  if (body.fleet !== fleet) throw new ImagerError('FORGED', { what: 'A head belongs to another fleet' })
  if (signer !== body.appliance) throw new ImagerError('FORGED', { what: 'A head is not signed by its appliance' })
  return body
}

function requirePossible({ k, m, packBytes, offset, length, shards }: Head['root']): void {
  if (k + m > WIDTH) throw impossible(`${k}+${m} is too wide`)
  if (offset + length > packBytes) throw impossible('its root lies outside its pack')
  if (shards.some((shard) => shard.index >= k + m)) throw impossible('it names a shard outside its stripe')
  if (new Set(shards.map((shard) => shard.index)).size !== shards.length) throw impossible('it names a shard twice')
}

/** The coordinator and the words have it of every appliance, an appliance its own; no peer has any. */
function sealingKey(trailerKey: SecretHandle): SecretHandle {
  return trailerKey.derive('imager v1 head')
}

function aboutOf(snapshot: Hex): Buffer {
  return Buffer.concat([Buffer.from(snapshot, 'hex'), Buffer.alloc(16)])
}

function parseJson(plain: Buffer): unknown {
  try {
    return JSON.parse(plain.toString())
  } catch {
    throw impossible('its sealed part is no JSON')
  }
}

function impossible(what: string): ImagerError {
  return new ImagerError('CORRUPT', { what: `A head is impossible: ${what}` })
}
