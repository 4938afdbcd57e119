/**
 * What a snapshot can be asked, whoever asks: the mount, a file restore, `imager ls`. Bytes are exact and verified, or
 * the call throws an ImagerError; nothing is ever filled in with zeros that the snapshot does not say are zeros.
 */

import type { BodyHandle, DiskReaderHandle } from '../native.js'

export type Kind = 'file' | 'directory' | 'symlink' | 'block' | 'character' | 'fifo' | 'socket'

export interface Timestamp {
  readonly seconds: number
  readonly nanoseconds: number
}

/** A piece of a stream on the disk. Sorted by `logical` and not overlapping; what no extent covers is a hole. */
export interface Extent {
  /** `unwritten` reads as zeros; `encrypted` is kept as it lies on the disk, nobody here has the key. */
  readonly kind: 'plain' | 'unwritten' | 'compressed' | 'encrypted' | 'packed'
  /** Of a compressed extent: logical bytes of its whole unit, of which it may hold only a part. */
  readonly rawLength: number
  /** Of a packed extent (btrfs): how, and which `used` of its unpacked bytes are the file's, from `rawOffset` on. */
  readonly codec?: number
  readonly rawOffset?: number
  readonly used?: number
  /** Offset in the stream. */
  readonly logical: number
  /** Offset on the disk. */
  readonly disk: number
  /** Bytes on the disk; the last extent may pass the end of the stream. */
  readonly length: number
}

export interface Stream {
  /** Empty for the unnamed one: the content of a file, the link target of a symbolic link. */
  readonly name: string
  readonly size: number
  /** Bytes from here to `size` are zeros, whatever the extents hold. */
  readonly valid: number
  /** The whole content where it lies in the file's own record; then there are no extents. */
  readonly resident: Buffer | null
  readonly extents: readonly Extent[]
}

export interface FileRow {
  /** Inode or MFT record number, below 2^48. */
  readonly number: number
  readonly kind: Kind
  /** Permission bits, 07777. */
  readonly mode: number
  readonly uid: number
  readonly gid: number
  readonly links: number
  readonly size: number
  readonly device: number
  readonly generation: number
  readonly modified: Timestamp
  readonly changed: Timestamp
  readonly created: Timestamp
  readonly xattrs: readonly { readonly name: Buffer; readonly value: Buffer }[]
  readonly streams: readonly Stream[]
}

export interface DiskRange {
  readonly start: number
  readonly length: number
}

export interface SnapshotVolume {
  /** The partition's number as `imager map` prints it. */
  readonly index: number
  readonly startBytes: number
  readonly lengthBytes: number
  /** Where its bytes lie, in its own order; absent where that is one piece from `startBytes` on. */
  readonly pieces?: readonly DiskRange[]
  /** Of a logical volume: group and name. */
  readonly name?: string
  readonly fileSystem: string
  /** The root folder's number; null where the volume was read raw and cannot be browsed. */
  readonly rootNumber: number | null
}

export interface Child {
  readonly name: Buffer
  readonly number: number
  readonly kind: Kind
}

/** Of one file, in the layout of native/src/mount/layout.rs. */
export const ATTRIBUTES_BYTES = 72

export interface SnapshotReader {
  /** Of the whole disk. */
  readonly sizeBytes: number
  readonly timeMs: number
  readonly volumes: readonly SnapshotVolume[]
  /** Exactly `length` bytes at `offset` of the disk. */
  readDisk(offset: number, length: number, signal?: AbortSignal): Promise<BodyHandle>
  file(volume: number, number: number): Promise<FileRow | undefined>
  /**
   * Of many files, in their order: ATTRIBUTES_BYTES of each, whose inode is the number alone. The error of one that cannot
   * be had; undefined where there is none.
   */
  attributes(volume: number, numbers: readonly number[]): Promise<(Buffer | Error | undefined)[]>
  /** The number of one name in a folder. */
  child(volume: number, parent: number, name: Buffer): Promise<number | undefined>
  /** At most `limit` children whose names come after `after`, sorted by the bytes of their names. */
  children(volume: number, parent: number, after: Buffer | null, limit: number): Promise<Child[]>
  /** These disk bytes will probably be read soon. Never throws. */
  prefetch?(offset: number, length: number): Promise<void>
  /** Learns where what the disk holds lies, a step at a time, so that reads find it known. Throws where hosts do not answer. */
  learn?(): AsyncGenerator<void>
  /** Reads the disk for the mount without JavaScript, where it can. */
  readonly diskReader?: DiskReaderHandle
}
