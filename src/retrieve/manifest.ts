/** Pages of a manifest: fetched in one go for many, verified, decoded. Trees are walked from their tops down. */
import { hasCode, ImagerError } from '../base/errors.js'
import type { ManifestPage, PageRef, VaultHandle } from '../native.js'
import { LruCache } from './cache.js'
import type { PackReader } from './packs.js'
import type { Located, Places } from './places.js'

/** Pages that lie closer than this in a pack are fetched in one range. */
const GAP_BYTES = 64 * 1024
export const TREE = { map: 1, files: 2, directories: 3 } as const

/** A record's place in a pack. */
export interface Place {
  readonly stripe: number
  readonly offset: number
  readonly length: number
}

function placesOf({ stripes, offsets, lengths }: Located): Place[] {
  return Array.from(stripes, (stripe, at) => ({ stripe, offset: offsets[at] ?? 0, length: lengths[at] ?? 0 }))
}

/** Ranges of packs that hold all of `places`, neighbours joined; each with the indexes of the places it holds. */
export function joinPlaces(places: readonly Place[], gapBytes: number): (Place & { members: number[] })[] {
  const order = places.map((_, index) => index)
  const at = (index: number) => places[index] as Place
  order.sort((a, b) => at(a).stripe - at(b).stripe || at(a).offset - at(b).offset)
  const joined: (Place & { members: number[] })[] = []
  for (const index of order) {
    const place = at(index)
    const last = joined.at(-1)
    if (last && last.stripe === place.stripe && place.offset <= last.offset + last.length + gapBytes) {
      const end = Math.max(last.offset + last.length, place.offset + place.length)
      joined[joined.length - 1] = { ...last, length: end - last.offset, members: [...last.members, index] }
    } else {
      joined.push({ ...place, members: [index] })
    }
  }
  return joined
}

/** Pages of pages that are kept, some 100 KiB each. */
const INDEXES_KEPT = 64

export class ManifestReader {
  readonly #indexes = new LruCache<string, Promise<ManifestPage | undefined>>(INDEXES_KEPT)

  constructor(
    readonly places: Places,
    readonly packs: PackReader,
    readonly vault: VaultHandle,
  ) {}

  /** Where pages lie. */
  locate(refs: readonly PageRef[]): Promise<Located> {
    const stripes = Float64Array.from(refs, (ref) => ref.stripe)
    const ordinals = Uint32Array.from(refs, (ref) => ref.ordinal)
    return this.places.of({ stripes, ordinals }, () => Buffer.concat(refs.map((ref) => ref.id())))
  }

  async pages(refs: readonly PageRef[], signal?: AbortSignal): Promise<ManifestPage[]> {
    const places = placesOf(await this.locate(refs))
    if (places.some((place) => place.stripe === 0)) {
      throw new ImagerError('CORRUPT', { what: 'The catalog does not know a page of this snapshot' })
    }
    await this.packs.prepare([...new Set(places.map((place) => place.stripe))])
    const pages = new Array<ManifestPage>(refs.length)
    await Promise.all(
      joinPlaces(places, GAP_BYTES).map(async ({ stripe, offset, length, members }) => {
        const bytes = await this.packs.read(stripe, offset, offset + length, signal)
        await Promise.all(
          members.map(async (index) => {
            const place = places[index] as Place
            const record = bytes.subarray(place.offset - offset, place.offset - offset + place.length)
            pages[index] = await this.openPage(refs[index] as PageRef, record, place, signal)
          }),
        )
      }),
    )
    return pages
  }

  /** Where the record does not verify, once more from sound shards. */
  async openPage(ref: PageRef, record: Buffer, place: Place, signal?: AbortSignal): Promise<ManifestPage> {
    try {
      return await this.vault.openPage(ref, record)
    } catch (error) {
      if (!hasCode(error, 'FORGED', 'UNSUPPORTED')) throw error
      const { stripe, offset, length } = place
      return this.vault.openPage(ref, await this.packs.readSound(stripe, offset, offset + length, signal))
    }
  }

  /** The leaves whose keys meet `first..=last`, below a page of `level`, in order and a parent page at a time. */
  async *leaves(
    top: PageRef,
    level: number,
    first: number,
    last: number,
    signal?: AbortSignal,
  ): AsyncGenerator<ManifestPage[]> {
    const page = level === 0 ? (await this.pages([top], signal))[0] : await this.#index(top)
    if (page) yield* this.#below(page, level, first, last, signal)
  }

  /** Walks begin at the same few pages again and again. */
  #index(ref: PageRef): Promise<ManifestPage | undefined> {
    return this.#indexes.getOrMake(ref.id().toString('latin1'), async () => (await this.pages([ref]))[0])
  }

  async *#below(
    page: ManifestPage,
    level: number,
    first: number,
    last: number,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<ManifestPage[]> {
    if (level === 0) {
      yield [page]
      return
    }
    const refs = page.children(first, last)
    if (level === 1) yield await this.pages(refs, signal)
    else for (const ref of refs) yield* this.leaves(ref, level - 1, first, last, signal)
  }
}
