/**
 * `imager restore`: a snapshot onto a device or into a file. The plan asks everything first: is the snapshot readable, can
 * every stripe be had from the hosts that are there, may the target be written. Then blocks are fetched by pack, not by disk
 * address: each range once, written as it comes, nothing that does not verify.
 */
import type { Clock } from '../base/clock.js'
import { ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import { Slots } from '../base/queue.js'
import { KiB } from '../base/units.js'
import type { Flaws } from '../catalog/types.js'
import { inspectTarget, type TargetFacts } from '../disk/target.js'
import { FetchPlan, type ManifestPage, Target, type VaultHandle } from '../native.js'
import { locateAll, TREE } from '../retrieve/manifest.js'
import { type OpenSnapshot, openSnapshot, type RetrieveParts } from '../retrieve/open.js'
import { findOutlook } from '../stripes/suffice.js'
import { Meter, type Report } from './progress.js'

/** Blocks of one window: what is planned at once, about 100 bytes each. */
const WINDOW_BLOCKS = 500_000
/** Stripes being fetched and written. */
const STRIPES_IN_FLIGHT = 4
/** Records closer than this in a pack come in one range. */
const GAP_BYTES = 128 * KiB
const PROBE_TIMEOUT_MS = 5_000

export interface RestoreOptions {
  readonly snapshot: string
  readonly to: string
  readonly force: boolean
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
}

export interface RestoreReport {
  readonly snapshot: Hex
  readonly target: string
  readonly sizeBytes: number
  readonly writtenBytes: number
  /** What the source did not give when the snapshot was taken: a marked pattern stands there. */
  readonly unreadable: Flaws
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
  const target = inspectTarget(options.to, snapshot.description.sizeBytes, options.force)
  await snapshot.packs.prepare(stripes)
  return { snapshot, target, missing: [...absent.values()].sort(), stripes: stripes.length }
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
  const { clock, report, signal } = parts
  const { snapshot, target: facts } = plan
  const { sizeBytes } = snapshot.description
  const started = clock.now()
  const target = Target.open(facts.path, sizeBytes)
  await target.blank()
  const meter = new Meter('restoring', snapshot.row.summary.allocatedBytes, clock, report)
  let writtenBytes = 0
  let unreadableBytes = 0
  for await (const window of windowsOf(snapshot, signal)) {
    unreadableBytes += await window.writeUnreadable(target)
    writtenBytes += await new Writer(snapshot, window, target, parts, meter).run()
  }
  await target.sync()
  const name = (host: Hex) => parts.home.membership().find(host)?.name ?? host.slice(0, 8)
  const damaged = [...snapshot.packs.damaged].map(([shard, { host, stripe }]) => ({ host: name(host), shard, stripe }))
  const seconds = (clock.now() - started) / 1000
  const { missing } = plan
  const { id } = snapshot.row
  return {
    snapshot: id,
    target: facts.path,
    sizeBytes,
    writtenBytes,
    unreadable: { ...snapshot.description.unreadable, bytes: unreadableBytes },
    seconds,
    missing,
    corrected: damaged.length,
    damaged,
  }
}

type PlanHandle = InstanceType<typeof FetchPlan>

/** The map's leaves, gathered into plans of bounded size. */
async function* windowsOf(snapshot: OpenSnapshot, signal: AbortSignal): AsyncGenerator<PlanHandle> {
  const tree = snapshot.tree(TREE.map, 0)
  if (!tree) return
  let plan = new FetchPlan()
  const whole = snapshot.manifest.leaves(tree.top, tree.level, 0, Number.MAX_SAFE_INTEGER, signal)
  for await (const leaves of whole) {
    for (const leaf of leaves as ManifestPage[]) plan.add(leaf)
    if (plan.blockCount < WINDOW_BLOCKS) continue
    yield plan
    plan = new FetchPlan()
  }
  yield plan
}

/** Fetches and writes what one plan names. */
class Writer {
  readonly #snapshot: OpenSnapshot
  readonly #plan: PlanHandle
  readonly #target: InstanceType<typeof Target>
  readonly #vault: VaultHandle
  readonly #parts: RestoreParts
  readonly #meter: Meter
  #written = 0

  constructor(
    snapshot: OpenSnapshot,
    plan: PlanHandle,
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
    const places = await locateAll(this.#parts.catalog, this.#plan.ids())
    this.#plan.locate(
      BigUint64Array.from(places, (place) => BigInt(place.stripe)),
      Uint32Array.from(places, (place) => place.offset),
      Uint32Array.from(places, (place) => place.length),
    )
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
    const first = await this.#fetchAndWrite(stripe, undefined, (start, end) =>
      this.#snapshot.packs.read(stripe, start, end, signal),
    )
    if (first.length === 0) return
    const second = await this.#fetchAndWrite(stripe, first, (start, end) =>
      this.#snapshot.packs.readSound(stripe, start, end, signal),
    )
    if (second.length > 0) {
      throw new ImagerError('CORRUPT', {
        what: `${second.length} blocks of stripe ${stripe} do not verify from any host`,
      })
    }
  }

  /** The blocks that did not verify. */
  async #fetchAndWrite(
    stripe: number,
    only: number[] | undefined,
    read: (start: number, end: number) => Promise<Buffer>,
  ): Promise<number[]> {
    const bounds = this.#plan.ranges(stripe, GAP_BYTES)
    const starts = bounds.filter((_, at) => at % 2 === 0)
    const fetched = await Promise.all(starts.map((start, at) => read(start, bounds[2 * at + 1] as number)))
    const { bytes, bad } = await this.#plan.write(stripe, starts, fetched, only, this.#vault, this.#target)
    this.#written += bytes
    this.#meter.add(bytes)
    return bad
  }
}
