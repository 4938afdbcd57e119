/**
 * A snapshot that can be asked (`SnapshotReader`): its disk (./disk.ts), and its files through the file and directory trees,
 * whose pages are fetched when they are first needed, once for all who wait for them, and kept while there is room.
 */
import type { BodyHandle, FileRecord, ManifestPage, VaultHandle } from '../native.js'
import { LruCache } from './cache.js'
import { Disk } from './disk.js'
import { TREE } from './manifest.js'
import type { OpenSnapshot, Tree } from './open.js'
import type { Child, FileRow, Kind, SnapshotReader, SnapshotVolume } from './reader.js'

const PAGES_KEPT = 256
const KINDS: readonly Kind[] = ['file', 'directory', 'symlink', 'block', 'character', 'fifo', 'socket']
const EXTENT_KINDS = ['plain', 'unwritten', 'compressed', 'encrypted', 'packed'] as const

export class StoredSnapshot implements SnapshotReader {
  readonly sizeBytes: number
  readonly timeMs: number
  readonly volumes: readonly SnapshotVolume[]
  readonly #snapshot: OpenSnapshot
  readonly #disk: Disk
  readonly #leaves = new LruCache<string, Promise<ManifestPage[]>>(PAGES_KEPT)

  constructor(snapshot: OpenSnapshot, vault: VaultHandle) {
    this.#snapshot = snapshot
    this.#disk = new Disk(snapshot, vault)
    const { sizeBytes, timeMs, volumes } = snapshot.description
    this.sizeBytes = sizeBytes
    this.timeMs = timeMs
    this.volumes = volumes.map(({ index, name, start, length, pieces, fileSystem, root }) => {
      const ranges = pieces?.map(([from, bytes]) => ({ start: from, length: bytes }))
      const volume = { index, startBytes: start, lengthBytes: length, fileSystem, rootNumber: root }
      return { ...volume, ...(ranges && { pieces: ranges }), ...(name !== undefined && { name }) }
    })
  }

  readDisk(offset: number, length: number, signal?: AbortSignal): Promise<Buffer | BodyHandle> {
    return this.#disk.read(offset, length, signal)
  }

  prefetch(offset: number, length: number): void {
    this.#disk.prefetch(offset, Math.min(length, this.sizeBytes - offset))
  }

  async file(volume: number, number: number): Promise<FileRow | undefined> {
    const pages = await this.#leavesOf(TREE.files, volume, number)
    const parts = pages.flatMap((page) => page.file(number) ?? [])
    const [first, ...more] = parts
    return first && fileRow(first, more)
  }

  async child(volume: number, parent: number, name: Buffer): Promise<number | undefined> {
    for (const page of await this.#leavesOf(TREE.directories, volume, parent)) {
      const found = page.child(parent, name)
      if (found !== null) return found
    }
    return undefined
  }

  async children(volume: number, parent: number, after: Buffer | null, limit: number): Promise<Child[]> {
    const found: Child[] = []
    for (const page of await this.#leavesOf(TREE.directories, volume, parent)) {
      for (const { name, number, kind } of page.names(parent, after, limit - found.length)) {
        found.push({ name, number, kind: kindOf(kind) })
      }
      if (found.length >= limit) break
    }
    return found
  }

  /** The leaves that hold one number. */
  #leavesOf(tree: number, volume: number, number: number): Promise<ManifestPage[]> {
    // Leaves cover 256 numbers each, so neighbours share them.
    const key = `${tree} ${volume} ${Math.floor(number / 256)}`
    const base = Math.floor(number / 256) * 256
    return this.#leaves.getOrMake(key, () => this.#walk(this.#snapshot.tree(tree, volume), base, base + 255))
  }

  async #walk(tree: Tree | undefined, first: number, last: number): Promise<ManifestPage[]> {
    const pages: ManifestPage[] = []
    if (!tree) return pages
    for await (const some of this.#snapshot.manifest.leaves(tree.top, tree.level, first, last)) pages.push(...some)
    return pages
  }
}

function kindOf(kind: number): Kind {
  return KINDS[kind - 1] ?? 'file'
}

/** The record of a file, with the extents of its continuations. */
function fileRow(record: FileRecord, more: readonly FileRecord[]): FileRow {
  const streams = record.streams.map((stream, at) => ({
    ...stream,
    extents: [stream, ...more.flatMap((part) => part.streams[at] ?? [])].flatMap((part) =>
      part.extents.map((extent) => ({ ...extent, kind: EXTENT_KINDS[extent.kind] ?? 'plain' })),
    ),
  }))
  const unnamed = streams.find((stream) => stream.name === '')
  return { ...record, kind: kindOf(record.kind), size: unnamed?.size ?? 0, streams }
}
