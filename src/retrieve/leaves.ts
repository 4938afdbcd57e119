/**
 * The leaves of one tree of a manifest, fetched when they are first needed. With each come those around it, which lie
 * beside it in a pack: whoever looks at one file looks at its neighbours next. What is kept is bounded by what the
 * pages hold, for all trees together; what is under way is shared by all who wait for it, and a failure is forgotten.
 */
import { MiB } from '../base/units.js'
import type { IndexKeys, ManifestPage, PageRef } from '../native.js'
import type { ManifestReader } from './manifest.js'
import type { Tree } from './open.js'

/** Leaves that are fetched in one go, at most: some 8,000 files. As many again are fetched ahead. */
const BATCH_LEAVES = 32
/** A batch takes at most this part of the cache: what came ahead must still be there when it is asked for. */
const PART = 1 / 8
/** Of a tree none of whose leaves came yet; most are far smaller. */
const LEAF_BYTES = MiB

type Numbers = readonly number[] | Float64Array

interface Page {
  readonly page: ManifestPage
  /** Of an index page. */
  readonly index: Index | undefined
}

interface Index {
  /** Of the pages that it names; 0 are leaves. */
  readonly level: number
  readonly keys: IndexKeys
  ref(at: number): PageRef
}

/** Where a leaf is to be had, and the numbers that it covers. */
export interface Leaf {
  readonly index: Index
  readonly at: number
  readonly first: number
  readonly last: number
}

export class Leaves {
  readonly #manifest: Pick<ManifestReader, 'pages'>
  readonly #name: string
  readonly #kept: PageCache
  /** Above the topmost page. */
  readonly #root: Index
  /** Of the leaf that came last. */
  #leafBytes = LEAF_BYTES

  /** Without a tree there is nothing. `name` tells the tree from others that share the cache. */
  constructor(manifest: Pick<ManifestReader, 'pages'>, tree: Tree | undefined, name: string, kept: PageCache) {
    this.#manifest = manifest
    this.#name = name
    this.#kept = kept
    const only = (value: number) => Float64Array.from(tree ? [value] : [])
    const births = BigUint64Array.from(tree ? [0n] : [])
    const keys = { firsts: only(0), lasts: only(Number.MAX_SAFE_INTEGER), births }
    this.#root = { level: tree?.level ?? 0, keys, ref: () => tree?.top as PageRef }
  }

  /** The leaves that may hold something of these numbers, which ascend; each leaf once, in order. */
  async of(numbers: Numbers): Promise<Leaf[]> {
    let found = meeting(this.#root, numbers)
    for (let level = this.#root.level; level > 0; level--) {
      const pages = await Promise.all(found.map((at) => this.#page(at)))
      found = pages.flatMap(({ index }) => (index ? meeting(index, numbers) : []))
    }
    return found
  }

  async page(leaf: Leaf): Promise<ManifestPage> {
    return (await this.#page(leaf)).page
  }

  #page({ index, at }: Leaf): Promise<Page> {
    const key = this.#key(index, at)
    const kept = this.#kept.get(key)
    if (kept) return kept
    const batch = Math.max(1, Math.min(BATCH_LEAVES, Math.floor((this.#kept.capacityBytes * PART) / this.#leafBytes)))
    const from = at - (at % batch)
    this.#fetch(index, from, from + batch)
    this.#fetch(index, from + batch, from + 2 * batch)
    return this.#kept.get(key) as Promise<Page>
  }

  /** Begins with what is not there yet of a batch. */
  #fetch(index: Index, from: number, to: number): void {
    const absent: number[] = []
    for (let at = from; at < Math.min(to, index.keys.births.length); at++) {
      if (!this.#kept.get(this.#key(index, at))) absent.push(at)
    }
    if (absent.length === 0) return
    const refs = absent.map((at) => index.ref(at))
    const batch = this.#manifest.pages(refs)
    for (const [nth, at] of absent.entries()) {
      const page = batch.then(
        (pages) => pages[nth],
        // One that cannot be had must not hide its neighbours.
        async () => (await this.#manifest.pages([refs[nth] as PageRef]))[0],
      )
      this.#kept.set(
        this.#key(index, at),
        page.then((page) => this.#opened(page as ManifestPage, index.level)),
      )
    }
  }

  #opened(page: ManifestPage, level: number): Page {
    if (level > 0) return { page, index: { level: level - 1, keys: page.keys(), ref: (at) => page.entry(at) } }
    this.#leafBytes = page.memoryBytes
    return { page, index: undefined }
  }

  #key({ keys }: Index, at: number): string {
    return `${this.#name} ${keys.births[at]}`
  }
}

interface Kept {
  readonly page: Promise<Page>
  /** 0 until it came. */
  bytes: number
}

/** The pages that were used last. */
export class PageCache {
  readonly #kept = new Map<string, Kept>()
  #bytes = 0

  constructor(readonly capacityBytes: number) {}

  get(key: string): Promise<Page> | undefined {
    const kept = this.#kept.get(key)
    if (!kept) return undefined
    this.#kept.delete(key)
    this.#kept.set(key, kept)
    return kept.page
  }

  set(key: string, page: Promise<Page>): void {
    const kept = { page, bytes: 0 }
    this.#kept.set(key, kept)
    page.then(
      ({ page }) => {
        if (this.#kept.get(key) === kept) this.#weigh(kept, page.memoryBytes)
      },
      () => {
        if (this.#kept.get(key) === kept) this.#kept.delete(key)
      },
    )
  }

  #weigh(kept: Kept, bytes: number): void {
    kept.bytes = bytes
    this.#bytes += bytes
    for (const [key, oldest] of this.#kept) {
      if (this.#bytes <= this.capacityBytes) return
      this.#kept.delete(key)
      this.#bytes -= oldest.bytes
    }
  }
}

function meeting(index: Index, numbers: Numbers): Leaf[] {
  const { firsts, lasts } = index.keys
  const found: Leaf[] = []
  let at = 0
  for (const number of numbers) {
    at = endsBy(lasts, number, at)
    for (; at < firsts.length && (firsts[at] as number) <= number; at++) {
      found.push({ index, at, first: firsts[at] as number, last: lasts[at] as number })
    }
  }
  return found
}

/** The first entry from `low` on that does not end before the number. */
function endsBy(lasts: Float64Array, number: number, low: number): number {
  for (let high = lasts.length; low < high; ) {
    const middle = (low + high) >> 1
    if ((lasts[middle] as number) < number) low = middle + 1
    else high = middle
  }
  return low
}
