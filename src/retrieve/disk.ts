/**
 * The disk of a snapshot. A window of it is a map page with the places of its blocks; windows and blocks are fetched when they
 * are first needed, once for all who wait for them, and kept while there is room. Blocks are opened, kept and put together
 * in the addon.
 */
import { ImagerError } from '../base/errors.js'
import { KiB, MiB } from '../base/units.js'
import {
  type Births,
  Body,
  type BodyHandle,
  DiskReader,
  type DiskReaderHandle,
  type ManifestPage,
  type VaultHandle,
  type WindowHandle,
} from '../native.js'
import { LruCache } from './cache.js'
import { TREE } from './manifest.js'
import type { OpenSnapshot } from './open.js'
import type { Piece } from './packs.js'
import { joinBirths } from './places.js'

/** What one map page speaks of (docs/formats/page.md). */
const WINDOW_BYTES = 8 * MiB
const BLOCK_CACHE_BYTES = 64 * MiB
/** 32 GiB of disk, some 10 KiB each. */
const WINDOWS_KEPT = 4096
/** Windows that are fetched together behind the first of them. */
const GROUP = 256
/** 16 GiB: what is read behind that finds room among the windows kept. */
const GROUPS_LEARNED = WINDOWS_KEPT / GROUP / 2
/** Blocks that lie closer than this in a pack come in one range. */
const GAP_BYTES = 32 * KiB

interface Window {
  readonly blocks: WindowHandle
  /** By entry: its block is on the way, which is not the addon's own. */
  readonly coming: Map<number, Promise<void>>
}

export class Disk {
  readonly #snapshot: OpenSnapshot
  /** Fetches what it can by itself, and answers the mount's reads with it. */
  readonly reader: DiskReaderHandle
  /** Nothing of a window was in use: it reads as zeros, as it does on the disk that was restored. */
  readonly #windows = new LruCache<number, Promise<Window | undefined>>(WINDOWS_KEPT)
  readonly #groups = new LruCache<number, Promise<void>>(WINDOWS_KEPT / GROUP)

  #firstRead: number | undefined

  constructor(snapshot: OpenSnapshot, vault: VaultHandle) {
    this.#snapshot = snapshot
    this.reader = new DiskReader(snapshot.lines, vault, BLOCK_CACHE_BYTES)
  }

  /** Exactly these bytes. Throws NOT_READ, NOT_RESTORABLE, CORRUPT. */
  async read(offset: number, length: number, signal?: AbortSignal): Promise<Buffer | BodyHandle> {
    const parts = partsOf(offset, length)
    const read = await Promise.all(parts.map((part) => this.#read(part, signal)))
    const [first] = read
    if (parts.length === 1 && first) return first
    return Buffer.concat(read.map((body, at) => body?.take() ?? Buffer.alloc((parts[at] as Part).length)))
  }

  /** Has the blocks ready for a read that will probably come. Never throws: the read itself will say what is wrong. */
  async prefetch(offset: number, length: number): Promise<void> {
    const load = async (part: Part) => {
      const window = await this.#window(part.window)
      this.reader.learn(part.window, window?.blocks)
      if (window) await this.#fill(window, part)
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

  async #read(part: Part, signal: AbortSignal | undefined): Promise<BodyHandle | undefined> {
    const window = await this.#window(part.window)
    this.#loadNeighbours(part.window)
    this.reader.learn(part.window, window?.blocks)
    if (!window) return undefined
    for (;;) {
      await this.#fill(window, part)
      signal?.throwIfAborted()
      const bytes = this.reader.read(window.blocks, part.offset, part.length)
      // Very many readers at once push out each other's blocks before they are read.
      if (bytes) return bytes
    }
  }

  /** Returns when all blocks of a part are there, whoever asked for them first. */
  async #fill(window: Window, { offset, length }: Part): Promise<void> {
    const { entries, unreadable } = this.reader.need(window.blocks, offset, length)
    if (unreadable) throw new ImagerError('NOT_READ', { ...unreadable })
    if (entries.length === 0) return
    const missing = await this.reader.fetch(window.blocks, entries)
    if (missing.entries.length === 0) return
    this.#snapshot.packs.avoidSilent(missing.silent)
    await this.#fillOtherwise(window, missing.entries)
  }

  /** From whoever has them, however long it takes: what the addon did not get at once. */
  async #fillOtherwise(window: Window, entries: readonly number[]): Promise<void> {
    const coming = new Set(entries.flatMap((entry) => window.coming.get(entry) ?? []))
    const absent = entries.filter((entry) => !window.coming.has(entry))
    for (const range of window.blocks.ranges(absent, GAP_BYTES)) {
      const opened = this.#open(window, range).finally(() => {
        for (const entry of range.entries) window.coming.delete(entry)
      })
      for (const entry of range.entries) window.coming.set(entry, opened)
      coming.add(opened)
    }
    await Promise.all(coming)
  }

  async #open({ blocks }: Window, range: ReturnType<WindowHandle['ranges']>[number]): Promise<void> {
    const { stripe, start, end } = range
    const { packs } = this.#snapshot
    const open = (entries: number[], pieces: Piece[]) => {
      const [starts, bodies] = [pieces.map((piece) => piece.start), pieces.map((piece) => piece.body)]
      return this.reader.open(blocks, entries, starts, bodies)
    }
    const bad = await open(range.entries, await packs.readSoon(stripe, start, end))
    if (bad.length === 0) return
    const sound = new Body(await packs.readSound(stripe, start, end))
    const worse = await open(bad, [{ start, body: sound }])
    if (worse.length === 0) return
    throw new ImagerError('CORRUPT', { what: `${worse.length} blocks of stripe ${stripe} do not verify from any host` })
  }

  #window(number: number): Promise<Window | undefined> {
    return this.#windows.getOrMake(number, async () => {
      const [window] = await this.#load(number, number)
      return window?.[1]
    })
  }

  /** Who reads a second window seldom stops there: its neighbours come with few questions, while it is used already. */
  #loadNeighbours(number: number): void {
    this.#firstRead ??= number
    if (number === this.#firstRead) return
    this.#group(Math.floor(number / GROUP)).catch(() => {})
  }

  #group(group: number): Promise<void> {
    return this.#groups.getOrMake(group, () => this.#loadGroup(group))
  }

  async #loadGroup(group: number): Promise<void> {
    const first = group * GROUP
    const found = new Map(await this.#load(first, first + GROUP - 1))
    for (let number = first; number < first + GROUP; number++) {
      void this.#windows.getOrMake(number, () => Promise.resolve(found.get(number)))
      this.reader.learn(number, found.get(number)?.blocks)
    }
  }

  /** The windows from `first` to `last` of which something was in use. */
  async #load(first: number, last: number): Promise<[number, Window][]> {
    const { manifest, packs } = this.#snapshot
    const tree = this.#snapshot.tree(TREE.map, 0)
    const pages: ManifestPage[] = []
    const span = [first * WINDOW_BYTES, (last + 1) * WINDOW_BYTES - 1] as const
    const leaves = tree ? manifest.leaves(tree.top, tree.level, ...span) : []
    for await (const some of leaves) pages.push(...some)
    const births = pages.map((page) => page.births())
    const ids = () => Buffer.concat(pages.map((page) => page.blockIds()))
    const { stripes, offsets, lengths } = await manifest.places.of(joinBirths(births), ids)
    await packs.prepare([...new Set(stripes)])
    let from = 0
    return pages.map((page, at) => {
      const own = [from, from + (births[at] as Births).stripes.length] as const
      from = own[1]
      const blocks = page.window(stripes.subarray(...own), offsets.subarray(...own), lengths.subarray(...own))
      return [Math.floor(page.firstOffset() / WINDOW_BYTES), { blocks, coming: new Map() }]
    })
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
