/** A snapshot's disk in sections whose plans are of bounded size: the same for every run. */
import { PlanCollected } from '../../native.js'
import { TREE } from '../../retrieve/manifest.js'
import type { OpenSnapshot } from '../../retrieve/open.js'

/** Blocks of one section: what is planned at once, about 100 bytes each. */
const SECTION_BLOCKS = 500_000

/** A part of the disk, `from` inclusive to `to` exclusive, and the blocks that it holds. */
export interface Section {
  readonly number: number
  readonly from: number
  readonly to: number
  readonly collected: InstanceType<typeof PlanCollected>
}

/** The whole disk, from its beginning. */
export async function* sectionsOf(snapshot: OpenSnapshot, signal: AbortSignal): AsyncGenerator<Section> {
  const { sizeBytes } = snapshot.description
  const tree = snapshot.tree(TREE.map, 0)
  let [number, from, collected] = [0, 0, new PlanCollected()]
  const whole = tree ? snapshot.manifest.leaves(tree.top, tree.level, 0, Number.MAX_SAFE_INTEGER, signal) : []
  for await (const leaves of whole) {
    for (const leaf of leaves) collected.add(leaf)
    if (collected.blockCount < SECTION_BLOCKS) continue
    const to = Math.min(sizeBytes, collected.end)
    yield { number, from, to, collected }
    ;[number, from, collected] = [number + 1, to, new PlanCollected()]
  }
  yield { number, from, to: sizeBytes, collected }
}

/** All sections, those from `first` on before the others. */
export async function* inTurn(snapshot: OpenSnapshot, first: number, signal: AbortSignal): AsyncGenerator<Section> {
  for await (const section of sectionsOf(snapshot, signal)) if (section.number >= first) yield section
  if (first === 0) return
  for await (const section of sectionsOf(snapshot, signal)) {
    if (section.number >= first) return
    yield section
  }
}
