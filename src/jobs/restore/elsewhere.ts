/** A snapshot of which stripes are lost may be whole all the same: what they held may have been stored again. */
import type { Hex } from '../../base/ids.js'
import type { Catalog } from '../../catalog/types.js'
import type { OpenSnapshot } from '../../retrieve/open.js'
import { findOutlook } from '../../stripes/suffice.js'
import { sectionsOf } from './sections.js'

/** Stripes that one question to the catalog may except. Where more are lost it is hosts that are missing. */
export const MOST_LOST = 1000

/** Is each block of the lost stripes in another one, which the hosts that are there give? Reads the whole map. */
export async function isElsewhere(
  snapshot: OpenSnapshot,
  lost: readonly number[],
  absent: ReadonlySet<Hex>,
  { catalog, signal }: { readonly catalog: Pick<Catalog, 'stripes'>; readonly signal: AbortSignal },
): Promise<boolean> {
  if (lost.length > MOST_LOST) return false
  const isLost = new Set(lost)
  for await (const { collected } of sectionsOf(snapshot, signal)) {
    const [births, ids] = [collected.births(), collected.ids()]
    const wanted = [...births.keys()].filter((at) => isLost.has(Number((births[at] as bigint) >> 16n)))
    const { stripes } = await snapshot.manifest.locator.elsewhere(
      BigUint64Array.from(wanted, (at) => births[at] as bigint),
      Buffer.concat(wanted.map((at) => ids.subarray(32 * at, 32 * at + 32))),
      lost,
    )
    const found = [...new Set(stripes)]
    if (found.includes(0) || findOutlook(await catalog.stripes(found), absent).lost.length > 0) return false
  }
  return true
}
