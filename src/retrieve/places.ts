/**
 * Where records lie. A birth number names the stripe that a record was first stored in and its place among that stripe's
 * records, so the lengths of these are all there is to ask for. What is not told by stripe (it is another appliance's, or
 * less safe than its scheme, or the record was moved) is asked for by its signature.
 */
import { LOOKUP_IDS } from '../base/limits.js'
import { startsOf } from '../catalog/lengths.js'
import type { Catalog } from '../catalog/types.js'
import type { Births } from '../native.js'
import { ID_BYTES } from '../signatures/rows.js'
import { LruCache } from './cache.js'

/** Some 4 KiB each. */
const STRIPES_KEPT = 512

/** A place for each record, in order; stripe 0 where nobody knows. */
export interface Located {
  readonly stripes: Float64Array
  readonly offsets: Uint32Array
  readonly lengths: Uint32Array
}

export class Places {
  readonly #catalog: Pick<Catalog, 'records' | 'locate'>
  /** Where the records of a stripe begin, and the last one ends. */
  readonly #starts = new LruCache<number, Promise<Uint32Array>>(STRIPES_KEPT)

  constructor(catalog: Pick<Catalog, 'records' | 'locate'>) {
    this.#catalog = catalog
  }

  /** `ids` gives the signatures of the same records, 32 bytes each; it is asked only where they are needed. */
  async of({ stripes, ordinals }: Births, ids: () => Uint8Array): Promise<Located> {
    const count = stripes.length
    const [offsets, lengths] = [new Uint32Array(count), new Uint32Array(count)]
    const found = { stripes: new Float64Array(count), offsets, lengths }
    const known = await this.#startsOf(new Set(stripes))
    const unknown: number[] = []
    for (let at = 0; at < count; at++) {
      const stripe = stripes[at] as number
      const [starts, ordinal] = [known.get(stripe), ordinals[at] as number]
      const [start, end] = [starts?.[ordinal], starts?.[ordinal + 1]]
      if (start === undefined || end === undefined) {
        unknown.push(at)
        continue
      }
      found.stripes[at] = stripe
      offsets[at] = start
      lengths[at] = end - start
    }
    if (unknown.length > 0) await this.#ask(found, unknown, ids())
    return found
  }

  async #startsOf(stripes: Iterable<number>): Promise<Map<number, Uint32Array>> {
    const starts = new Map<number, Promise<Uint32Array>>()
    const absent: number[] = []
    for (const stripe of stripes) {
      const kept = this.#starts.get(stripe)
      if (kept) starts.set(stripe, kept)
      else absent.push(stripe)
    }
    const asked = absent.length > 0 ? this.#catalog.records(absent) : undefined
    for (const [at, stripe] of absent.entries()) {
      const own = async () => startsOf((await asked)?.[at] ?? new Uint32Array())
      starts.set(stripe, this.#starts.getOrMake(stripe, own))
    }
    return new Map(await Promise.all([...starts].map(async ([stripe, own]) => [stripe, await own] as const)))
  }

  /** By signature, those `at`. */
  async #ask(found: Located, at: readonly number[], ids: Uint8Array): Promise<void> {
    for (let from = 0; from < at.length; from += LOOKUP_IDS) {
      const some = at.slice(from, from + LOOKUP_IDS)
      const wanted = some.map((index) => ids.subarray(index * ID_BYTES, (index + 1) * ID_BYTES))
      const { stripes, offsets, lengths } = await this.#catalog.locate(Buffer.concat(wanted))
      for (const [place, index] of some.entries()) {
        found.stripes[index] = Number(stripes[place])
        found.offsets[index] = offsets[place] as number
        found.lengths[index] = lengths[place] as number
      }
    }
  }
}

export function joinBirths(parts: readonly Births[]): Births {
  const count = parts.reduce((sum, { stripes }) => sum + stripes.length, 0)
  const all = { stripes: new Float64Array(count), ordinals: new Uint32Array(count) }
  let at = 0
  for (const { stripes, ordinals } of parts) {
    all.stripes.set(stripes, at)
    all.ordinals.set(ordinals, at)
    at += stripes.length
  }
  return all
}
