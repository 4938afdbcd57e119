/**
 * `imager restore`: a snapshot onto a device or into a file. The plan asks everything first: is the snapshot readable, can
 * every stripe be had from the hosts that are there, may the target be written. Then blocks are fetched by pack, not by disk
 * address: each range once, written as it comes, nothing that does not verify. To go on where a restore was cut short is the
 * same as a delta: all of the target is read past the cache and compared, whatever a journal says.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Clock } from '../../base/clock.js'
import { hasCode, ImagerError, isOfHost } from '../../base/errors.js'
import type { Hex } from '../../base/ids.js'
import { BREAKER_MS } from '../../base/limits.js'
import { formatCount } from '../../base/units.js'
import { fullName } from '../../catalog/choose.js'
import type { Flaws } from '../../catalog/types.js'
import { inspectTarget, isBlank, notEmpty, type TargetFacts } from '../../disk/target.js'
import { type PlanLocatedHandle, type PlanSelectedHandle, Target } from '../../native.js'
import { type OpenSnapshot, openFound } from '../../retrieve/open.js'
import { tellDamage } from '../../retrieve/tell-damage.js'
import { findOutlook, listed, notRestorable } from '../../stripes/suffice.js'
import { Meter, type Report } from '../progress.js'
import type { ReaderParts } from '../reader.js'
import { type DamagedShard, damagedShards } from './damaged.js'
import { isElsewhere } from './elsewhere.js'
import { type Landmark, RestoreJournal, type Standing } from './journal.js'
import { inTurn, type Section, sectionsOf } from './sections.js'
import { Writer } from './writer.js'

const PROBE_TIMEOUT_MS = 5_000
/** After that it is said who has not answered, if one of those is needed: a PC that is off is long not heard of. */
const SILENT_MS = 1_000
/** Hosts that fall silent meanwhile are waited for: a switch that starts again, a PC that was moved. */
const PATIENCE_MS = 120_000

export interface RestoreOptions {
  readonly snapshot: string
  readonly to: string
  readonly force: boolean
  /** Only what differs on the target is fetched and written. */
  readonly delta: boolean
  /** At the end read everything back from the medium. */
  readonly verify: boolean
}

export interface RestoreParts extends ReaderParts {
  readonly clock: Clock
  readonly report: Report
  /** Hears what a person should know while it runs. */
  readonly note: (what: string) => void
  readonly signal: AbortSignal
}

export interface RestorePlan {
  readonly snapshot: OpenSnapshot
  readonly target: TargetFacts
  /** Names of hosts that do not answer. */
  readonly missing: readonly string[]
  readonly stripes: number
  /** Whether a run that was cut short goes on; where that is doubtful, the first comparison decides. */
  readonly standing: Standing
  readonly journal: RestoreJournal
  readonly force: boolean
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
  /** What blocks fill was read back from the medium at the end, and was right. */
  readonly verifiedBytes: number
  /** What the snapshot does not hold on purpose: a marked pattern stands there. */
  readonly leftOutBytes: number
  readonly resumed: boolean
  readonly notes: readonly string[]
  /** What the source did not give when the snapshot was taken: a marked pattern stands there. */
  readonly unreadable: Flaws
  /** What did not hold still when the snapshot was taken: of several moments. */
  readonly torn: Flaws
  readonly seconds: number
  readonly missing: readonly string[]
  /** Damaged shards that were met and rebuilt from others. */
  readonly corrected: number
  readonly damaged: readonly DamagedShard[]
}

/** Throws NOT_RESTORABLE with the hosts that would suffice, and everything that `unlock` and `inspectTarget` throw. */
export async function planRestore(options: RestoreOptions, parts: RestoreParts): Promise<RestorePlan> {
  const { catalog, signal } = parts
  const row = await catalog.snapshot(options.snapshot)
  const keys = await parts.unlock(row.appliance, row.takenBy?.host)
  const stripes = await catalog.snapshotStripes(fullName(row))
  const { absent, lost, lack } = await askHosts(stripes, parts)
  const opening = openFound(row, keys, { ...parts, avoid: [...absent.keys()] }, signal)
  const snapshot = await opening.catch((error: unknown) => {
    throw lack && hasCode(error, 'NOT_RESTORABLE', 'CORRUPT') ? lack : error
  })
  const gone = { catalog, lost, absent: new Set(absent.keys()) }
  if (lack && !(await isElsewhere(snapshot, gone, signal))) throw lack
  const { sizeBytes } = snapshot.description
  const room = { sizeBytes, allocatedBytes: snapshot.row.summary.allocatedBytes }
  const target = inspectTarget(options.to, room, true)
  const journal = new RestoreJournal(parts.home.state, row.id, target)
  const standing = isKnown(journal, target)
  if (standing === 'none' && !options.force) inspectTarget(options.to, room, false)
  await snapshot.packs.prepare(stripes)
  const { force, delta, verify } = options
  const missing = [...absent.values()].sort()
  return { snapshot, target, missing, stripes: stripes.length, standing, journal, force, delta, verify }
}

/** Whoever finds nothing of an earlier run on a target, and nothing else either, begins anew. */
function isKnown(journal: RestoreJournal, target: TargetFacts): Standing {
  const standing = journal.look()
  return standing === 'doubtful' && isBlank(target) ? 'blank' : standing
}

/** Who does not answer, with their names; the stripes that are lost without them, and the error that says so. */
interface Answers {
  readonly absent: ReadonlyMap<Hex, string>
  readonly lost: readonly number[]
  readonly lack: ImagerError | undefined
}

/** Asks every host that holds a shard. */
async function askHosts(stripes: readonly number[], parts: RestoreParts): Promise<Answers> {
  const { catalog, home, peers, signal } = parts
  const layouts = await catalog.stripes(stripes)
  const hosts = [...new Set(layouts.flatMap((layout) => layout.shards.map((shard) => shard.host)))]
  const silent = new Set(hosts)
  const absent = new Map<Hex, string>()
  const name = (host: Hex) => home.membership().find(host)?.name ?? host.slice(0, 8)
  const without = (gone: ReadonlySet<Hex>) => {
    const { lost, suffice, possible } = findOutlook(layouts, gone)
    return { lost, names: [...gone].map(name).sort(), suffice: possible ? suffice.map(name).sort().join(' and ') : '' }
  }
  const early = setTimeout(() => {
    const { lost, names, suffice } = without(new Set([...silent, ...absent.keys()]))
    if (lost.length > 0) new Meter('asking hosts', 0, parts.clock, parts.report).wait(stillSilent(names, suffice))
  }, SILENT_MS)
  try {
    await Promise.all(
      hosts.map(async (host) => {
        try {
          await peers.get(host).fetchState({ signal, timeoutMs: PROBE_TIMEOUT_MS })
        } catch (error) {
          signal.throwIfAborted()
          if (!isOfHost(error)) throw error
          absent.set(host, name(host))
        }
        silent.delete(host)
      }),
    )
  } finally {
    clearTimeout(early)
  }
  const { lost, names, suffice } = without(new Set(absent.keys()))
  return { absent, lost, lack: lost.length > 0 ? notRestorable({ silent: names, suffice }) : undefined }
}

/** They may still answer, or what they hold may be elsewhere too: so it is no refusal yet. */
function stillSilent(names: readonly string[], suffice: string): string {
  const bring = suffice === '' ? '' : ` If they are switched off, switch on ${suffice}.`
  return `No answer yet from ${listed(names)}, without whom stripes of this snapshot cannot be read.${bring}`
}

/** Where it fails, the error says what stands on the target now. */
export async function runRestore(plan: RestorePlan, parts: RestoreParts): Promise<RestoreReport> {
  const run = new RestoreRun(plan, parts)
  try {
    return await run.all()
  } catch (error) {
    const known = parts.signal.aborted ? new ImagerError('INTERRUPTED', {}, { cause: error }) : error
    throw run.begun && known instanceof ImagerError ? known.also(run.left()) : error
  } finally {
    await tellDamage(plan.snapshot.packs.damaged, parts.catalog)
  }
}

class RestoreRun {
  /** Something was written, or may have been. */
  begun = false
  readonly #plan: RestorePlan
  readonly #parts: RestoreParts
  readonly #target: InstanceType<typeof Target>
  readonly #meter: Meter
  readonly #started: number
  readonly #notes: string[] = []
  #readingBack = false
  #written = 0
  #leftOut = 0
  #same = 0

  constructor(plan: RestorePlan, parts: RestoreParts) {
    const { snapshot, target } = plan
    const { clock, report } = parts
    this.#plan = plan
    this.#parts = parts
    this.#started = clock.now()
    this.#meter = new Meter('restoring', snapshot.row.summary.allocatedBytes, clock, report)
    this.#target = Target.open(target.path, snapshot.description.sizeBytes)
    snapshot.packs.waitBy(async (error, waitedMs) => {
      if (waitedMs > PATIENCE_MS) throw error
      this.#meter.wait(`waiting for ${String(error.details.suffice)}`)
      await sleep(BREAKER_MS, undefined, { signal: parts.signal })
    })
  }

  async all(): Promise<RestoreReport> {
    const { snapshot, standing, delta, verify, journal } = this.#plan
    if (delta || standing === 'known' || standing === 'doubtful') await this.#compareAll()
    else await this.#writeAll()
    const verifiedBytes = verify ? await this.#readBack() : 0
    journal.end()
    const { sizeBytes, unreadable, torn } = snapshot.description
    const damaged = damagedShards(snapshot.packs.damaged, this.#parts)
    const { elsewhere } = snapshot.packs
    if (elsewhere > 0) this.#notes.push(readElsewhere(elsewhere))
    return {
      ...{ snapshot: snapshot.row.id, target: this.#plan.target.path, sizeBytes },
      ...{ writtenBytes: this.#written, sameBytes: this.#same, verifiedBytes, leftOutBytes: this.#leftOut },
      ...{ resumed: standing === 'known' || standing === 'doubtful', notes: this.#notes, unreadable, torn },
      seconds: (this.#parts.clock.now() - this.#started) / 1000,
      ...{ missing: this.#plan.missing, corrected: damaged.length, damaged },
    }
  }

  /** What a person should know of the target when this run ends before its time. */
  left(): string {
    const { target, journal, delta } = this.#plan
    if (this.#readingBack) return `All of it was written to ${target.path}; the same command compares it once more.`
    const again = journal.failure === undefined || delta ? 'The same command' : 'The same command with --delta --force'
    return `${target.path} is partly written and of no use yet. ${again} goes on, and compares what is there.`
  }

  async #writeAll(): Promise<void> {
    this.begun = true
    await this.#target.blank()
    this.#keep(0)
    for await (const section of sectionsOf(this.#plan.snapshot, this.#parts.signal)) {
      await this.#write(section, section.collected.all())
    }
  }

  /** What was not finished comes first; what was is compared all the same. */
  async #compareAll(): Promise<void> {
    const { snapshot, journal, standing } = this.#plan
    const { signal } = this.#parts
    const { vault } = this.#plan.snapshot
    for await (const section of inTurn(snapshot, journal.next, signal)) {
      const { selected, sameBytes, otherBytes } = await section.collected.differing(vault, this.#target)
      if (!this.begun) {
        if (standing === 'doubtful' && !this.#plan.force) this.#requireOurs(sameBytes, otherBytes)
        this.begun = true
        this.#target.resize()
        this.#keep(journal.next)
      }
      this.#same += sameBytes
      this.#meter.add(sameBytes)
      this.#written += await selected.clear(this.#target, section.from, section.to)
      await this.#write(section, selected)
    }
  }

  /** Nothing of what was finished is there any more: somebody used the target since, unless most of it is the snapshot's. */
  #requireOurs(sameBytes: number, otherBytes: number): void {
    if (sameBytes > otherBytes) return
    const what = 'something else than what a restore that was cut short had left'
    throw notEmpty(this.#plan.target.path, what)
  }

  async #write(section: Section, selected: PlanSelectedHandle): Promise<void> {
    const { snapshot, journal } = this.#plan
    const reserved = await selected.reserve(this.#target)
    this.#leftOut += await reserved.writeMissing(this.#target)
    const located = reserved.locate(await snapshot.manifest.locator.of(reserved.births(), () => reserved.ids()))
    const finished = this.#finishing(located)
    this.#written += await new Writer(snapshot, located, this.#target, this.#parts, this.#meter).run(finished)
    await this.#target.sync()
    this.#keep(Math.max(journal.next, section.number + 1))
  }

  /** The journal hears of the first stripe, the second, the fourth and so on: to make them durable takes time. */
  #finishing(located: PlanLocatedHandle): (stripe: number) => Promise<void> {
    const { journal } = this.#plan
    const landmarks: Landmark[] = []
    let [count, due] = [0, 1]
    return async (stripe) => {
      landmarks.push(...landmarksOf(located.landmarks(stripe)))
      if (++count < due) return
      due *= 2
      const durable = landmarks.splice(0)
      await this.#target.sync()
      journal.finished(durable)
      this.#keep(journal.next)
    }
  }

  #keep(next: number): void {
    const { journal } = this.#plan
    const before = journal.failure
    journal.save(next)
    if (journal.failure === before) return
    const note = `No journal can be kept in ${this.#parts.home.state} (${journal.failure}): if this restore is cut short, repeat it with --delta --force.`
    this.#notes.push(note)
    this.#parts.note(note)
  }

  async #readBack(): Promise<number> {
    this.#readingBack = true
    const { snapshot } = this.#plan
    const { signal, clock, report } = this.#parts
    const { vault } = this.#plan.snapshot
    const meter = new Meter('reading back', snapshot.row.summary.allocatedBytes, clock, report)
    let bytes = 0
    for await (const { collected } of sectionsOf(snapshot, signal)) {
      const right = await collected.verify(vault, this.#target)
      meter.add(right)
      bytes += right
    }
    return bytes
  }
}

function readElsewhere(records: number): string {
  return `${formatCount(records, 'block')} came from where another run had stored the same: the first place did not give what is right`
}

function landmarksOf(numbers: readonly number[]): Landmark[] {
  return Array.from({ length: numbers.length / 2 }, (_, at) => ({
    start: numbers[2 * at] as number,
    length: numbers[2 * at + 1] as number,
  }))
}
