/** Pages of a manifest: fetched in one go for many, verified, decoded. Trees are walked from their tops down. */
import { ImagerError } from '../base/errors.js'
import {
  type ManifestPage,
  type PackRange,
  type PageRef,
  packRanges,
  type RecordLocations,
  type SoughtRecords,
  type VaultHandle,
} from '../native.js'
import type { RunsHandle } from '../stripes/names.js'
import { LruCache } from './cache.js'
import type { Locator } from './locator.js'
import { type PackReader, type Piece, placedAt } from './packs.js'

/** Pages that lie closer than this in a pack are fetched in one range. */
const GAP_BYTES = 64 * 1024
export const TREE = { map: 1, files: 2, directories: 3 } as const

/** A record's bytes in a pack. */
export interface Location {
  readonly stripe: number
  readonly offset: number
  readonly length: number
}

/** Pages of pages that are kept, some 100 KiB each. */
const INDEXES_KEPT = 64

export class ManifestReader {
  readonly #indexes = new LruCache<string, Promise<ManifestPage | undefined>>(INDEXES_KEPT)

  constructor(
    readonly locator: Locator,
    readonly packs: PackReader,
    readonly vault: VaultHandle,
    readonly names: RunsHandle,
  ) {}

  /** Where pages lie. */
  locate(refs: readonly PageRef[]): Promise<RecordLocations> {
    const births = BigUint64Array.from(refs, (ref) => ref.birth)
    return this.locator.of(births, () => soughtPages(refs).ids)
  }

  /** Throws CORRUPT for one that the catalog does not know or that does not verify, NOT_RESTORABLE. */
  async pages(refs: readonly PageRef[], signal?: AbortSignal): Promise<ManifestPage[]> {
    return await this.#open(refs, await this.locate(refs), signal)
  }

  /** A page of which a head says where it lies. */
  async pageAt(ref: PageRef, { stripe, offset, length }: Location, signal?: AbortSignal): Promise<ManifestPage> {
    const stripes = Float64Array.of(stripe)
    const locations = { stripes, offsets: Uint32Array.of(offset), lengths: Uint32Array.of(length) }
    const [page] = await this.#open([ref], locations, signal)
    return page as ManifestPage
  }

  async #open(
    refs: readonly PageRef[],
    locations: RecordLocations,
    signal: AbortSignal | undefined,
  ): Promise<ManifestPage[]> {
    if (locations.stripes.includes(0))
      throw new ImagerError('CORRUPT', { what: 'The catalog does not know a page of this snapshot' })
    await this.packs.prepare([...new Set(locations.stripes)])
    const pages = new Array<ManifestPage>(refs.length)
    const sought = (members: number[]) => soughtPages(members.map((at) => refs[at] as PageRef))
    const placed = (members: number[]) => placedAt(members, locations)
    const open = async (range: PackRange) => {
      const openFrom = async (pieces: Piece[], { members, at } = placed(range.members)) => {
        const wanted = members.map((member) => refs[member] as PageRef)
        const [starts, bodies] = [pieces.map(({ start }) => start), pieces.map(({ body }) => body)]
        const opened = await this.vault.openPages(wanted, at, starts, bodies, this.names)
        for (const [nth, page] of opened.entries()) if (page) pages[members[nth] as number] = page
        return members.filter((_, nth) => !opened[nth])
      }
      await this.packs.open([range], { placed, sought, open: openFrom }, { hedged: true, signal })
    }
    await Promise.all(packRanges(locations, GAP_BYTES).map(open))
    return pages
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

function soughtPages(refs: readonly PageRef[]): SoughtRecords {
  return { births: BigUint64Array.from(refs, (ref) => ref.birth), ids: Buffer.concat(refs.map((ref) => ref.id())) }
}
