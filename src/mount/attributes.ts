/**
 * The bytes in which attributes and folders go to the addon; the layouts are documented where they are decoded,
 * native/src/fuse/layout.rs. An inode number is `volume * 2^48 + number`; volume 0 is the top of the mounted tree.
 */
import type { Kind, Timestamp } from '../retrieve/reader.js'

export interface Attributes {
  readonly volume: number
  readonly number: number
  readonly kind: Kind
  readonly mode: number
  readonly uid: number
  readonly gid: number
  readonly links: number
  readonly size: number
  /** Bytes that the content takes on the disk. */
  readonly allocatedBytes: number
  readonly device: number
  readonly generation: number
  readonly modified: Timestamp
  readonly changed: Timestamp
}

export interface Listed {
  readonly name: Buffer
  /** Where a listing goes on after this entry. */
  readonly cookie: number
  /** False: only inode and kind are true, the kernel has to ask for the rest. */
  readonly known: boolean
  readonly attributes: Attributes
}

const ATTRIBUTES_BYTES = 72
const LISTED_BYTES = ATTRIBUTES_BYTES + 11
/** The unit of st_blocks. */
const BLOCK_UNIT = 512
const WORD = 2 ** 32

const TYPE_BITS: Record<Kind, number> = {
  fifo: 0o010000,
  character: 0o020000,
  directory: 0o040000,
  block: 0o060000,
  file: 0o100000,
  symlink: 0o120000,
  socket: 0o140000,
}

export function encodeAttributes(attributes: Attributes): Buffer {
  const bytes = Buffer.allocUnsafe(ATTRIBUTES_BYTES)
  writeAttributes(bytes, 0, attributes)
  return bytes
}

export function encodeFolder(entries: readonly Listed[]): Buffer {
  let length = 0
  for (const entry of entries) length += LISTED_BYTES + entry.name.length
  const bytes = Buffer.allocUnsafe(length)
  let at = 0
  for (const entry of entries) {
    writeAttributes(bytes, at, entry.attributes)
    writeNumber(bytes, at + 72, entry.cookie)
    bytes[at + 80] = entry.known ? 1 : 0
    bytes.writeUInt16LE(entry.name.length, at + 81)
    entry.name.copy(bytes, at + LISTED_BYTES)
    at += LISTED_BYTES + entry.name.length
  }
  return bytes
}

function writeAttributes(bytes: Buffer, at: number, a: Attributes): void {
  bytes.writeUInt32LE(a.number % WORD, at)
  bytes.writeUInt16LE(Math.floor(a.number / WORD), at + 4)
  bytes.writeUInt16LE(a.volume, at + 6)
  writeNumber(bytes, at + 8, a.size)
  writeNumber(bytes, at + 16, Math.ceil(a.allocatedBytes / BLOCK_UNIT))
  writeNumber(bytes, at + 24, a.modified.seconds)
  writeNumber(bytes, at + 32, a.changed.seconds)
  bytes.writeUInt32LE(a.modified.nanoseconds, at + 40)
  bytes.writeUInt32LE(a.changed.nanoseconds, at + 44)
  bytes.writeUInt32LE(a.generation >>> 0, at + 48)
  bytes.writeUInt32LE(TYPE_BITS[a.kind] | (a.mode & 0o7777), at + 52)
  bytes.writeUInt32LE(a.links, at + 56)
  bytes.writeUInt32LE(a.uid, at + 60)
  bytes.writeUInt32LE(a.gid, at + 64)
  bytes.writeUInt32LE(a.device % WORD, at + 68)
}

/** A whole number, negative ones too, as 64 bits. */
function writeNumber(bytes: Buffer, at: number, value: number): void {
  const high = Math.floor(value / WORD)
  bytes.writeUInt32LE(value - high * WORD, at)
  bytes.writeInt32LE(high, at + 4)
}
