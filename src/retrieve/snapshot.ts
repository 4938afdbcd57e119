/**
 * A snapshot that can be asked (`SnapshotReader`): its disk through the map tree, its files through the file and directory
 * trees. Pages and blocks are fetched when they are first needed, once for all who wait for them, and kept while there is room.
 */
import { hasCode, ImagerError } from '../base/errors.js'
import { KiB, MiB } from '../base/units.js'
import type { FileRecord, ManifestPage, VaultHandle } from '../native.js'
import { LruCache } from './cache.js'
import { joinPlaces, locateAll, type Place, TREE } from './manifest.js'
import type { OpenSnapshot, Tree } from './open.js'
import type { Child, FileRow, Kind, SnapshotReader, SnapshotVolume } from './reader.js'

const WINDOW_BYTES = 8 * MiB
const BLOCK_CACHE_BYTES = 96 * MiB
const PAGES_KEPT = 256
/** Blocks that lie closer than this in a pack come in one range. */
const GAP_BYTES = 32 * KiB
/** The last birth number that is none: 0 stands for zeros, 1 for what the source did not give. */
const UNREADABLE = 1n
const KINDS: readonly Kind[] = ['file', 'directory', 'symlink', 'block', 'character', 'fifo', 'socket']
const EXTENT_KINDS = ['plain', 'unwritten', 'compressed', 'encrypted', 'packed'] as const

/** A map page and where its blocks lie. */
interface MapPage {
  readonly page: ManifestPage
  readonly places: readonly Place[]
  readonly births: BigUint64Array
}

export class StoredSnapshot implements SnapshotReader {
  readonly sizeBytes: number
  readonly timeMs: number
  readonly volumes: readonly SnapshotVolume[]
  readonly #snapshot: OpenSnapshot
  readonly #vault: VaultHandle
  readonly #maps = new LruCache<number, Promise<MapPage | undefined>>(PAGES_KEPT)
  readonly #leaves = new LruCache<string, Promise<ManifestPage[]>>(PAGES_KEPT)
  readonly #blocks = new LruCache<bigint, Promise<Buffer>>(BLOCK_CACHE_BYTES / (64 * KiB))

  constructor(snapshot: OpenSnapshot, vault: VaultHandle) {
    this.#snapshot = snapshot
    this.#vault = vault
    const { sizeBytes, timeMs, volumes } = snapshot.description
    this.sizeBytes = sizeBytes
    this.timeMs = timeMs
    this.volumes = volumes.map(({ index, name, start, length, pieces, fileSystem, root }) => {
      const ranges = pieces?.map(([from, bytes]) => ({ start: from, length: bytes }))
      const volume = { index, startBytes: start, lengthBytes: length, fileSystem, rootNumber: root }
      return { ...volume, ...(ranges && { pieces: ranges }), ...(name !== undefined && { name }) }
    })
  }

  async readDisk(offset: number, length: number, signal?: AbortSignal): Promise<Buffer> {
    const bytes = Buffer.alloc(length)
    const first = Math.floor(offset / WINDOW_BYTES)
    const last = Math.floor((offset + length - 1) / WINDOW_BYTES)
    const windows = Array.from({ length: length > 0 ? last - first + 1 : 0 }, (_, at) => first + at)
    await Promise.all(windows.map((window) => this.#readWindow(window, offset, bytes, signal)))
    return bytes
  }

  prefetch(offset: number, length: number): void {
    const end = Math.min(offset + length, this.sizeBytes)
    if (offset < end) this.readDisk(offset, end - offset).catch(() => {})
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

  async #readWindow(window: number, offset: number, into: Buffer, signal: AbortSignal | undefined): Promise<void> {
    const start = Math.max(offset, window * WINDOW_BYTES)
    const end = Math.min(offset + into.length, (window + 1) * WINDOW_BYTES)
    const map = await this.#mapPage(window)
    // Nothing of this window was in use: it reads as zeros, as it does on the disk that was restored.
    if (!map) return
    const segments = map.page.segments(start, end - start)
    const bad = segments.find((segment) => segment.unreadable)
    if (bad) throw new ImagerError('NOT_READ', { offset: bad.disk, length: bad.length })
    const held = segments.filter((segment) => segment.entry !== null)
    const blocks = this.#fetchBlocks(map, [...new Set(held.map((segment) => segment.entry as number))], signal)
    await Promise.all(
      held.map(async ({ disk, length, inBlock, entry }) => {
        const block = await blocks.get(entry as number)
        if (!block || inBlock + length > block.length) {
          throw new ImagerError('CORRUPT', { what: `The map names ${length} bytes past the end of a block` })
        }
        block.copy(into, disk - offset, inBlock, inBlock + length)
      }),
    )
  }

  /** The promise of each entry's block: kept ones, and the others in as few ranges as their places allow. */
  #fetchBlocks(
    map: MapPage,
    entries: readonly number[],
    signal: AbortSignal | undefined,
  ): Map<number, Promise<Buffer>> {
    const blocks = new Map<number, Promise<Buffer>>()
    const absent: number[] = []
    for (const entry of entries) {
      const kept = this.#blocks.get(map.births[entry] as bigint)
      if (kept) blocks.set(entry, kept)
      else absent.push(entry)
    }
    for (const { stripe, offset, length, members } of joinPlaces(
      absent.map((entry) => map.places[entry] as Place),
      GAP_BYTES,
    )) {
      const range = this.#snapshot.packs.read(stripe, offset, offset + length)
      for (const member of members) {
        const entry = absent[member] as number
        const block = range.then((bytes) => this.#openBlock(map, entry, bytes, offset, signal))
        const birth = map.births[entry] as bigint
        this.#blocks.set(birth, block)
        // A failure is not kept: the host may be back for the next reader.
        block.catch(() => this.#blocks.delete(birth))
        blocks.set(entry, block)
      }
    }
    return blocks
  }

  async #openBlock(
    { page, places }: MapPage,
    entry: number,
    bytes: Buffer,
    from: number,
    signal: AbortSignal | undefined,
  ): Promise<Buffer> {
    const { stripe, offset, length } = places[entry] as Place
    try {
      return await this.#vault.openBlock(page, entry, bytes.subarray(offset - from, offset - from + length))
    } catch (error) {
      if (!hasCode(error, 'FORGED', 'UNSUPPORTED')) throw error
      const sound = await this.#snapshot.packs.readSound(stripe, offset, offset + length, signal)
      return this.#vault.openBlock(page, entry, sound)
    }
  }

  #mapPage(window: number): Promise<MapPage | undefined> {
    return this.#maps.getOrMake(window, async () => {
      const base = window * WINDOW_BYTES
      const [page] = await this.#walk(this.#snapshot.tree(TREE.map, 0), base, base + WINDOW_BYTES - 1)
      if (!page) return undefined
      const births = page.entryBirths()
      const ids = page.entryIds()
      const held = [...births.keys()].filter((entry) => (births[entry] as bigint) > UNREADABLE)
      const wanted = Buffer.concat(held.map((entry) => ids.subarray(entry * 32, entry * 32 + 32)))
      const found = await locateAll(this.#snapshot.manifest.locator, wanted)
      const places = new Array<Place>(births.length)
      for (const [at, entry] of held.entries()) {
        const place = found[at] as Place
        if (place.stripe === 0)
          throw new ImagerError('CORRUPT', { what: 'The catalog does not know a block of this snapshot' })
        places[entry] = place
      }
      await this.#snapshot.packs.prepare([...new Set(found.map((place) => place.stripe))])
      return { page, places, births }
    })
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
