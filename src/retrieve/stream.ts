/**
 * Ranges of a stream: first a plan (pure), then the reading. Holes, unwritten extents and bytes past the valid length
 * are zeros because the file system says so; everything else is read, and what cannot be read throws.
 *
 * A compressed unit (NTFS: 16 clusters) is read and unpacked whole, from all its extents. Encrypted extents give the
 * ciphertext as it lies on the disk, as `ntfs-3g` does with `efs_raw`.
 */
import { ImagerError } from '../base/errors.js'
import { Slots } from '../base/queue.js'
import { MiB } from '../base/units.js'
import { Body, type BodyHandle } from '../native.js'
import type { Extent, SnapshotReader, Stream } from './reader.js'

/** Where on the disk the pieces of a range lie. */
export function* diskRanges(pieces: readonly Piece[]): Generator<{ disk: number; length: number }> {
  for (const piece of pieces) {
    if (piece.kind === 'disk') yield piece
    if (piece.kind === 'unit') yield* piece.unit.parts
  }
}

/** A part of a range, in order; `length` is logical bytes. */
export type Piece =
  | { readonly kind: 'zeros'; readonly length: number }
  | { readonly kind: 'memory'; readonly bytes: Buffer; readonly length: number }
  | { readonly kind: 'disk'; readonly disk: number; readonly length: number }
  | { readonly kind: 'unit'; readonly unit: Unit; readonly skip: number; readonly length: number }

/** A compressed unit: its parts on the disk, in order, unpack to `rawLength` bytes from `logical` on. */
export interface Unit {
  readonly logical: number
  readonly rawLength: number
  readonly parts: readonly Extent[]
  /** As `decompressUnit` takes it. */
  readonly codec: number
  /** Where the stream's part begins in the unpacked bytes. */
  readonly rawOffset: number
}

/** Unpacks one unit. Fewer bytes than `rawLength` means that the rest are zeros. */
export type Decompress = (bytes: Buffer, rawLength: number, codec: number) => Buffer | Promise<Buffer>

/** NTFS units are at most 1 MiB, btrfs's 128 KiB; a longer one is damage. */
const UNIT_BYTES = 4 * MiB
/** Reads of one request under way; a fragmented megabyte has 256 pieces. */
const PIECES_AT_ONCE = 16

/** A part of a stream that is read in one way. */
interface Segment {
  readonly logical: number
  readonly length: number
  readonly source: Extent | Unit
}

/** Segments of streams with compressed extents, which have to be gathered from the start. */
const gathered = new WeakMap<Stream, readonly Segment[]>()

/** The pieces of [offset, offset + length), cut at the end of the stream. */
export function planRead(stream: Stream, offset: number, length: number): Piece[] {
  const end = Math.min(offset + length, stream.size)
  const validEnd = Math.min(end, stream.valid)
  const pieces: Piece[] = []
  let at = offset
  if (at < validEnd) {
    if (stream.resident) {
      const bytes = stream.resident.subarray(at, validEnd)
      add(pieces, { kind: 'memory', bytes, length: bytes.length })
      at += bytes.length
    } else {
      at = planSegments(pieces, segmentsOf(stream), at, validEnd)
    }
  }
  if (at < end) add(pieces, { kind: 'zeros', length: end - at })
  return pieces
}

function planSegments(pieces: Piece[], segments: readonly Segment[], offset: number, end: number): number {
  let at = offset
  for (let index = firstEndingAfter(segments, offset); at < end; index++) {
    const segment = segments[index]
    if (!segment || segment.logical >= end) break
    if (segment.logical + segment.length <= at) continue
    if (segment.logical > at) add(pieces, { kind: 'zeros', length: segment.logical - at })
    at = Math.max(at, segment.logical)
    const stop = Math.min(end, segment.logical + segment.length)
    add(pieces, pieceOf(segment, at, stop - at))
    at = stop
  }
  return at
}

function pieceOf({ source, logical }: Segment, at: number, length: number): Piece {
  const skip = at - logical
  if ('parts' in source) return { kind: 'unit', unit: source, skip: source.rawOffset + skip, length }
  if (source.kind === 'unwritten') return { kind: 'zeros', length }
  return { kind: 'disk', disk: source.disk + skip, length }
}

/** Appends, as one with the last piece where they touch. */
function add(pieces: Piece[], piece: Piece): void {
  const last = pieces.at(-1)
  if (last?.kind === 'zeros' && piece.kind === 'zeros') {
    pieces[pieces.length - 1] = { kind: 'zeros', length: last.length + piece.length }
  } else if (last?.kind === 'disk' && piece.kind === 'disk' && last.disk + last.length === piece.disk) {
    pieces[pieces.length - 1] = { ...last, length: last.length + piece.length }
  } else {
    pieces.push(piece)
  }
}

/** The index of the first segment that ends after `offset`. */
function firstEndingAfter(segments: readonly Segment[], offset: number): number {
  let low = 0
  let high = segments.length
  while (low < high) {
    const middle = (low + high) >>> 1
    const segment = segments[middle] as Segment
    if (segment.logical + segment.length > offset) high = middle
    else low = middle + 1
  }
  return low
}

function segmentsOf(stream: Stream): readonly Segment[] {
  let segments = gathered.get(stream)
  if (!segments) {
    segments = gatherSegments(stream.extents)
    gathered.set(stream, segments)
  }
  return segments
}

/** Compressed extents that begin within a unit's raw length belong to it; every other extent stands for itself. */
function gatherSegments(extents: readonly Extent[]): Segment[] {
  const segments: Segment[] = []
  for (let index = 0; index < extents.length; index++) {
    const first = extents[index] as Extent
    if (first.kind === 'packed') {
      segments.push(packedSegment(first))
      continue
    }
    if (first.kind !== 'compressed') {
      segments.push({ logical: first.logical, length: first.length, source: first })
      continue
    }
    const { logical, rawLength } = first
    const parts = [first]
    for (let next = extents[index + 1]; next && belongs(next, first); next = extents[index + 1]) {
      parts.push(next)
      index++
    }
    segments.push({ logical, length: rawLength, source: { logical, rawLength, parts, codec: 0, rawOffset: 0 } })
  }
  return segments
}

function packedSegment(extent: Extent): Segment {
  const { logical, rawLength, codec = 0, rawOffset = 0, used = rawLength } = extent
  return { logical, length: used, source: { logical, rawLength, parts: [extent], codec, rawOffset } }
}

function belongs(extent: Extent, first: Extent): boolean {
  return (
    extent.kind === 'compressed' &&
    extent.rawLength === first.rawLength &&
    extent.logical < first.logical + first.rawLength
  )
}

/** Reads streams of one snapshot. */
export class StreamReader {
  constructor(
    readonly reader: Pick<SnapshotReader, 'readDisk'>,
    readonly decompress: Decompress,
  ) {}

  /** The bytes of [offset, offset + length), shorter only at the end of the stream. */
  async read(stream: Stream, offset: number, length: number, signal?: AbortSignal): Promise<Buffer> {
    const pieces = planRead(stream, offset, length)
    const [only] = pieces
    if (!only) return Buffer.alloc(0)
    return pieces.length === 1 ? await this.#piece(only, signal) : await this.#assemble(pieces, signal)
  }

  /** The same, outside of JavaScript's memory: not copied where it comes in one piece of the disk. */
  async readBody(stream: Stream, offset: number, length: number, signal?: AbortSignal): Promise<BodyHandle> {
    const [only, ...more] = planRead(stream, offset, length)
    if (only?.kind === 'disk' && more.length === 0) return await this.diskBody(only.disk, only.length, signal)
    return new Body(await this.read(stream, offset, length, signal))
  }

  /** Exactly these bytes of the disk. */
  async readDisk(offset: number, length: number, signal?: AbortSignal): Promise<Buffer> {
    return (await this.diskBody(offset, length, signal)).take()
  }

  async diskBody(offset: number, length: number, signal?: AbortSignal): Promise<BodyHandle> {
    signal?.throwIfAborted()
    const bytes = await this.reader.readDisk(offset, length, signal)
    if (bytes.length !== length) throw corrupt(`${bytes.length} of ${length} bytes came for disk offset ${offset}`)
    return bytes
  }

  async #assemble(pieces: readonly Piece[], signal?: AbortSignal): Promise<Buffer> {
    const whole = Buffer.allocUnsafe(pieces.reduce((sum, piece) => sum + piece.length, 0))
    const slots = new Slots(PIECES_AT_ONCE)
    const tasks: Promise<void>[] = []
    let at = 0
    for (const piece of pieces) {
      const start = at
      at += piece.length
      if (piece.kind === 'zeros') whole.fill(0, start, at)
      else if (piece.kind === 'memory') piece.bytes.copy(whole, start)
      else tasks.push(slots.run(async () => void (await this.#piece(piece, signal)).copy(whole, start)))
    }
    await Promise.all(tasks)
    return whole
  }

  async #piece(piece: Piece, signal?: AbortSignal): Promise<Buffer> {
    switch (piece.kind) {
      case 'zeros':
        return Buffer.alloc(piece.length)
      case 'memory':
        return piece.bytes
      case 'disk':
        return await this.readDisk(piece.disk, piece.length, signal)
      case 'unit':
        return await this.#unit(piece.unit, piece.skip, piece.length, signal)
    }
  }

  async #unit(unit: Unit, skip: number, length: number, signal?: AbortSignal): Promise<Buffer> {
    const { rawLength, parts, codec } = unit
    const packedBytes = parts.reduce((sum, part) => sum + part.length, 0)
    if (rawLength > UNIT_BYTES || packedBytes > rawLength) {
      throw corrupt(`a compressed unit of ${rawLength} bytes lies in ${packedBytes}`)
    }
    const packed = await Promise.all(parts.map((part) => this.readDisk(part.disk, part.length, signal)))
    const bytes = packed.length === 1 ? (packed[0] as Buffer) : Buffer.concat(packed)
    const raw = await this.decompress(bytes, rawLength, codec)
    if (raw.length > rawLength) throw corrupt(`a compressed unit unpacked to ${raw.length} bytes, not ${rawLength}`)
    if (raw.length >= skip + length) return raw.subarray(skip, skip + length)
    const padded = Buffer.alloc(length)
    if (raw.length > skip) raw.copy(padded, 0, skip)
    return padded
  }
}

function corrupt(what: string): ImagerError {
  return new ImagerError('CORRUPT', { what })
}
