/**
 * What a store holds, in 256 buckets by the first byte of the shards' ids: of each how many, and all their ids folded into eight bytes. Two
 * that hold the same have the same; of two that differ only the buckets that differ need to be listed. A shard that comes or goes
 * changes one bucket, in no time. It finds what was lost, and is no proof against a host that lies: it knows the ids.
 *
 *   for each bucket: count u32 | exclusive or of bytes 8 to 16 of the ids, 8 bytes; little-endian
 */
import { ImagerError } from '../base/errors.js'
import { type Hex, toHex } from '../base/ids.js'
import { hash } from '../native.js'

export const BUCKETS = 256
const BUCKET_BYTES = 12
export const BUCKETS_BYTES = BUCKETS * BUCKET_BYTES
const ROOT_BYTES = 16

export class Buckets {
  /** Three words a bucket. */
  readonly #words = new Uint32Array(BUCKETS * 3)
  #root: Hex | undefined

  /** Throws PROTOCOL. */
  static decode(bytes: Uint8Array): Buckets {
    if (bytes.length !== BUCKETS_BYTES) throw new ImagerError('PROTOCOL', { what: `${bytes.length} bytes of buckets` })
    const buckets = new Buckets()
    const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    for (let word = 0; word < BUCKETS * 3; word++) buckets.#words[word] = view.readUInt32LE(word * 4)
    return buckets
  }

  encode(): Buffer {
    const bytes = Buffer.alloc(BUCKETS_BYTES)
    for (const [word, value] of this.#words.entries()) bytes.writeUInt32LE(value, word * 4)
    return bytes
  }

  /** A shard that was not there has come, or one that was has gone. `id`: 16 bytes. */
  change(id: Uint8Array, by: 1 | -1): void {
    const view = Buffer.from(id.buffer, id.byteOffset, id.byteLength)
    this.#change(view[0] as number, by, view.readUInt32LE(8), view.readUInt32LE(12))
  }

  clear(bucket: number): void {
    this.#words.fill(0, bucket * 3, bucket * 3 + 3)
    this.#root = undefined
  }

  count(bucket: number): number {
    return this.#words[bucket * 3] as number
  }

  /** Of both, where none is in both. */
  plus(other: Buckets): Buckets {
    const sum = new Buckets()
    for (const one of [this, other]) {
      const words = one.#words
      for (let bucket = 0; bucket < BUCKETS; bucket++) {
        const at = bucket * 3
        sum.#change(bucket, words[at] as number, words[at + 1] as number, words[at + 2] as number)
      }
    }
    return sum
  }

  differing(other: Buckets): number[] {
    const isSame = (bucket: number) =>
      [0, 1, 2].every((word) => this.#words[bucket * 3 + word] === other.#words[bucket * 3 + word])
    return Array.from({ length: BUCKETS }, (_, bucket) => bucket).filter((bucket) => !isSame(bucket))
  }

  /** The same for the same content. */
  get root(): Hex {
    this.#root ??= toHex(hash(this.encode())).slice(0, ROOT_BYTES * 2)
    return this.#root
  }

  #change(bucket: number, count: number, low: number, high: number): void {
    const at = bucket * 3
    this.#words[at] = (this.#words[at] as number) + count
    this.#words[at + 1] = ((this.#words[at + 1] as number) ^ low) >>> 0
    this.#words[at + 2] = ((this.#words[at + 2] as number) ^ high) >>> 0
    this.#root = undefined
  }
}
