/**
 * The reference bitmaps of heads, from whichever peer has the right one. Nothing a peer says is believed: what comes out has the
 * hash that a head says. What builds on others is put together from the bitmaps of other heads, which are proved the same way.
 */
import { isOfHost } from '../../base/errors.js'
import { type Hex, toHex } from '../../base/ids.js'
import { BITMAP_CHAIN } from '../../base/limits.js'
import { Slots } from '../../base/queue.js'
import { applyDelta, parentOf } from '../../keys/bitmap.js'
import { type Head, headName } from '../../keys/head.js'
import { hash } from '../../native.js'
import type { PeerClient } from '../../peers/client.js'
import { LruCache } from '../../retrieve/cache.js'

export interface BitmapParts {
  /** Of the peers that answer. */
  readonly hosts: readonly Hex[]
  readonly peer: (host: Hex) => Pick<PeerClient, 'fetchDocument'>
  /** All that were found: what a bitmap builds on has one too. */
  readonly heads: readonly Pick<Head, 'appliance' | 'snapshot' | 'references'>[]
  readonly signal: AbortSignal
}

/** As many as one may be built of. */
const KEPT = BITMAP_CHAIN

export class Bitmaps {
  readonly #parts: BitmapParts
  /** By the hash that a head says. */
  readonly #kept = new LruCache<string, Buffer>(KEPT)
  /** Hashes of those that no peer has, or that are being looked for: peers may have them build on each other in a circle. */
  readonly #absent = new Set<Hex>()
  readonly #hashes = new Map<string, Hex[]>()
  /** One at a time is put together, or two would wait for each other. */
  readonly #turns = new Slots(1)
  /** By host and name: under way, or here and not looked at. */
  readonly #early = new Map<string, Promise<Buffer | undefined>>()

  constructor(parts: BitmapParts) {
    this.#parts = parts
    for (const head of parts.heads) {
      const name = headName(head)
      this.#hashes.set(name, [...(this.#hashes.get(name) ?? []), head.references])
    }
  }

  /**
   * Undefined where no peer that answers has it. May be asked for several at once: they are fetched at once, and put together one
   * after the other.
   */
  async of({ appliance, snapshot, references }: Pick<Head, 'appliance' | 'snapshot' | 'references'>) {
    const [first] = this.#parts.hosts
    const name = headName({ appliance, snapshot })
    if (first !== undefined && !this.#kept.get(references) && !this.#absent.has(references)) {
      const early = this.#fetch(first, name)
      // Whoever takes it hears of its failure.
      early.catch(() => {})
      this.#early.set(`${first} ${name}`, early)
    }
    try {
      return await this.#turns.run(() => this.#find(appliance, snapshot, references))
    } finally {
      this.#early.delete(`${first} ${name}`)
    }
  }

  #fetch(host: Hex, name: string): Promise<Buffer | undefined> {
    const { peer, signal } = this.#parts
    return this.#early.get(`${host} ${name}`) ?? peer(host).fetchDocument('bitmap', name, { signal })
  }

  async #find(appliance: Hex, snapshot: Hex, references: Hex): Promise<Buffer | undefined> {
    const kept = this.#kept.get(references)
    if (kept || this.#absent.has(references)) return kept
    this.#absent.add(references)
    for (const host of this.#parts.hosts) {
      const whole = await this.#from(host, appliance, snapshot, references)
      if (!whole) continue
      this.#absent.delete(references)
      this.#kept.set(references, whole)
      return whole
    }
    return undefined
  }

  /** What one peer has of it, where it is right. */
  async #from(host: Hex, appliance: Hex, snapshot: Hex, references: Hex): Promise<Buffer | undefined> {
    const { signal } = this.#parts
    const name = headName({ appliance, snapshot })
    const isRight = (whole: Buffer) => toHex(hash(whole)) === references
    try {
      const bytes = await this.#fetch(host, name)
      const parent = bytes && parentOf(bytes)
      if (!bytes || parent === undefined) return bytes && isRight(bytes) ? bytes : undefined
      for (const hash of this.#hashes.get(headName({ appliance, snapshot: parent })) ?? []) {
        const before = await this.#find(appliance, parent, hash)
        const whole = before && applyDelta(bytes, before)
        if (whole && isRight(whole)) return whole
      }
      return undefined
    } catch (error) {
      signal.throwIfAborted()
      if (!isOfHost(error)) throw error
      return undefined
    }
  }
}
