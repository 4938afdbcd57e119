/**
 * The reference bitmap of a snapshot as peers keep it beside its head: whole (docs/formats/references.md), or as what changed
 * since an earlier one. Here both are only bytes: what they name is read elsewhere, and whether they are right is said by the
 * hash in the signed head.
 *
 *   offset  size  field
 *   0       4     magic "IMRD"
 *   4       2     version u16 = 1
 *   6       2     features u16 = 0
 *   8       16    the snapshot on whose bitmap this builds; of the same appliance
 *   24      4     length of the whole bitmap, u32
 *   28      ..    until that length is reached: count of new bytes, LEB128 | those bytes |
 *                 start in the other bitmap, LEB128 | count of bytes to take from there, LEB128
 */
import { ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import { BITMAP_BYTES, BITMAP_CHAIN } from '../base/limits.js'
import { encodeVarint, readVarint } from '../base/varint.js'

const WHOLE = 'IMRF'
const DELTA = 'IMRD'
const VERSION = 1
const HEADER_BYTES = 28
/** Less in common is not looked for: a step takes up to ten bytes. */
const WINDOW = 24
/** Of the rolling hash; odd. */
const FACTOR = 0x01000193

/** The snapshot on which it builds; undefined where it is whole. Throws CORRUPT, UNSUPPORTED. */
export function parentOf(bytes: Buffer): Hex | undefined {
  const magic = bytes.toString('latin1', 0, 4)
  if (magic === WHOLE) return undefined
  if (magic !== DELTA || bytes.length < HEADER_BYTES) throw corrupt('it is neither whole nor a difference')
  const [version, features] = [bytes.readUInt16LE(4), bytes.readUInt16LE(6)]
  if (version !== VERSION || features !== 0) {
    throw new ImagerError('UNSUPPORTED', { what: `Bitmap difference version ${version}, features ${features}` })
  }
  return bytes.toString('hex', 8, 24)
}

/** What makes `after` of `before`, which is the bitmap of `parent`. */
export function encodeDelta(parent: Hex, before: Buffer, after: Buffer): Buffer {
  const header = Buffer.alloc(HEADER_BYTES)
  header.write(DELTA, 0, 'latin1')
  header.writeUInt16LE(VERSION, 4)
  header.write(parent, 8, 'hex')
  header.writeUInt32LE(after.length, 24)
  const steps: Uint8Array[] = [header]
  let written = 0
  for (const { at, from, length } of commonRuns(before, after)) {
    steps.push(encodeVarint(at - written), after.subarray(written, at), encodeVarint(from), encodeVarint(length))
    written = at + length
  }
  if (written < after.length) {
    steps.push(encodeVarint(after.length - written), after.subarray(written), encodeVarint(0), encodeVarint(0))
  }
  return Buffer.concat(steps)
}

/** Throws CORRUPT where the difference does not fit `before`; UNSUPPORTED. Whether the result is right its hash says. */
export function applyDelta(bytes: Buffer, before: Buffer): Buffer {
  if (parentOf(bytes) === undefined) throw corrupt('a whole one is no difference')
  const length = bytes.readUInt32LE(24)
  if (length > BITMAP_BYTES) throw corrupt(`${length} bytes are more than a bitmap has`)
  const after = Buffer.alloc(length)
  let [at, written] = [HEADER_BYTES, 0]
  const take = (source: Buffer, from: number, count: number) => {
    if (count > source.length - from || count > length - written)
      throw corrupt(`${count} bytes at ${from} are not there`)
    source.copy(after, written, from, from + count)
    written += count
  }
  while (written < length) {
    const fresh = readVarint(bytes, at, corrupt)
    take(bytes, fresh.end, fresh.value)
    const from = readVarint(bytes, fresh.end + fresh.value, corrupt)
    const copied = readVarint(bytes, from.end, corrupt)
    take(before, from.value, copied.value)
    if (fresh.value + copied.value === 0) throw corrupt('a step of nothing')
    at = copied.end
  }
  if (at !== bytes.length) throw corrupt('bytes behind its end')
  return after
}

export interface Expanded {
  readonly whole: Buffer
  /** Differences that had to be applied. */
  readonly depth: number
}

/**
 * The whole bitmap. `documentOf` gives what is kept of another snapshot of the same appliance; one at a time is in memory. Throws
 * WHOLE_NEEDED where what it builds on is not there, or is too long a chain; CORRUPT, UNSUPPORTED.
 */
export async function expandBitmap(
  bytes: Buffer,
  documentOf: (snapshot: Hex) => Promise<Buffer | undefined>,
): Promise<Expanded> {
  const chain: Hex[] = []
  let whole = bytes
  for (let parent = parentOf(bytes); parent !== undefined; parent = parentOf(whole)) {
    if (chain.length + 1 >= BITMAP_CHAIN) throw wholeNeeded(`it builds on ${chain.length + 1} others`)
    chain.push(parent)
    const next = await documentOf(parent)
    if (!next) throw wholeNeeded(`what it builds on, of snapshot ${parent}, is not there`)
    whole = next
  }
  const depth = chain.length
  for (const snapshot of chain.reverse().slice(1)) {
    const next = await documentOf(snapshot)
    if (!next) throw wholeNeeded(`what it builds on, of snapshot ${snapshot}, is not there`)
    whole = applyDelta(next, whole)
  }
  return { whole: depth === 0 ? bytes : applyDelta(bytes, whole), depth }
}

export function wholeNeeded(why: string): ImagerError {
  return new ImagerError('WHOLE_NEEDED', { why })
}

interface Run {
  /** Where in `after`, and where in `before`. */
  readonly at: number
  readonly from: number
  readonly length: number
}

/** Ascending and disjoint in `after`: found by a hash that rolls over it, looked up among every WINDOW-th place of `before`. */
function* commonRuns(before: Buffer, after: Buffer): Generator<Run> {
  const table = new Places(before)
  let free = 0
  for (let at = 0; at + WINDOW <= after.length; ) {
    const from = table.find(after, at)
    if (from === undefined) {
      at++
      continue
    }
    let back = 0
    while (at - back > free && from > back && before[from - back - 1] === after[at - back - 1]) back++
    let length = WINDOW
    while (from + length < before.length && at + length < after.length && before[from + length] === after[at + length])
      length++
    yield { at: at - back, from: from - back, length: length + back }
    free = at + length
    at = free
  }
}

/** Places of a buffer by the hash of the WINDOW bytes there. */
class Places {
  readonly #bytes: Buffer
  readonly #slots: Int32Array
  readonly #shift: number
  /** FACTOR to the power of WINDOW. */
  readonly #leading: number
  #hash = 0
  #hashed = -1

  constructor(bytes: Buffer) {
    this.#bytes = bytes
    const count = Math.max(1, Math.ceil(bytes.length / WINDOW))
    this.#shift = Math.max(1, 31 - Math.ceil(Math.log2(count)))
    this.#slots = new Int32Array(2 ** (32 - this.#shift))
    this.#leading = Array.from({ length: WINDOW }).reduce<number>((power) => Math.imul(power, FACTOR), 1)
    for (let at = 0; at + WINDOW <= bytes.length; at += WINDOW) {
      const slot = hashAt(bytes, at) >>> this.#shift
      this.#slots[slot] ||= at + 1
    }
  }

  /** Where the same WINDOW bytes are; undefined where that is not known. Cheap where `at` was looked at one before. */
  find(other: Buffer, at: number): number | undefined {
    if (this.#hashed === at - 1 && at > 0) {
      const gone = Math.imul(other[at - 1] as number, this.#leading)
      this.#hash = (Math.imul(this.#hash, FACTOR) + (other[at + WINDOW - 1] as number) - gone) | 0
    } else this.#hash = hashAt(other, at)
    this.#hashed = at
    const from = (this.#slots[this.#hash >>> this.#shift] as number) - 1
    return from >= 0 && isSame(this.#bytes, from, other, at) ? from : undefined
  }
}

function hashAt(bytes: Buffer, at: number): number {
  let hash = 0
  for (let index = at; index < at + WINDOW; index++) hash = (Math.imul(hash, FACTOR) + (bytes[index] as number)) | 0
  return hash
}

function isSame(a: Buffer, from: number, b: Buffer, at: number): boolean {
  return a.compare(b, at, at + WINDOW, from, from + WINDOW) === 0
}

function corrupt(what: string): ImagerError {
  return new ImagerError('CORRUPT', { what: `A reference bitmap is damaged: ${what}` })
}
