/**
 * File rows lately used. One row is asked for with every read of its file, and decoding a row of a fragmented file is
 * work. Bounded by what the rows hold, not by their number; rows being fetched are shared, failures are forgotten.
 */
import type { FileRow, SnapshotReader } from '../retrieve/reader.js'

/** Weight of all rows kept, in units of `BYTES_PER_WEIGHT`: about 24 MiB. */
const WEIGHT = 240_000
/** An extent is near 100 bytes. */
const BYTES_PER_WEIGHT = 100
/** Of a row with its times, its stream and what keeps it: 2.7 KB in the mount's heap. */
const ROW_WEIGHT = 24
/** A fetch that takes longer is not joined but begun again: one that hangs must not hang the file for good. */
const JOIN_MS = 15_000

interface Held {
  readonly row: Promise<FileRow | undefined>
  weight: number
  /** On the monotonic clock; undefined once the row came. */
  asked: number | undefined
}

export class Rows {
  readonly #reader: Pick<SnapshotReader, 'file'>
  readonly #now: () => number
  readonly #held = new Map<string, Held>()
  #weight = 0

  constructor(reader: Pick<SnapshotReader, 'file'>, now: () => number = () => performance.now()) {
    this.#reader = reader
    this.#now = now
  }

  get(volume: number, number: number): Promise<FileRow | undefined> {
    const key = `${volume}/${number}`
    const known = this.#held.get(key)
    if (known && (known.asked === undefined || this.#now() - known.asked < JOIN_MS)) {
      this.#held.delete(key)
      this.#held.set(key, known)
      return known.row
    }
    if (known) this.#forget(key, known)
    const held: Held = { row: this.#reader.file(volume, number), weight: 1, asked: this.#now() }
    this.#held.set(key, held)
    this.#weight += held.weight
    held.row.then(
      (row) => this.#weigh(key, held, row ? weigh(row) : 1),
      () => this.#forget(key, held),
    )
    return held.row
  }

  #weigh(key: string, held: Held, weight: number): void {
    held.asked = undefined
    if (this.#held.get(key) !== held) return
    this.#weight += weight - held.weight
    held.weight = weight
    for (const [oldest, row] of this.#held) {
      if (this.#weight <= WEIGHT) break
      this.#forget(oldest, row)
    }
  }

  #forget(key: string, held: Held): void {
    if (this.#held.get(key) !== held) return
    this.#held.delete(key)
    this.#weight -= held.weight
  }
}

function weigh(row: FileRow): number {
  let weight = ROW_WEIGHT
  for (const { name, value } of row.xattrs) weight += 2 + (name.length + value.length) / BYTES_PER_WEIGHT
  for (const { resident, extents } of row.streams) {
    weight += 2 + extents.length + (resident?.length ?? 0) / BYTES_PER_WEIGHT
  }
  return weight
}
