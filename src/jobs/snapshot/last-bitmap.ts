/**
 * The reference bitmap of a disk's last snapshot, kept here so that the next one sends peers only what changed. Losing it costs
 * nothing but that: a peer takes no bitmap that is not exactly its head's.
 *
 *   offset  size  field
 *   0       4     magic "IMRL"
 *   4       2     version u16 = 1
 *   6       2     depth u16: differences on which a peer may have to build it
 *   8       16    the snapshot
 *   24      ..    the bitmap, whole
 */
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import type { Hex } from '../../base/ids.js'
import { BITMAP_CHAIN } from '../../base/limits.js'
import { encodeDelta } from '../../keys/bitmap.js'
import { readWhole, writeDurable } from '../../keys/durable.js'

const MAGIC = 'IMRL'
const VERSION = 1
const HEADER_BYTES = 24

/** What goes to the peers beside a head. */
export interface SentBitmap {
  readonly whole: Buffer
  /** What changed since the parent's; undefined where only the whole one is worth sending. */
  readonly delta: Buffer | undefined
  readonly depth: number
}

/** One in `BITMAP_CHAIN` is whole, the first one too, and one of which most is new. */
export function bitmapSince(state: string, volume: Hex, parent: Hex | null, whole: Buffer): SentBitmap {
  const last = parent === null ? undefined : readLast(pathOf(state, volume))
  if (parent === null || last?.snapshot !== parent || last.depth + 1 >= BITMAP_CHAIN) return wholeOnly(whole)
  const delta = encodeDelta(parent, last.whole, whole)
  return delta.length * 2 < whole.length ? { whole, delta, depth: last.depth + 1 } : wholeOnly(whole)
}

/** Once the snapshot is visible. The next one sends its own whole where this cannot be written. */
export function keepLast(state: string, volume: Hex, snapshot: Hex, { whole, depth }: SentBitmap): void {
  const header = Buffer.alloc(HEADER_BYTES)
  header.write(MAGIC, 0, 'latin1')
  header.writeUInt16LE(VERSION, 4)
  header.writeUInt16LE(depth, 6)
  header.write(snapshot, 8, 'hex')
  const path = pathOf(state, volume)
  try {
    writeDurable(path, Buffer.concat([header, whole]))
  } catch {
    rmSync(path, { force: true })
  }
}

function readLast(path: string) {
  try {
    const bytes = readWhole(path)
    const isOurs = bytes.toString('latin1', 0, 4) === MAGIC && bytes.length >= HEADER_BYTES
    if (!isOurs || bytes.readUInt16LE(4) !== VERSION) return undefined
    return {
      snapshot: bytes.toString('hex', 8, HEADER_BYTES),
      depth: bytes.readUInt16LE(6),
      whole: bytes.subarray(HEADER_BYTES),
    }
  } catch {
    return undefined
  }
}

const pathOf = (state: string, volume: Hex): string => join(state, `bitmap-${volume}.bin`)

const wholeOnly = (whole: Buffer): SentBitmap => ({ whole, delta: undefined, depth: 0 })
