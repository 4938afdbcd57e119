/**
 * The walk down a manifest: its index pages and its map. What it counts is what the manifest names; leaves of files and directories
 * name nothing, and are not fetched. Who signed the manifest may be in wrong hands, so the walk is bounded by what it is allowed to
 * name: a page that the head's bitmap does not name is refused, and none is fetched twice.
 */
import { ImagerError } from '../../base/errors.js'
import type { NamedBirths } from '../../catalog/references.js'
import type { ManifestPage, PageRef, ReferenceSet } from '../../native.js'
import { type ManifestReader, TREE } from '../../retrieve/manifest.js'

export interface WalkParts {
  readonly manifest: Pick<ManifestReader, 'pages' | 'locate'>
  /** Takes all that the manifest names. */
  readonly references: Pick<InstanceType<typeof ReferenceSet>, 'addBirth' | 'addPage'>
  /** Undefined where no peer that answers has the bitmap. */
  readonly named: NamedBirths | undefined
  /** A map page was reached; gives how many of its blocks are in no stripe that is here. */
  readonly findBlocks: (page: ManifestPage) => Promise<number>
  /** Fetched in one go. */
  readonly pagesAtOnce: number
  readonly signal: AbortSignal
}

interface Range {
  readonly first: number
  readonly last: number
}

/** A page that is not fetched yet, and which keys it may have. */
interface Below extends Range {
  readonly ref: PageRef
}

const EVERYTHING: Range = { first: 0, last: Number.POSITIVE_INFINITY }

export class Walk {
  allocatedBytes = 0
  blocks = 0
  /** Blocks of which no stripe that is here has the record. */
  unplaced = 0
  readonly #parts: WalkParts
  /** Of which tree and level each page is that was fetched, by its birth. */
  readonly #walked = new Map<bigint, number>()

  constructor(parts: WalkParts) {
    this.#parts = parts
  }

  /** Throws FORGED for a manifest that no honest run writes, CORRUPT where a page is not to be had. */
  async below(root: ManifestPage, rootBirth: bigint): Promise<void> {
    this.#requireNamed(rootBirth)
    this.#parts.references.addBirth(rootBirth)
    this.#parts.references.addPage(root)
    const trees = new Set<string>()
    for (const [at, { tree, volume, level }] of root.tops().entries()) {
      if (trees.has(`${tree} ${volume}`)) throw forged('names a tree twice')
      trees.add(`${tree} ${volume}`)
      const top = root.top(at)
      if (level > 0 || tree === TREE.map) await this.#visit([{ ref: top, ...EVERYTHING }], tree, level, new Set())
      else await this.#requireLeaves([top])
    }
  }

  /** `seen`: births of the pages of this tree so far. */
  async #visit(all: readonly Below[], tree: number, level: number, seen: Set<bigint>): Promise<void> {
    const due = all.filter(({ ref }) => this.#isNew(ref.birth, tree, level, seen))
    const { manifest, pagesAtOnce, signal } = this.#parts
    for (let from = 0; from < due.length; from += pagesAtOnce) {
      const some = due.slice(from, from + pagesAtOnce)
      const pages = await manifest.pages(
        some.map(({ ref }) => ref),
        signal,
      )
      for (const [at, page] of pages.entries()) {
        this.#parts.references.addPage(page)
        if (level === 0) await this.#countMap(page)
        else await this.#descend(page, some[at] as Below, tree, level, seen)
      }
    }
  }

  /** Two volumes that are copies share pages: those are walked once. Throws FORGED for what no honest tree names. */
  #isNew(birth: bigint, tree: number, level: number, seen: Set<bigint>): boolean {
    this.#requireNamed(birth)
    if (seen.has(birth)) throw forged('names one page twice')
    seen.add(birth)
    const place = tree * 256 + level
    const known = this.#walked.get(birth)
    if (known !== undefined && known !== place) throw forged('names one page in two levels')
    this.#walked.set(birth, place)
    return known === undefined
  }

  async #descend(page: ManifestPage, within: Below, tree: number, level: number, seen: Set<bigint>): Promise<void> {
    const children = childRanges(page, within).map((range, at) => ({ ...range, ref: page.entry(at) }))
    if (level > 1 || tree === TREE.map) await this.#visit(children, tree, level - 1, seen)
    else await this.#requireLeaves(children.map(({ ref }) => ref))
  }

  async #countMap(page: ManifestPage): Promise<void> {
    const { bytes, pieces } = page.mapped()
    this.allocatedBytes += bytes
    this.blocks += pieces
    this.unplaced += await this.#parts.findBlocks(page)
  }

  /** Leaves are not fetched here, but a listing will need them. */
  async #requireLeaves(refs: readonly PageRef[]): Promise<void> {
    for (const { birth } of refs) this.#requireNamed(birth)
    const { stripes } = await this.#parts.manifest.locate(refs)
    if (stripes.includes(0)) {
      throw new ImagerError('CORRUPT', { what: 'A page of its files is in no stripe that is here' })
    }
  }

  #requireNamed(birth: bigint): void {
    if (this.#parts.named?.has(birth) === false) throw forged("names a page that is not in its head's bitmap")
  }
}

/** Of each child its keys, which lie within the parent's and ascend; neighbours may share one. Throws FORGED. */
export function childRanges(page: Pick<ManifestPage, 'keys'>, within: Range): Range[] {
  const { firsts, lasts } = page.keys()
  let least = within.first
  return Array.from(firsts, (first, at) => {
    const last = lasts[at] as number
    if (!(first >= least && last >= first && last <= within.last)) throw forged('names a page out of its order')
    least = last
    return { first, last }
  })
}

function forged(what: string): ImagerError {
  return new ImagerError('FORGED', { what: `Its manifest ${what}` })
}
