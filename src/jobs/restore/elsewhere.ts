/**
 * A snapshot of which stripes are lost may be whole all the same: what they held may have been stored again. Where it was not, because
 * hosts are only switched off, the first block that is nowhere else says so: the map is read from its beginning, in pieces that grow.
 */
import type { Hex } from '../../base/ids.js'
import { GiB, MiB } from '../../base/units.js'
import type { Catalog } from '../../catalog/types.js'
import { type ManifestPage, mapBirths, mapIds } from '../../native.js'
import type { Locator } from '../../retrieve/locator.js'
import { TREE } from '../../retrieve/manifest.js'
import type { OpenSnapshot } from '../../retrieve/open.js'
import { PLACES_TRIED } from '../../retrieve/packs.js'
import { ID_BYTES } from '../../signatures/rows.js'
import { findOutlook } from '../../stripes/suffice.js'

/** Stripes that one question to the catalog may except. Where the blocks of one piece are in more that are lost, hosts are missing. */
export const MOST_LOST = 1000
/** Of the disk, in one piece: the first, and the largest, whose map is some 100 MB. */
const FIRST_BYTES = 64 * MiB
const MOST_BYTES = 8 * GiB

export interface ElsewhereParts {
  readonly catalog: Pick<Catalog, 'stripes'>
  readonly locator: Pick<Locator, 'elsewhere'>
  readonly lost: readonly number[]
  readonly absent: ReadonlySet<Hex>
}

/** Is each block of the lost stripes in another one, which the hosts that are there give? Reads the whole map only where it is. */
export async function isElsewhere(
  snapshot: OpenSnapshot,
  parts: Omit<ElsewhereParts, 'locator'>,
  signal: AbortSignal,
): Promise<boolean> {
  const { manifest } = snapshot
  for await (const pages of mapPages(snapshot, signal)) {
    if (!(await areElsewhere(mapBirths(pages), mapIds(pages), { ...parts, locator: manifest.locator }))) return false
  }
  return true
}

async function* mapPages(snapshot: OpenSnapshot, signal: AbortSignal): AsyncGenerator<ManifestPage[]> {
  const tree = snapshot.tree(TREE.map, 0)
  if (!tree) return
  const { sizeBytes } = snapshot.description
  for (let [from, length] = [0, FIRST_BYTES]; from < sizeBytes; ) {
    yield* snapshot.manifest.leaves(tree.top, tree.level, from, from + length - 1, signal)
    from += length
    length = Math.min(2 * length, MOST_BYTES)
  }
}

/** `births` and `ids` (32 bytes each) of some blocks, those too that are not lost. */
export async function areElsewhere(births: BigUint64Array, ids: Uint8Array, parts: ElsewhereParts): Promise<boolean> {
  const { catalog, locator, lost, absent } = parts
  const isLost = new Set(lost)
  const stripeOf = (at: number) => Number((births[at] as bigint) >> 16n)
  let left = [...births.keys()].filter((at) => isLost.has(stripeOf(at)))
  const tried = new Set(left.map(stripeOf))
  for (let asked = 0; left.length > 0; asked++) {
    if (tried.size > MOST_LOST || asked === PLACES_TRIED) return false
    const { stripes } = await locator.elsewhere(
      BigUint64Array.from(left, (at) => births[at] as bigint),
      Buffer.concat(left.map((at) => ids.subarray(ID_BYTES * at, ID_BYTES * (at + 1)))),
      [...tried],
    )
    if (stripes.includes(0)) return false
    const bad = new Set(findOutlook(await catalog.stripes([...new Set(stripes)]), absent).lost)
    left = left.filter((_, nth) => bad.has(stripes[nth] as number))
    for (const stripe of bad) tried.add(stripe)
  }
  return true
}
