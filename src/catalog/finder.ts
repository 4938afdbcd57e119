/** Looks signatures up: of several places of one the best that is committed, or the one where it was first stored. */
import type { FoundLocations, SignatureRepository } from '../signatures/repository.js'
import { ID_BYTES } from '../signatures/rows.js'
import type { Stripes } from './stripes.js'
import { STRIPE_WIDTH } from './types.js'

/** Looked up in one go: some 20 ms where the segments lie in the page cache. */
const PART = 8192
/** Tolerated: also stripes of which too little is left. Whoever reads finds out what is missing. */
export const ANY = -1
/** Above what any stripe survives. */
const OWN_RANK = 2 * STRIPE_WIDTH
const NONE: ReadonlySet<number> = new Set()

export class Finder {
  readonly #signatures: SignatureRepository
  readonly #stripes: Stripes

  constructor(signatures: SignatureRepository, stripes: Stripes) {
    this.#signatures = signatures
    this.#stripes = stripes
  }

  /**
   * In stripes that survive the loss of `tolerate` hosts; `own`: in which each was first stored, which counts before all others
   * while it can be read; `except`: stripes that do not count; `mine`: which count before those of others, as who stored a record need
   * not prove it. A part at a time: between two of them the event loop serves other calls.
   */
  async *of(
    ids: Uint8Array,
    tolerate: number,
    own: readonly number[] = [],
    except: ReadonlySet<number> = NONE,
    mine: (stripe: number) => boolean = () => false,
  ): AsyncGenerator<{ at: number; locations: FoundLocations }> {
    for (let at = 0; at * ID_BYTES < ids.length; at += PART) {
      const survival = this.#stripes.survival()
      const rank = (stripe: number, nth: number): number => {
        if (except.has(stripe)) return -1
        const survives = survival.of(stripe)
        // What its writer made of it counts before what others say to hold the same.
        if (survives >= 0 && stripe === own[at + nth]) return OWN_RANK
        if (survives < tolerate) return -1
        return survives - ANY + (mine(stripe) ? STRIPE_WIDTH : 0)
      }
      const locations = await this.#signatures.find(ids.subarray(at * ID_BYTES, (at + PART) * ID_BYTES), rank)
      yield { at, locations }
    }
  }
}
