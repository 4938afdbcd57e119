/**
 * Listings that go on where the last answer ended. The kernel names a position in a folder by a number; here that is the
 * position among the children. Children are fetched a batch at a time, and the names after which the batches of a folder
 * begin are remembered, so that each is fetched on its own: a snapshot's folders never change.
 */
import { LruCache } from '../retrieve/cache.js'
import type { Child } from '../retrieve/reader.js'
import type { NodeId } from './top.js'

export type FetchChildren = (after: Buffer | null, limit: number) => Promise<Child[]>

export interface Some<C extends Child = Child> {
  readonly children: readonly C[]
  /** The folder ends with the last of them. */
  readonly ended: boolean
}

/** A position in a folder: how many of its children come before. */
export interface Spot {
  readonly folder: NodeId
  readonly position: number
}

const BATCH_NAMES = 512
/** 128 batches of 512 names are about 10 MiB. */
const BATCHES_KEPT = 128
const FOLDERS = 128
/** Children whose position in their folder is remembered: so many, or twice as many; some 100 bytes each. */
const SPOTS = 16_384
const NONE: Some = { children: [], ended: true }

export class Folders {
  readonly #batches = new LruCache<string, Some>(BATCHES_KEPT)
  /** The name after which each batch of a folder begins, as far as that is known. */
  readonly #begins = new LruCache<string, (Buffer | null)[]>(FOLDERS)
  /**
   * Positions of the children that were listed last, in two generations: a full one becomes the older, which is dropped
   * whole. That costs less than an entry at a time.
   */
  #spots = new Map<string, Spot>()
  #older = new Map<string, Spot>()

  /** Some children from `position` on, at least one unless the folder ends there. */
  async from(folder: NodeId, position: number, fetch: FetchChildren): Promise<Some> {
    const begins = this.#begins.getOrMake(keyOf(folder), () => [null])
    const wanted = Math.floor(position / BATCH_NAMES)
    for (let at = Math.min(wanted, begins.length - 1); ; at++) {
      const { children, ended } = await this.#batch(folder, at, begins[at] ?? null, fetch)
      if (at === wanted) return { children: children.slice(position - at * BATCH_NAMES), ended }
      const last = children.at(-1)
      if (ended || !last) return NONE
      // A copy: the name is part of all those of its batch.
      begins[at + 1] = Buffer.from(last.name)
    }
  }

  /** Where a child was listed, if that was lately. */
  whereIs(child: NodeId): Spot | undefined {
    const key = keyOf(child)
    return this.#spots.get(key) ?? this.#older.get(key)
  }

  async #batch(folder: NodeId, at: number, after: Buffer | null, fetch: FetchChildren): Promise<Some> {
    const key = `${keyOf(folder)}/${at}`
    const kept = this.#batches.get(key)
    if (kept) return kept
    const children = await fetch(after, BATCH_NAMES)
    const batch = { children, ended: children.length < BATCH_NAMES }
    this.#batches.set(key, batch)
    if (this.#spots.size >= SPOTS) {
      this.#older = this.#spots
      this.#spots = new Map()
    }
    for (const [index, { number }] of children.entries()) {
      this.#spots.set(keyOf({ volume: folder.volume, number }), { folder, position: at * BATCH_NAMES + index })
    }
    return batch
  }
}

function keyOf({ volume, number }: NodeId): string {
  return `${volume}/${number}`
}
