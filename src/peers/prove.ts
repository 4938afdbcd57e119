/**
 * `POST /v1/prove`: a peer shows that it has bytes of its shards without sending them. Whoever may fetch a range may ask; he draws a
 * nonce, and is answered a digest of each range keyed by it, so an answer is of no use a second time.
 *
 * Invariants: little is asked and much is read, so ranges and bytes of a call are counted before anything is read, one caller reads
 * so much in a second and no more, and all callers together read two calls at a time. A shard that is not there, a range that is not,
 * and a disk that does not give it are the answer for that range; the others are answered.
 */
import * as v from 'valibot'
import { type Sleep, TokenBucket } from '../base/bucket.js'
import type { Clock } from '../base/clock.js'
import { ImagerError } from '../base/errors.js'
import { fromHex, type Hex, toHex } from '../base/ids.js'
import {
  PROVE_BYTES,
  PROVE_BYTES_PER_SECOND,
  PROVE_RANGES,
  PROVE_SEEK_BYTES,
  PROVES_AT_ONCE,
  PROVES_PER_HOST,
  SHARD_FILE_BYTES,
} from '../base/limits.js'
import { Slots } from '../base/queue.js'
import { KiB } from '../base/units.js'
import { Key } from '../keys/fields.js'
import { proveRanges } from '../native.js'
import { decodeMessage, encodeMessage } from '../wire/message.js'
import type { ShardStore } from './store.js'

/** A row of a question: shard 16, start u32, end u32, LE. */
const RANGE_BYTES = 24
/** A row of an answer: what u8, digest 32. */
const ANSWER_BYTES = 33
export const PROVE_MESSAGE_BYTES = PROVE_RANGES * RANGE_BYTES + 4 * KiB
export const PROVE_ANSWER_BYTES = PROVE_RANGES * ANSWER_BYTES + 4 * KiB

const Question = v.strictObject({ nonce: Key })

/** Bytes of a shard's file; end exclusive. */
export interface ProveRange {
  readonly shard: Hex
  readonly start: number
  readonly end: number
}

const REFUSALS = ['no such shard', 'no such range', 'not readable'] as const
/** The digest, or why there is none. */
export type Proof = Buffer | (typeof REFUSALS)[number]

/** `nonce`: 32 bytes, drawn for this question. */
export function encodeProve(nonce: Uint8Array, ranges: readonly ProveRange[]): Buffer {
  const rows = Buffer.alloc(ranges.length * RANGE_BYTES)
  for (const [nth, { shard, start, end }] of ranges.entries()) {
    rows.write(shard, nth * RANGE_BYTES, 'hex')
    rows.writeUInt32LE(start, nth * RANGE_BYTES + 16)
    rows.writeUInt32LE(end, nth * RANGE_BYTES + 20)
  }
  return encodeMessage({ nonce: toHex(nonce) }, rows)
}

/** Undefined where it is no answer to so many ranges. */
export function decodeProofs(bytes: Uint8Array, count: number): Proof[] | undefined {
  const rows = Buffer.from(decodeMessage(v.strictObject({}), bytes).attachment)
  if (rows.length !== count * ANSWER_BYTES) return undefined
  const proofs = Array.from({ length: count }, (_, nth): Proof | undefined => {
    const what = rows[nth * ANSWER_BYTES] as number
    if (what > 0) return REFUSALS[what - 1]
    return rows.subarray(nth * ANSWER_BYTES + 1, (nth + 1) * ANSWER_BYTES)
  })
  return proofs.includes(undefined) ? undefined : (proofs as Proof[])
}

interface Asked {
  readonly nonce: Buffer
  readonly rows: Buffer
  /** What reading it costs the disk, in bytes. */
  readonly costBytes: number
}

/** Throws PROTOCOL for what is no question, or one that asks for too much. */
function decodeProve(bytes: Uint8Array): Asked {
  const { body, attachment } = decodeMessage(Question, bytes)
  const rows = Buffer.from(attachment)
  const count = rows.length / RANGE_BYTES
  if (!Number.isInteger(count) || count === 0) throw refused(`${rows.length} bytes of ranges`)
  if (count > PROVE_RANGES) throw refused(`${count} ranges, ${PROVE_RANGES} at most`)
  let total = 0
  for (let at = 0; at < rows.length; at += RANGE_BYTES) {
    const [start, end] = [rows.readUInt32LE(at + 16), rows.readUInt32LE(at + 20)]
    if (start >= end || end > SHARD_FILE_BYTES) throw refused(`a range from ${start} to ${end}`)
    total += end - start
  }
  if (total > PROVE_BYTES) throw refused(`ranges of ${total} bytes, ${PROVE_BYTES} at most`)
  return { nonce: fromHex(body.nonce, 32) as Buffer, rows, costBytes: total + count * PROVE_SEEK_BYTES }
}

function refused(what: string): ImagerError {
  return new ImagerError('PROTOCOL', { what: `a proof of ${what}` })
}

interface Caller {
  readonly bucket: TokenBucket
  asking: number
}

export interface ProverParts {
  readonly store: ShardStore
  readonly clock: Clock
  readonly sleep: Sleep
}

/** What a peer answers such questions with. */
export class Prover {
  readonly #parts: ProverParts
  readonly #reading = new Slots(PROVES_AT_ONCE)
  /** Members only: as many as the fleet has readers. */
  readonly #callers = new Map<Hex, Caller>()

  constructor(parts: ProverParts) {
    this.#parts = parts
  }

  /** Throws PROTOCOL, HOST_REFUSED. */
  async answer(host: Hex, question: Uint8Array): Promise<Buffer> {
    const { nonce, rows, costBytes } = decodeProve(question)
    const { store } = this.#parts
    const caller = this.#caller(host)
    if (caller.asking >= PROVES_PER_HOST) {
      const why = `it asks for more than ${PROVES_PER_HOST} proofs at once`
      throw new ImagerError('HOST_REFUSED', { host: store.name, why })
    }
    caller.asking++
    try {
      await caller.bucket.take(costBytes)
      const answers = await this.#reading.run(() => proveRanges(store.shards, nonce, rows))
      return encodeMessage({}, answers)
    } finally {
      caller.asking--
    }
  }

  #caller(host: Hex): Caller {
    const { clock, sleep } = this.#parts
    const known = this.#callers.get(host) ?? {
      bucket: new TokenBucket(PROVE_BYTES_PER_SECOND, clock, sleep),
      asking: 0,
    }
    this.#callers.set(host, known)
    return known
  }
}
