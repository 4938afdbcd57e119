/**
 * A snapshot that can be asked (`SnapshotReader`): its files (./files.ts), and its disk through the map tree. Map pages and
 * blocks are fetched when they are first needed, once for all who wait for them, and kept while there is room.
 */
import { hasCode, ImagerError } from '../base/errors.js'
import { KiB, MiB } from '../base/units.js'
import type { ManifestPage, VaultHandle } from '../native.js'
import { LruCache } from './cache.js'
import { Files } from './files.js'
import { joinPlaces, locateAll, type Place, TREE } from './manifest.js'
import type { OpenSnapshot, Tree } from './open.js'
import type { Child, FileRow, SnapshotReader, SnapshotVolume } from './reader.js'

const WINDOW_BYTES = 8 * MiB
const BLOCK_CACHE_BYTES = 96 * MiB
const PAGES_KEPT = 256
/** Blocks that lie closer than this in a pack come in one range. */
const GAP_BYTES = 32 * KiB
/** The last birth number that is none: 0 stands for zeros, 1 for what the source did not give. */
const UNREADABLE = 1n

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
  readonly #files: Files
  readonly #maps = new LruCache<number, Promise<MapPage | undefined>>(PAGES_KEPT)
  readonly #blocks = new LruCache<bigint, Promise<Buffer>>(BLOCK_CACHE_BYTES / (64 * KiB))

  constructor(snapshot: OpenSnapshot, vault: VaultHandle) {
    this.#snapshot = snapshot
    this.#vault = vault
    this.#files = new Files(snapshot)
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

  file(volume: number, number: number): Promise<FileRow | undefined> {
    return this.#files.file(volume, number)
  }

  attributes(volume: number, numbers: readonly number[]): Promise<(Buffer | Error | undefined)[]> {
    return this.#files.attributes(volume, numbers)
  }

  child(volume: number, parent: number, name: Buffer): Promise<number | undefined> {
    return this.#files.child(volume, parent, name)
  }

  children(volume: number, parent: number, after: Buffer | null, limit: number): Promise<Child[]> {
    return this.#files.children(volume, parent, after, limit)
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

  async #walk(tree: Tree | undefined, first: number, last: number): Promise<ManifestPage[]> {
    const pages: ManifestPage[] = []
    if (!tree) return pages
    for await (const some of this.#snapshot.manifest.leaves(tree.top, tree.level, first, last)) pages.push(...some)
    return pages
  }
}
