/** A snapshot in memory, for tests of whoever reads snapshots: files are laid out on a disk that is one Buffer. */
import { encodeAttributes } from '../../src/mount/attributes.js'
import { Body, type BodyHandle } from '../../src/native.js'
import type { Child, Extent, FileRow, Kind, SnapshotReader, SnapshotVolume, Stream } from '../../src/retrieve/reader.js'

const CLUSTER = 4096

export type Content = Buffer | { readonly stream: Partial<Stream> & { readonly size: number } }

interface Entry extends FileRow {
  readonly children: Map<string, { name: Buffer; number: number }>
}

export interface Details extends Partial<Omit<FileRow, 'number' | 'streams' | 'kind'>> {
  readonly named?: Record<string, Buffer>
}

export class MemorySnapshot implements SnapshotReader {
  readonly timeMs = Date.UTC(2026, 10, 21, 7, 0, 0, 250)
  readonly volumes: SnapshotVolume[]
  readonly disk: Buffer
  /** Every read of the disk, for tests that say what may be fetched. */
  readonly reads: { offset: number; length: number }[] = []
  /** Replaces the reading of the disk. */
  fault: ((offset: number, length: number, signal?: AbortSignal) => Promise<Buffer> | undefined) | undefined
  /** Fails the rows of these files. */
  readonly lostRows = new Map<number, Error>()
  readonly #rows = new Map<number, Entry>()
  #next = 2
  #free = CLUSTER

  constructor(sizeBytes = 16 * 1024 * 1024) {
    this.disk = Buffer.alloc(sizeBytes, 0xdb)
    const volume = { startBytes: CLUSTER, lengthBytes: sizeBytes - CLUSTER }
    this.volumes = [
      { index: 1, ...volume, fileSystem: 'ext4', rootNumber: 2 },
      { index: 3, startBytes: 0, lengthBytes: 8192, fileSystem: 'swap', rootNumber: null },
    ]
    this.#insert('directory', [], { mode: 0o755 })
  }

  get sizeBytes(): number {
    return this.disk.length
  }

  readonly root = 2

  folder(parent: number, name: string | Buffer, details: Details = {}): number {
    return this.add(parent, name, 'directory', undefined, { mode: 0o755, ...details })
  }

  file(volume: number, number: number): Promise<FileRow | undefined>
  file(parent: number, name: string | Buffer, content: Content, details?: Details): number
  file(
    first: number,
    second: number | string | Buffer,
    content?: Content,
    details?: Details,
  ): number | Promise<FileRow | undefined> {
    if (typeof second === 'number') return this.#row(first, second)
    return this.add(first, second, 'file', content, details)
  }

  symlink(parent: number, name: string, target: string): number {
    return this.add(parent, name, 'symlink', inline(Buffer.from(target)), { mode: 0o777 })
  }

  /** The same file under one more name. */
  link(parent: number, name: string, number: number): void {
    this.#hang(parent, Buffer.from(name), number)
  }

  add(parent: number, name: string | Buffer, kind: Kind, content?: Content, details: Details = {}): number {
    const streams = content === undefined ? [] : [this.#stream('', content)]
    for (const [stream, bytes] of Object.entries(details.named ?? {})) streams.push(this.#stream(stream, inline(bytes)))
    const number = this.#insert(kind, streams, details)
    this.#hang(parent, Buffer.from(name), number)
    return number
  }

  /** Puts bytes on the disk, in clusters. */
  store(bytes: Buffer): number {
    const disk = this.#free
    bytes.copy(this.disk, disk)
    this.#free += Math.ceil(bytes.length / CLUSTER) * CLUSTER
    if (this.#free > this.disk.length) throw new Error('the disk in memory is full')
    return disk
  }

  async readDisk(offset: number, length: number, signal?: AbortSignal): Promise<BodyHandle> {
    this.reads.push({ offset, length })
    if (offset < 0 || offset + length > this.disk.length) throw new Error(`read of ${length} at ${offset}`)
    return new Body((await this.fault?.(offset, length, signal)) ?? this.disk.subarray(offset, offset + length))
  }

  async child(_volume: number, parent: number, name: Buffer): Promise<number | undefined> {
    return this.#rows.get(parent)?.children.get(name.toString('latin1'))?.number
  }

  async children(_volume: number, parent: number, after: Buffer | null, limit: number): Promise<Child[]> {
    const children = [...(this.#rows.get(parent)?.children.values() ?? [])]
    return children
      .sort((a, b) => a.name.compare(b.name))
      .filter(({ name }) => after === null || name.compare(after) > 0)
      .slice(0, limit)
      .map(({ name, number }) => ({ name, number, kind: (this.#rows.get(number) as Entry).kind }))
  }

  async attributes(volume: number, numbers: readonly number[]): Promise<(Buffer | Error | undefined)[]> {
    const rows = numbers.map((number) => this.#row(volume, number).catch((error: Error) => error))
    return (await Promise.all(rows)).map((row) => {
      if (!row || row instanceof Error) return row
      const content = row.streams.find(({ name }) => name === '')
      const extents = content?.extents.reduce((sum, { length }) => sum + length, 0)
      return encodeAttributes({ ...row, volume: 0, allocatedBytes: content?.resident?.length ?? extents ?? 0 })
    })
  }

  async #row(volume: number, number: number): Promise<FileRow | undefined> {
    const lost = this.lostRows.get(number)
    if (lost) throw lost
    return volume === 1 ? this.#rows.get(number) : undefined
  }

  #insert(kind: Kind, streams: Stream[], details: Details): number {
    const number = this.#next++
    const at = { seconds: 1_700_000_000 + number, nanoseconds: 123_456_789 }
    const size = streams.find(({ name }) => name === '')?.size ?? 0
    this.#rows.set(number, {
      number,
      kind,
      mode: 0o644,
      uid: 0,
      gid: 0,
      links: 1,
      size,
      device: 0,
      generation: 7,
      modified: at,
      changed: at,
      created: at,
      xattrs: [],
      ...details,
      streams,
      children: new Map(),
    })
    return number
  }

  #hang(parent: number, name: Buffer, number: number): void {
    this.#rows.get(parent)?.children.set(name.toString('latin1'), { name, number })
  }

  #stream(name: string, content: Content): Stream {
    if (!Buffer.isBuffer(content)) {
      const { stream } = content
      return { name, valid: stream.size, resident: null, extents: [], ...stream }
    }
    const extents: Extent[] = []
    if (content.length > 0) {
      const length = Math.ceil(content.length / CLUSTER) * CLUSTER
      extents.push({ kind: 'plain', rawLength: 0, logical: 0, disk: this.store(content), length })
    }
    return { name, size: content.length, valid: content.length, resident: null, extents }
  }
}

/** Content kept in the file's own record. */
export function inline(bytes: Buffer): Content {
  return { stream: { size: bytes.length, resident: bytes } }
}
