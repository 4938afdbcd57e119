/** What a restore would fetch, and how long that takes: for `--dry-run`. Writes nothing. */
import { forEachAtOnce } from '../../base/queue.js'
import { MiB } from '../../base/units.js'
import { fullName } from '../../catalog/choose.js'
import type { PackReader } from '../../retrieve/packs.js'
import type { RestoreParts, RestorePlan } from './disk.js'
import { sectionsOf } from './sections.js'

/** A gigabit line, with what TLS and TCP take of it. */
const ASSUMED = 100_000_000
const MEASURED_MS = 2_000
const MEASURED_BYTES = 64 * MiB
/** Less says nothing: that is the time of some questions. */
const MEASURED_LEAST = MiB
const SAMPLES = 32
const AT_ONCE = 4

/** `stated`: by `--limit`. `measured`: just now, with packs of this snapshot. `assumed`: too little could be measured. */
export type RateSource = 'stated' | 'measured' | 'assumed'

export interface Estimate {
  /** Records of all blocks; of those that the target holds already none is fetched. */
  readonly fetchBytes: number
  readonly bytesPerSecond: number
  readonly rate: RateSource
  readonly seconds: number
}

export type Rate = Pick<Estimate, 'bytesPerSecond' | 'rate'>

/** What of a restore's parts is asked for a rate. */
type RateParts = Pick<RestoreParts, 'catalog' | 'peers' | 'clock' | 'signal'>

export async function estimateRestore(plan: RestorePlan, parts: RestoreParts): Promise<Estimate> {
  const fetchBytes = await countBytes(plan, parts)
  const { bytesPerSecond, rate } = await findRate(fullName(plan.snapshot.row), plan.snapshot.packs, parts)
  return { fetchBytes, bytesPerSecond, rate, seconds: fetchBytes / bytesPerSecond }
}

async function countBytes({ snapshot }: RestorePlan, { signal }: RestoreParts): Promise<number> {
  let bytes = 0
  for await (const { collected } of sectionsOf(snapshot, signal)) {
    const { lengths } = await snapshot.manifest.locator.of(collected.births(), () => collected.ids())
    bytes += lengths.reduce((sum, length) => sum + length, 0)
  }
  return bytes
}

/** `snapshot`: its `fullName`. */
export async function findRate(snapshot: string, packs: PackReader, parts: RateParts): Promise<Rate> {
  const stated = parts.peers.limit?.bytesPerSecond
  if (stated !== undefined) return { bytesPerSecond: stated, rate: 'stated' }
  const { bytes, ms } = await fetchSome(snapshot, packs, parts)
  if (bytes < MEASURED_LEAST || ms <= 0) return { bytesPerSecond: ASSUMED, rate: 'assumed' }
  return { bytesPerSecond: Math.round((bytes * 1000) / ms), rate: 'measured' }
}

/** Packs from all over the snapshot, for a moment. */
async function fetchSome(snapshot: string, packs: PackReader, { catalog, clock, signal }: RateParts) {
  const all = await catalog.snapshotStripes(snapshot)
  const every = Math.max(1, Math.floor(all.length / SAMPLES))
  const rows = await catalog.stripes(all.filter((_, at) => at % every === 0).slice(0, SAMPLES))
  const started = clock.now()
  let bytes = 0
  await forEachAtOnce(rows, AT_ONCE, async ({ stripe, packBytes }) => {
    if (bytes >= MEASURED_BYTES || clock.now() - started >= MEASURED_MS) return
    await packs.read({ stripe, start: 0, end: packBytes }, { signal })
    bytes += packBytes
  })
  return { bytes, ms: clock.now() - started }
}
