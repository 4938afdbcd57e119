/**
 * The bytes in which attributes and folders go to the addon; the layouts are documented where they are decoded,
 * native/src/mount/layout.rs. An inode number is `volume * 2^48 + number`; volume 0 is the top of the mounted tree.
 */
import { ATTRIBUTES_BYTES, type FileRow, type Kind } from '../retrieve/reader.js'

/** What the kernel hears of a file's record. */
export interface Attributes extends Omit<FileRow, 'created' | 'xattrs' | 'streams'> {
  readonly volume: number
  /** Bytes that the content takes on the disk. */
  readonly allocatedBytes: number
}

export interface Listed {
  readonly name: Buffer
  /** Where a listing goes on after this entry. */
  readonly cookie: number
  /** False: only inode and kind are true, the kernel has to ask for the rest. */
  readonly known: boolean
  /** Encoded. */
  readonly attributes: Buffer
}

/** The cookie of a folder's last entry: nobody is asked what follows it. */
export const LAST = 2 ** 62
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

export function encodeAttributes(a: Attributes): Buffer {
  const bytes = Buffer.allocUnsafe(ATTRIBUTES_BYTES)
  bytes.writeUInt32LE(a.number % WORD, 0)
  bytes.writeUInt16LE(Math.floor(a.number / WORD), 4)
  bytes.writeUInt16LE(a.volume, 6)
  writeNumber(bytes, 8, a.size)
  writeNumber(bytes, 16, Math.ceil(a.allocatedBytes / BLOCK_UNIT))
  writeNumber(bytes, 24, a.modified.seconds)
  writeNumber(bytes, 32, a.changed.seconds)
  bytes.writeUInt32LE(a.modified.nanoseconds, 40)
  bytes.writeUInt32LE(a.changed.nanoseconds, 44)
  bytes.writeUInt32LE(a.generation >>> 0, 48)
  bytes.writeUInt32LE(TYPE_BITS[a.kind] | (a.mode & 0o7777), 52)
  bytes.writeUInt32LE(a.links, 56)
  bytes.writeUInt32LE(a.uid, 60)
  bytes.writeUInt32LE(a.gid, 64)
  bytes.writeUInt32LE(a.device % WORD, 68)
  return bytes
}

export function encodeFolder(entries: readonly Listed[]): Buffer {
  let length = 0
  for (const entry of entries) length += LISTED_BYTES + entry.name.length
  const bytes = Buffer.allocUnsafe(length)
  let at = 0
  for (const entry of entries) {
    entry.attributes.copy(bytes, at)
    writeNumber(bytes, at + 72, entry.cookie)
    bytes[at + 80] = entry.known ? 1 : 0
    bytes.writeUInt16LE(entry.name.length, at + 81)
    entry.name.copy(bytes, at + LISTED_BYTES)
    at += LISTED_BYTES + entry.name.length
  }
  return bytes
}

/** The inode is a number of this volume. */
export function setVolume(attributes: Buffer, volume: number): Buffer {
  attributes.writeUInt16LE(volume, 6)
  return attributes
}

/** A whole number, negative ones too, as 64 bits. */
function writeNumber(bytes: Buffer, at: number, value: number): void {
  const high = Math.floor(value / WORD)
  bytes.writeUInt32LE(value - high * WORD, at)
  bytes.writeInt32LE(high, at + 4)
}
