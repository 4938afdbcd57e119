/**
 * Who reads files in the order in which folders list them, and enters a folder where it is listed, will go on so: tar,
 * grep -r. What comes next, in this folder and the following ones, is asked for while the reader is busy, so that it does
 * not wait for one file after the other. Only a hint: nothing waits for it and it never fails.
 */
import { KiB, MiB } from '../base/units.js'
import type { Child, DiskRange, Stream } from '../retrieve/reader.js'
import { diskRanges, planRead } from '../retrieve/stream.js'
import type { Spot } from './folders.js'
import type { NodeId } from './top.js'

/** How far ahead of its reader a walk is: it begins with little, and doubles with each file that was foreseen. */
const FIRST_BYTES = MiB
const MOST_BYTES = 8 * MiB
/** What a file weighs at least, so that very many small ones are bounded too. */
const LEAST_BYTES = 4 * KiB
/** Children looked at in one go. */
const STEPS = 512
/** The same as long as the reader has come to no file that was foreseen. */
const FIRST_STEPS = 32
/** Ranges that lie closer than this on the disk are one. */
const GAP_BYTES = 64 * KiB
/** What is asked for in one go: more would come late, and lie in memory twice as long as it is opened. */
const PART_BYTES = MiB
/** Readers followed at once. */
const WALKS = 8

export interface Listings {
  whereIs(node: NodeId): Spot | undefined
  /** Some children from there on; none: the folder ends there. */
  children(spot: Spot): Promise<readonly Child[]>
  content(node: NodeId): Promise<Stream | undefined>
  prefetch(offset: number, length: number): void
}

export class Walks {
  readonly #listings: Listings
  /** Least recently used first. */
  readonly #walks: Walk[] = []

  constructor(listings: Listings) {
    this.#listings = listings
  }

  /** A file of `size` bytes was read as far as `end`. True: its reader is followed. */
  read(node: NodeId, end: number, size: number): boolean {
    const key = keyOf(node)
    const known = this.#walks.findIndex((walk) => walk.meets(key))
    const [met] = known < 0 ? [] : this.#walks.splice(known, 1)
    const walk = met?.read(key) ? met : this.#begin(node, met !== undefined)
    if (!walk) return false
    this.#walks.push(walk)
    if (this.#walks.length > WALKS) this.#walks.shift()
    walk.goOn(Math.max(0, size - end))
    return walk.sure
  }

  #begin(node: NodeId, sure: boolean): Walk | undefined {
    const spot = this.#listings.whereIs(node)
    return spot && new Walk(this.#listings, keyOf(node), behind(spot), sure)
  }
}

class Walk {
  readonly #listings: Listings
  /** Key of the file that is being read. */
  #key: string
  /** Where the next files are looked for; undefined at the end of the tree. */
  #spot: Spot | undefined
  /** The reader came to a file that was foreseen. Before that nothing is prefetched. */
  readonly sure: boolean
  /** The next files in order, with what was asked for of each. */
  readonly #ahead = new Map<string, number>()
  #aheadBytes = 0
  /** How far ahead of its reader the walk asks, in bytes. */
  #aheadLimitBytes = FIRST_BYTES
  #busy = false

  constructor(listings: Listings, key: string, spot: Spot, sure: boolean) {
    this.#listings = listings
    this.#key = key
    this.#spot = spot
    this.sure = sure
  }

  meets(key: string): boolean {
    return key === this.#key || this.#ahead.has(key)
  }

  /**
   * Moves on to a file that it meets. False where that is the first one that was foreseen: a new, sure walk begins
   * there.
   */
  read(key: string): boolean {
    if (key === this.#key) return true
    if (!this.sure) return false
    this.#key = key
    let passed = 0
    for (const [one, bytes] of this.#ahead) {
      this.#ahead.delete(one)
      this.#aheadBytes -= bytes
      if (one === key) break
      passed += bytes
    }
    // A reader who chooses among the files is not fetched in masses what it does not want.
    const limit = passed > this.#aheadLimitBytes / 4 ? this.#aheadLimitBytes / 2 : this.#aheadLimitBytes * 2
    this.#aheadLimitBytes = Math.min(MOST_BYTES, Math.max(FIRST_BYTES, limit))
    return true
  }

  /** `rest` bytes of the file that is being read are still to come. */
  goOn(rest: number): void {
    if (this.#busy || rest + this.#aheadBytes > this.#aheadLimitBytes / 2) return
    this.#busy = true
    this.#extend(rest)
      .catch(() => undefined)
      .finally(() => {
        this.#busy = false
      })
  }

  async #extend(rest: number): Promise<void> {
    const ranges: DiskRange[] = []
    const enough = () => rest + this.#aheadBytes > this.#aheadLimitBytes
    let steps = this.sure ? STEPS : FIRST_STEPS
    while (this.#spot && steps > 0 && !enough()) {
      const spot: Spot = this.#spot
      const children = (await this.#listings.children(spot)).slice(0, steps)
      const above = this.#listings.whereIs(spot.folder)
      if (children.length === 0) this.#spot = above && behind(above)
      steps--
      for (const [at, { kind, number }] of children.entries()) {
        const node = { volume: spot.folder.volume, number }
        this.#spot = { folder: spot.folder, position: spot.position + at + 1 }
        steps--
        if (kind === 'file') ranges.push(...(await this.#add(node)))
        if (kind === 'directory') this.#spot = { folder: node, position: 0 }
        if (kind === 'directory' || enough()) break
      }
    }
    for (const { start, length } of joined(ranges)) {
      for (let at = 0; at < length; at += PART_BYTES) {
        this.#listings.prefetch(start + at, Math.min(PART_BYTES, length - at))
      }
    }
  }

  async #add(node: NodeId): Promise<DiskRange[]> {
    const key = keyOf(node)
    this.#weigh(key, LEAST_BYTES)
    const content = this.sure && (await this.#listings.content(node))
    // It was passed meanwhile, or holds nothing.
    if (!content || !this.#ahead.has(key)) return []
    const bytes = Math.min(content.size, this.#aheadLimitBytes)
    this.#weigh(key, Math.max(bytes, LEAST_BYTES))
    return [...diskRanges(planRead(content, 0, bytes))].map(({ disk, length }) => ({ start: disk, length }))
  }

  #weigh(key: string, bytes: number): void {
    this.#aheadBytes += bytes - (this.#ahead.get(key) ?? 0)
    this.#ahead.set(key, bytes)
  }
}

function behind({ folder, position }: Spot): Spot {
  return { folder, position: position + 1 }
}

function keyOf({ volume, number }: NodeId): string {
  return `${volume}/${number}`
}

function joined(ranges: readonly DiskRange[]): DiskRange[] {
  const whole: DiskRange[] = []
  for (const { start, length } of [...ranges].sort((a, b) => a.start - b.start)) {
    const last = whole.at(-1)
    const end = last ? last.start + last.length : 0
    if (last && start <= end + GAP_BYTES) {
      whole[whole.length - 1] = { start: last.start, length: Math.max(end, start + length) - last.start }
    } else {
      whole.push({ start, length })
    }
  }
  return whole
}
