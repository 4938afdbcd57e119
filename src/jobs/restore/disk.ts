/**
 * `imager restore`: a snapshot onto a device or into a file. The plan asks everything first: is the snapshot readable, can
 * every stripe be had from the hosts that are there, may the target be written. Then blocks are fetched by pack, not by disk
 * address: each range once, written as it comes, nothing that does not verify.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Clock } from '../../base/clock.js'
import { ImagerError } from '../../base/errors.js'
import type { Hex } from '../../base/ids.js'
import { BREAKER_MS } from '../../base/limits.js'
import { Slots } from '../../base/queue.js'
import type { Flaws } from '../../catalog/types.js'
import { inspectTarget, type TargetFacts } from '../../disk/target.js'
import { PlanCollected, type PlanLocatedHandle, Target, type VaultHandle } from '../../native.js'
import { TREE } from '../../retrieve/manifest.js'
import { type OpenSnapshot, openSnapshot, type RetrieveParts } from '../../retrieve/open.js'
import { findOutlook } from '../../stripes/suffice.js'
import { Meter, type Report } from '../progress.js'
import { RestoreJournal } from './journal.js'

/** Blocks of one section: what is planned at once, about 100 bytes each. */
const SECTION_BLOCKS = 500_000
/** Stripes being fetched and written. */
const STRIPES_IN_FLIGHT = 4
const PROBE_TIMEOUT_MS = 5_000
/** Hosts that fall silent meanwhile are waited for: a switch that starts again, a PC that was moved. */
const PATIENCE_MS = 120_000

export interface RestoreOptions {
  readonly snapshot: string
  readonly to: string
  readonly force: boolean
  /** Only what differs on the target is fetched and written. */
  readonly delta: boolean
  /** Read back from the medium what was written. */
  readonly verify: boolean
}

export interface RestoreParts extends RetrieveParts {
  readonly clock: Clock
  readonly report: Report
  readonly signal: AbortSignal
}

export interface RestorePlan {
  readonly snapshot: OpenSnapshot
  readonly target: TargetFacts
  /** Names of hosts that do not answer. */
  readonly missing: readonly string[]
  readonly stripes: number
  /** A run that was cut short goes on. */
  readonly resumed: boolean
  readonly journal: RestoreJournal
  readonly delta: boolean
  readonly verify: boolean
}

export interface RestoreReport {
  readonly snapshot: Hex
  readonly target: string
  readonly sizeBytes: number
  readonly writtenBytes: number
  /** What the target held already. */
  readonly sameBytes: number
  /** What was read back from the medium, and was right. */
  readonly verifiedBytes: number
  readonly resumed: boolean
  /** What the source did not give when the snapshot was taken: a marked pattern stands there. */
  readonly unreadable: Flaws
  /** What did not hold still when the snapshot was taken: of several moments. */
  readonly torn: Flaws
  readonly seconds: number
  readonly missing: readonly string[]
  /** Damaged shards that were met and rebuilt from others. */
  readonly corrected: number
  readonly damaged: readonly { readonly host: string; readonly shard: Hex; readonly stripe: number }[]
}

/** Throws NOT_RESTORABLE with the hosts that would suffice, and everything that `inspectTarget` throws. */
export async function planRestore(options: RestoreOptions, parts: RestoreParts): Promise<RestorePlan> {
  const { catalog, signal } = parts
  const row = await catalog.snapshot(options.snapshot)
  const stripes = await catalog.snapshotStripes(row.id)
  const absent = await requireHosts(stripes, parts)
  const snapshot = await openSnapshot(row.id, { ...parts, avoid: [...absent.keys()] }, signal)
  const { sizeBytes } = snapshot.description
  const room = { sizeBytes, allocatedBytes: snapshot.row.summary.allocatedBytes }
  const target = inspectTarget(options.to, room, true)
  const journal = new RestoreJournal(parts.home.state, row.id, target)
  const resumed = journal.resume()
  if (!resumed && !options.force) inspectTarget(options.to, room, false)
  await snapshot.packs.prepare(stripes)
  const { delta, verify } = options
  const missing = [...absent.values()].sort()
  return { snapshot, target, missing, stripes: stripes.length, resumed, journal, delta, verify }
}

/** Asks every host that holds a shard. Throws NOT_RESTORABLE; returns those that do not answer, with their names. */
async function requireHosts(stripes: readonly number[], parts: RestoreParts): Promise<Map<Hex, string>> {
  const { catalog, home, peers, signal } = parts
  const layouts = await catalog.stripes(stripes)
  const hosts = [...new Set(layouts.flatMap((layout) => layout.shards.map((shard) => shard.host)))]
  const absent = new Map<Hex, string>()
  const name = (host: Hex) => home.membership().find(host)?.name ?? host.slice(0, 8)
  await Promise.all(
    hosts.map(async (host) => {
      try {
        await peers.get(host).fetchState({ signal, timeoutMs: PROBE_TIMEOUT_MS })
      } catch {
        signal.throwIfAborted()
        absent.set(host, name(host))
      }
    }),
  )
  const { lost, suffice, possible } = findOutlook(layouts, new Set(absent.keys()))
  if (lost.length > 0) {
    const bring = possible ? suffice.map(name).sort().join(' and ') : 'other copies: these stripes are lost for good'
    const hosts = [...absent.values()].sort()
    throw new ImagerError('NOT_RESTORABLE', { missing: absent.size, hosts, suffice: bring, stripes: lost.length })
  }
  return absent
}

export async function runRestore(plan: RestorePlan, parts: RestoreParts): Promise<RestoreReport> {
  const { clock, report, signal, vault } = parts
  const { snapshot, target: facts } = plan
  const { sizeBytes } = snapshot.description
  const started = clock.now()
  const target = Target.open(facts.path, sizeBytes)
  const compare = plan.delta || plan.resumed
  if (compare) target.resize()
  else await target.blank()
  if (!plan.resumed) plan.journal.begin()
  const meter = new Meter('restoring', snapshot.row.summary.allocatedBytes, clock, report)
  snapshot.packs.waitBy(async (error, waitedMs) => {
    if (waitedMs > PATIENCE_MS) throw error
    meter.wait(`waiting for ${String(error.details.suffice)}`)
    await sleep(BREAKER_MS, undefined, { signal })
  })
  const bytes = { written: 0, same: 0, verified: 0 }
  for await (const { number, from, to, collected } of sectionsOf(snapshot, signal)) {
    if (plan.resumed && plan.journal.has(number)) continue
    const { selected, sameBytes } = compare
      ? await collected.differing(vault, target)
      : { selected: collected.all(), sameBytes: 0 }
    if (compare) {
      bytes.same += sameBytes
      meter.add(sameBytes)
      bytes.written += await selected.clear(target, from, to)
    }
    const reserved = await selected.reserve(target)
    await reserved.writeUnreadable(target)
    const located = reserved.locate(await snapshot.manifest.locator.of(reserved.births(), () => reserved.ids()))
    bytes.written += await new Writer(snapshot, located, target, parts, meter).run()
    if (plan.verify) bytes.verified += await located.verify(vault, target)
    else await target.sync()
    plan.journal.add(number)
  }
  plan.journal.end()
  const name = (host: Hex) => parts.home.membership().find(host)?.name ?? host.slice(0, 8)
  const damaged = [...snapshot.packs.damaged].map(([shard, { host, stripe }]) => ({ host: name(host), shard, stripe }))
  const seconds = (clock.now() - started) / 1000
  const { missing } = plan
  const { id } = snapshot.row
  return {
    snapshot: id,
    target: facts.path,
    sizeBytes,
    ...{ writtenBytes: bytes.written, sameBytes: bytes.same, verifiedBytes: bytes.verified, resumed: plan.resumed },
    ...{ unreadable: snapshot.description.unreadable, torn: snapshot.description.torn },
    seconds,
    missing,
    corrected: damaged.length,
    damaged,
  }
}

/** A part of the disk, `from` inclusive to `to` exclusive, and the blocks that it holds. */
interface Section {
  readonly number: number
  readonly from: number
  readonly to: number
  readonly collected: InstanceType<typeof PlanCollected>
}

/** The whole disk, in sections whose plans are of bounded size: the same for every run of one snapshot. */
async function* sectionsOf(snapshot: OpenSnapshot, signal: AbortSignal): AsyncGenerator<Section> {
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

/** Fetches and writes what one plan names. */
class Writer {
  readonly #snapshot: OpenSnapshot
  readonly #plan: PlanLocatedHandle
  readonly #target: InstanceType<typeof Target>
  readonly #vault: VaultHandle
  readonly #parts: RestoreParts
  readonly #meter: Meter
  #written = 0

  constructor(
    snapshot: OpenSnapshot,
    plan: PlanLocatedHandle,
    target: InstanceType<typeof Target>,
    parts: RestoreParts,
    meter: Meter,
  ) {
    this.#snapshot = snapshot
    this.#plan = plan
    this.#target = target
    this.#vault = parts.vault
    this.#parts = parts
    this.#meter = meter
  }

  async run(): Promise<number> {
    const slots = new Slots(STRIPES_IN_FLIGHT)
    const stripes = this.#plan.stripes()
    await this.#snapshot.packs.prepare(stripes)
    let failure: { error: unknown } | undefined
    await Promise.all(
      stripes.map((stripe) =>
        slots.run(async () => {
          if (failure) return
          try {
            await this.#writeStripe(stripe)
          } catch (error) {
            failure ??= { error }
          }
        }),
      ),
    )
    if (failure) throw failure.error
    return this.#written
  }

  async #writeStripe(stripe: number): Promise<void> {
    const { signal } = this.#parts
    signal.throwIfAborted()
    const { packs } = this.#snapshot
    await packs.open(
      this.#plan.ranges(stripe),
      async (pieces, only) => {
        const [starts, bodies] = [pieces.map(({ start }) => start), pieces.map(({ body }) => body)]
        const { bytes, bad } = await this.#plan.write(stripe, starts, bodies, only, this.#vault, this.#target)
        this.#written += bytes
        this.#meter.add(bytes)
        return bad
      },
      { signal },
    )
  }
}
