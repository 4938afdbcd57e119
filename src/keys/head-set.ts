/**
 * The sorted set of heads that a checkpoint speaks of, and its root. An id is 48 bytes: appliance (32), snapshot (16). Ids lie
 * in 256 buckets by the first byte of the snapshot, which is random; so that one more costs one bucket, not the whole set:
 *
 *   bucket hash = BLAKE3 of the bucket's ids, ascending, back to back
 *   root        = BLAKE3("imager v1 heads\0" | number of ids, u64 little-endian | 256 bucket hashes)
 */
import { ImagerError } from '../base/errors.js'
import { type Hex, toHex } from '../base/ids.js'
import { HEADS } from '../base/limits.js'
import { hash } from '../native.js'

export const HEAD_ID_BYTES = 48
const BUCKETS = 256
/** Where the snapshot begins. */
const BUCKET_AT = 32
const DOMAIN = Buffer.from('imager v1 heads\0')
const NOTHING = Buffer.alloc(0)
const EMPTY = hash(NOTHING)

export interface HeadId {
  readonly appliance: Hex
  readonly snapshot: Hex
}

export function encodeHeadId({ appliance, snapshot }: HeadId): Buffer {
  return Buffer.from(appliance + snapshot, 'hex')
}

export function decodeHeadIds(bytes: Uint8Array): HeadId[] {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex')
  const digits = 2 * HEAD_ID_BYTES
  return Array.from({ length: text.length / digits }, (_, at) => {
    const id = text.slice(at * digits, (at + 1) * digits)
    return { appliance: id.slice(0, 2 * BUCKET_AT), snapshot: id.slice(2 * BUCKET_AT) }
  })
}

/** Never changes: what is added makes another one, which shares the buckets that stayed. */
export class HeadSet {
  static readonly empty = new HeadSet(
    Array.from({ length: BUCKETS }, () => NOTHING),
    Array.from({ length: BUCKETS }, () => EMPTY),
  )

  readonly #buckets: readonly Buffer[]
  readonly #hashes: readonly Buffer[]
  readonly size: number
  #root: Hex | undefined

  private constructor(buckets: readonly Buffer[], hashes: readonly Buffer[]) {
    this.#buckets = buckets
    this.#hashes = hashes
    this.size = buckets.reduce((sum, bucket) => sum + bucket.length, 0) / HEAD_ID_BYTES
  }

  get root(): Hex {
    if (this.#root === undefined) {
      const count = Buffer.alloc(8)
      count.writeBigUInt64LE(BigInt(this.size))
      this.#root = toHex(hash(Buffer.concat([DOMAIN, count, ...this.#hashes])))
    }
    return this.#root
  }

  /** With these ids too, in any order, back to back. Throws PROTOCOL for a part of an id, or more than there may be. */
  with(ids: Uint8Array): HeadSet {
    const count = ids.length / HEAD_ID_BYTES
    if (!Number.isInteger(count) || count > HEADS) {
      throw new ImagerError('PROTOCOL', { what: `${ids.length} bytes of head ids` })
    }
    if (count === 0) return this
    const text = Buffer.from(ids.buffer, ids.byteOffset, ids.byteLength)
    const coming = new Map<number, string[]>()
    for (let at = 0; at < text.length; at += HEAD_ID_BYTES) {
      const bucket = text[at + BUCKET_AT] as number
      const id = text.toString('latin1', at, at + HEAD_ID_BYTES)
      const others = coming.get(bucket)
      if (others) others.push(id)
      else coming.set(bucket, [id])
    }
    const [buckets, hashes] = [[...this.#buckets], [...this.#hashes]]
    for (const [bucket, ids] of coming) {
      const merged = new Set([...split(buckets[bucket] as Buffer), ...ids])
      // In Latin-1 the order of the letters is that of the bytes.
      buckets[bucket] = Buffer.from([...merged].sort().join(''), 'latin1')
      hashes[bucket] = hash(buckets[bucket])
    }
    const set = new HeadSet(buckets, hashes)
    if (set.size > HEADS) throw new ImagerError('PROTOCOL', { what: `${set.size} heads; ${HEADS} are the most` })
    return set
  }

  /** Without these ids, of which some may not be in it. Throws PROTOCOL for a part of an id. */
  minus(ids: Uint8Array): HeadSet {
    const gone = HeadSet.empty.with(ids)
    if (gone.size === 0) return this
    const [buckets, hashes] = [[...this.#buckets], [...this.#hashes]]
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      const leaving = new Set(split(gone.#buckets[bucket] as Buffer))
      if (leaving.size === 0) continue
      const staying = split(buckets[bucket] as Buffer).filter((id) => !leaving.has(id))
      buckets[bucket] = Buffer.from(staying.join(''), 'latin1')
      hashes[bucket] = hash(buckets[bucket] as Buffer)
    }
    return new HeadSet(buckets, hashes)
  }

  /** All ids of this one that are in `other` too, back to back. */
  shared(other: HeadSet): Buffer {
    const both: string[] = []
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      const known = new Set(split(other.#buckets[bucket] as Buffer))
      if (known.size > 0) both.push(...split(this.#buckets[bucket] as Buffer).filter((id) => known.has(id)))
    }
    return Buffer.from(both.join(''), 'latin1')
  }

  /** All ids of this one that are not in `other`, back to back. */
  without(other: HeadSet): Buffer {
    const missing: string[] = []
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      if (this.#hashes[bucket]?.equals(other.#hashes[bucket] as Buffer)) continue
      const known = new Set(split(other.#buckets[bucket] as Buffer))
      missing.push(...split(this.#buckets[bucket] as Buffer).filter((id) => !known.has(id)))
    }
    return Buffer.from(missing.join(''), 'latin1')
  }

  /** All ids, back to back. */
  bytes(): Buffer {
    return Buffer.concat(this.#buckets)
  }
}

function split(bucket: Buffer): string[] {
  const text = bucket.toString('latin1')
  return Array.from({ length: text.length / HEAD_ID_BYTES }, (_, at) =>
    text.slice(at * HEAD_ID_BYTES, (at + 1) * HEAD_ID_BYTES),
  )
}
