/**
 * The disk of a snapshot. A window of it is a map page with the places of its blocks; windows and blocks are fetched when they
 * are first needed, once for all who wait for them, and kept while there is room. Blocks are opened, kept and put together
 * in the addon.
 */
import { ImagerError } from '../base/errors.js'
import { MiB } from '../base/units.js'
import {
  Body,
  type BodyHandle,
  DiskReader,
  type DiskReaderHandle,
  type ManifestPage,
  mapBirths,
  mapIds,
  type PackRange,
  type WindowHandle,
} from '../native.js'
import { LruCache } from './cache.js'
import { TREE } from './manifest.js'
import type { OpenSnapshot } from './open.js'

/** What one map page speaks of (docs/formats/page.md). */
const WINDOW_BYTES = 8 * MiB
const BLOCK_CACHE_BYTES = 64 * MiB
/** Windows that are loaded together, once a second window is read. */
const GROUP = 256
/** Groups remembered as loaded: 32 GiB of disk, as many windows as the addon keeps. */
const GROUPS_KEPT = 16
/** Groups that `learn` loads: 16 GiB of disk, so that windows read behind them find room. */
const GROUPS_LEARNED = GROUPS_KEPT / 2

export class Disk {
  readonly #snapshot: OpenSnapshot
  /** Keeps windows and blocks, fetches what it can by itself, and answers the mount's reads with it. */
  readonly reader: DiskReaderHandle
  /** Windows being loaded, by number. */
  readonly #loads = new Map<number, Promise<void>>()
  readonly #groups = new LruCache<number, Promise<void>>(GROUPS_KEPT)
  /** Blocks being fetched here because the addon did not get them, by window and entry. */
  readonly #coming = new Map<string, Promise<void>>()
  #firstRead: number | undefined

  constructor(snapshot: OpenSnapshot) {
    this.#snapshot = snapshot
    this.reader = new DiskReader(snapshot.direct, snapshot.vault, BLOCK_CACHE_BYTES)
  }

  /** Exactly these bytes. Throws NOT_READ, NOT_STORED, NOT_RESTORABLE, CORRUPT. */
  async read(offset: number, length: number, signal?: AbortSignal): Promise<BodyHandle> {
    const parts = partsOf(offset, length)
    const read = await Promise.all(parts.map((part) => this.#read(part, signal)))
    const [first] = read
    if (parts.length === 1 && first) return first
    return new Body(Buffer.concat(read.map((body, at) => body?.take() ?? Buffer.alloc((parts[at] as Part).length))))
  }

  /** Has the blocks ready for a read that will probably come. Never throws: the read itself will say what is wrong. */
  async prefetch(offset: number, length: number): Promise<void> {
    const load = async (part: Part) => {
      if (await this.#hasBlocks(part.window)) await this.#fill(part)
    }
    await Promise.all(partsOf(offset, length).map((part) => load(part).catch(() => {})))
  }

  /** Learns where the blocks lie before anybody asks: a group of windows a step. Throws as reads do. */
  async *learn(sizeBytes: number): AsyncGenerator<void> {
    const groups = Math.min(Math.ceil(sizeBytes / (WINDOW_BYTES * GROUP)), GROUPS_LEARNED)
    for (let group = 0; group < groups; group++) {
      await this.#group(group)
      yield
    }
  }

  /** Undefined where the whole window reads as zeros. */
  async #read(part: Part, signal: AbortSignal | undefined): Promise<BodyHandle | undefined> {
    for (;;) {
      const hasBlocks = await this.#hasBlocks(part.window)
      this.#loadNeighbours(part.window)
      if (!hasBlocks) return undefined
      await this.#fill(part)
      signal?.throwIfAborted()
      const bytes = this.reader.read(part.offset, part.length)
      // Very many readers at once push out each other's windows and blocks before they are read.
      if (bytes) return bytes
    }
  }

  /** Returns when all blocks of a part are there, whoever asked for them first. */
  async #fill({ window, offset, length }: Part): Promise<void> {
    const need = this.reader.need(offset, length)
    if (need?.missing) {
      const { leftOut, ...part } = need.missing
      throw new ImagerError(leftOut ? 'NOT_STORED' : 'NOT_READ', part)
    }
    if (!need || need.entries.length === 0) return
    const missing = await this.reader.fetch(window, need.entries)
    const blocks = missing.length > 0 ? this.reader.window(window) : null
    if (blocks) await this.#fillOtherwise(blocks, window, missing)
  }

  /** Fetches what the addon did not get: hedged, rebuilt from other shards, and waited for. */
  async #fillOtherwise(blocks: WindowHandle, window: number, entries: readonly number[]): Promise<void> {
    const key = (entry: number) => `${window} ${entry}`
    const coming = new Set(entries.flatMap((entry) => this.#coming.get(key(entry)) ?? []))
    for (const range of blocks.ranges(entries.filter((entry) => !this.#coming.has(key(entry))))) {
      const opened = this.#open(blocks, range).finally(() => {
        for (const entry of range.members) this.#coming.delete(key(entry))
      })
      for (const entry of range.members) this.#coming.set(key(entry), opened)
      coming.add(opened)
    }
    await Promise.all(coming)
  }

  async #open(blocks: WindowHandle, range: PackRange): Promise<void> {
    const { packs } = this.#snapshot
    await packs.open(
      [range],
      {
        placed: (members) => blocks.placed(members),
        sought: (members) => blocks.sought(members),
        open: (pieces, placed = blocks.placed(range.members)) => {
          const [starts, bodies] = [pieces.map((piece) => piece.start), pieces.map((piece) => piece.body)]
          return this.reader.open(blocks, placed, starts, bodies)
        },
      },
      { hedged: true },
    )
  }

  /** False where nothing of it was in use: it reads as zeros, as it does on the disk that was restored. */
  async #hasBlocks(number: number): Promise<boolean> {
    for (;;) {
      const known = this.reader.hasBlocks(number)
      if (known !== null) return known
      const load = this.#loads.get(number) ?? this.#load(number, number).finally(() => this.#loads.delete(number))
      this.#loads.set(number, load)
      await load
    }
  }

  /**
   * Loads the group of a window in the background, from the second window read on: a reader seldom stops there, and a
   * group costs few requests.
   */
  #loadNeighbours(number: number): void {
    this.#firstRead ??= number
    if (number === this.#firstRead) return
    this.#group(Math.floor(number / GROUP)).catch(() => {})
  }

  #group(group: number): Promise<void> {
    return this.#groups.getOrMake(group, () => this.#load(group * GROUP, (group + 1) * GROUP - 1))
  }

  /** Has the addon learn the windows from `first` to `last`. */
  async #load(first: number, last: number): Promise<void> {
    const { manifest, packs } = this.#snapshot
    const tree = this.#snapshot.tree(TREE.map, 0)
    const pages: ManifestPage[] = []
    const span = [first * WINDOW_BYTES, (last + 1) * WINDOW_BYTES - 1] as const
    const leaves = tree ? manifest.leaves(tree.top, tree.level, ...span) : []
    for await (const some of leaves) pages.push(...some)
    const locations = await manifest.locator.of(mapBirths(pages), () => mapIds(pages))
    await packs.prepare([...new Set(locations.stripes)])
    this.reader.learn(first, last, pages, locations)
  }
}

/** Bytes of one window. */
interface Part {
  readonly window: number
  readonly offset: number
  readonly length: number
}

function partsOf(offset: number, length: number): Part[] {
  const parts: Part[] = []
  const end = offset + length
  for (let at = offset; at < end; ) {
    const window = Math.floor(at / WINDOW_BYTES)
    const next = Math.min(end, (window + 1) * WINDOW_BYTES)
    parts.push({ window, offset: at, length: next - at })
    at = next
  }
  return parts
}
