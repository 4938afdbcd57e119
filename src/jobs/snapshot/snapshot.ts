/**
 * `imager snapshot`: what is to be imaged and where it goes (the plan), then the data's way through the pipeline, and one
 * commit that makes the snapshot visible. Until then nothing of it is listed, and a rerun finds what arrived.
 */
import { join } from 'node:path'
import { hasCode, reason } from '../../base/errors.js'
import type { Hex } from '../../base/ids.js'
import { formatCount, MiB } from '../../base/units.js'
import { fullName } from '../../catalog/choose.js'
import type { Begun, Finished, Flaws, HostRow, SnapshotState, SnapshotSummary } from '../../catalog/types.js'
import { inspectSource, type SourceFacts } from '../../disk/source.js'
import type { ViewOptions } from '../../disk/view.js'
import { seekMembership } from '../../fleet/seek.js'
import { isWitnessed } from '../../fleet/witnessed.js'
import { domainsOf, openVault } from '../../keys/vault.js'
import type { DiskScanHandle, LeftOut, Reuse } from '../../native.js'
import { type Description, encodeDescription } from '../../retrieve/description.js'
import { formGroup, formGroupFor, type Group } from '../../stripes/place.js'
import type { Wish } from '../../stripes/scheme.js'
import { LISTED, listed } from '../flaws.js'
import { takeDomainKey } from './domain-key.js'
import { bitmapSince, keepLast } from './last-bitmap.js'
import { causeOf, lockOfPath, lockOfVolume, tellFailure, volumeOf } from './outcome.js'
import { Pipeline, type PipelineParts, type PipelinePlan } from './pipeline.js'
import { presentHosts } from './present-hosts.js'
import { findReliance, type Reliance } from './relied.js'
import { RunLocks } from './run-locks.js'
import { closeStill, openStill, type Still, storeStill } from './still.js'

/** A host with less free than this is not worth asking. */
const NEED_BYTES = 64 * MiB
const CENSUS_ROWS = 24
/** The catalog keeps a summary of at most 64 KiB; the snapshot itself names all volumes. */
const SUMMARY_VOLUMES = 128
const SUMMARY_LABEL = 64

export interface SnapshotOptions extends Wish {
  readonly source: string
  readonly label: string
  readonly view: ViewOptions
  /** Read also files whose records did not change. */
  readonly fullRead: boolean
  /** Store also what is left out otherwise: swap, page files, empty journals. */
  readonly everything: boolean
  /** zstd's; undefined where the run decides as it goes. */
  readonly level: number | undefined
  /** For the end of a run of this disk that goes on, where there is one. */
  readonly wait: boolean
}

export interface SnapshotReport {
  readonly snapshot: Hex
  readonly sourceBytes: number
  readonly allocatedBytes: number
  readonly readBytes: number
  readonly newBytes: number
  readonly storedBytes: number
  readonly blocks: number
  readonly newBlocks: number
  readonly seconds: number
  readonly survives: number
  /** The same, counting only what hosts have signed. */
  readonly receipted: number
  /** Hosts that should be allowed to be missing. */
  readonly target: number
  /** Enough witnesses signed the list that it is on, or there are none. */
  readonly cosigned: boolean
  readonly state: SnapshotState
  readonly scheme: string
  readonly view: string
  readonly notes: readonly string[]
  readonly leftOut: readonly LeftOut[]
  readonly unreadable: Flaws
  /** Files that never held still. */
  readonly torn: Flaws
}

/** Its view must be closed. */
export interface SnapshotPlan extends PipelinePlan, Still {
  readonly source: SourceFacts
}

type Facts = ReturnType<DiskScanHandle['facts']>

/** One run, the only one of its disk on this host. Where it fails, the coordinator hears it. */
export async function takeSnapshot(options: SnapshotOptions, parts: PipelineParts): Promise<SnapshotReport> {
  const { source: path, label } = options
  const locks = new RunLocks({ source: path, wait: options.wait }, parts)
  let begun: Begun | undefined
  try {
    const plan = await planSnapshot(options, parts, locks)
    try {
      begun = await parts.catalog.begin({ appliance: parts.home.host, volume: plan.volume, source: path, label })
      const late = await takeDomainKey(begun.domainKey, parts)
      return await store(plan, options, begun, late, parts)
    } finally {
      await closeStill(plan)
    }
  } catch (met) {
    const error = await causeOf(met, parts)
    await tellFailure(error, { source: path, label, lease: begun?.lease }, locks, parts)
    // Its coordinator may have been replaced, and not have heard of it: the peers know. Then the next run follows.
    if (hasCode(error, 'COORDINATOR_READ_ONLY', 'NOT_PLACED'))
      await seekMembership(parts.home, parts.signal).catch(() => false)
    throw error
  } finally {
    locks.close()
  }
}

/** Everything that can be refused before a byte is sent. */
async function planSnapshot(options: SnapshotOptions, parts: PipelineParts, locks: RunLocks): Promise<SnapshotPlan> {
  const { home, clock, signal } = parts
  const source = inspectSource(options.source)
  // By the path first: to hold a disk still, only to find it busy, would cost who writes to it.
  await locks.hold(lockOfPath(source.path))
  const hosts = await presentHosts(parts)
  // Too few hosts is said before anything is held still.
  formGroup(hosts, home.host, NEED_BYTES, options)
  for (;;) {
    const still = await openStill(source, options.view, options.everything, { clock, signal, needed: [home.state] })
    let held = false
    try {
      const volume = volumeOf(still.scan.facts().id || `${home.membership().line.originOf(home.host)} ${source.path}`)
      const group = await groupOf(volume, hosts, options, parts)
      held = locks.tryHold(lockOfVolume(volume))
      if (held) return { ...still, source, group, volume, level: options.level }
      await closeStill(still)
      // The same disk by another path.
      await locks.hold(lockOfVolume(volume))
    } finally {
      if (!held) await closeStill(still)
    }
  }
}

/** By what was decided of the volume, or reached before. */
async function groupOf(
  volume: Hex,
  hosts: readonly HostRow[],
  options: SnapshotOptions,
  { catalog, home }: PipelineParts,
): Promise<Group> {
  const { fleet, volumes } = await catalog.policies()
  const known = volumes.find((one) => one.appliance === home.host && one.volume === volume)
  return formGroupFor(hosts, home.host, NEED_BYTES, options, known ?? { tolerate: fleet.tolerate, target: 0 })
}

async function store(
  plan: SnapshotPlan,
  options: SnapshotOptions,
  begun: Begun,
  late: readonly string[],
  parts: PipelineParts,
): Promise<SnapshotReport> {
  const { home, catalog, clock } = parts
  const { group, volume, view } = plan
  const started = clock.now()
  const pipeline = new Pipeline(plan, begun, openVault(home, volume), parts)
  const held = join(home.state, `held-${volume}.bin`)
  const { reuse, why } = await findReuse(held, plan, options, begun, parts)
  const { everything } = options
  const stored = await storeStill(plan, pipeline, { clock, everything, folder: home.state, reuse })
  const { scan, torn: tornRanges } = stored
  await closeStill(plan)
  const notes = [...late, ...why, ...(pipeline.surprises > 0 ? [surprised(pipeline.surprises)] : [])]
  // What was torn is not what its record says.
  if (tornRanges.length === 0) await pipeline.keep(held, begun.snapshot, scan, stored.taken)
  // The manifest takes the scan's file maps, so what they say is asked before.
  const facts = scan.facts()
  const census = scan.census(CENSUS_ROWS)
  const leftOut = scan.leftOut()
  pipeline.complete(scan)
  const time = clock.now()
  const flaws = { unreadable: pipeline.unreadable(), torn: pipeline.flaws(tornRanges) }
  const of = { snapshot: begun.snapshot, timeMs: time, domains: domainsOf(home) }
  await pipeline.storeManifest(describe(of, plan, options, facts, { leftOut, ...flaws }))
  const references = pipeline.packer.references()
  const head = pipeline.signHead(references, time)
  const bitmap = bitmapSince(home.state, volume, begun.parent, references)
  await pipeline.storeHead(head, bitmap)
  const summary: SnapshotSummary = {
    ...pipeline.counts,
    domains: of.domains,
    sourceBytes: facts.size,
    files: facts.volumes.reduce((sum, one) => sum + one.files, 0),
    // A clock that was set back meanwhile must not cost the snapshot.
    seconds: Math.max(0, clock.now() - started) / 1000,
    view: view.how,
    volumes: facts.volumes.slice(0, SUMMARY_VOLUMES).map(({ index, fileSystem, files, label, within, name }) => {
      const shown = within === null ? label : [name, label].filter(Boolean).join(' ')
      return { index, fileSystem, files, label: shown.slice(0, SUMMARY_LABEL) }
    }),
    perHost: Object.fromEntries(pipeline.bytesByHost),
    fileTypes: Object.fromEntries(census.types.map(({ name, bytes }) => [name, bytes])),
    owners: Object.fromEntries(census.owners.map(({ name, bytes }) => [name, bytes])),
    notes: [...notes, ...notesOf(facts)],
    leftOut: leftOut.slice(0, LISTED),
    unreadable: listed(flaws.unreadable),
    torn: listed(flaws.torn),
    tolerate: group.wanted,
    k: group.k,
    m: group.m,
  }
  const asked = options.tolerate !== undefined || options.scheme !== undefined
  const request = { head, references, asked, summary }
  const finished = await catalog.finish(begun.lease, request)
  const signed = await requireSigned(finished, begun.snapshot, parts)
  const { survives, target, cosigned } = signed
  const reliance = await findReliance(references, pipeline.sent, { volume, target }, parts)
  const { receipted, state, doubts } = believe(signed, reliance)
  keepLast(home.state, volume, begun.snapshot, bitmap)
  const kept = pipeline.manifest.finishKept() || tornRanges.length > 0
  const unkept = kept ? [] : [`the next run will read everything: ${held} could not be written`]
  return {
    snapshot: begun.snapshot,
    ...pipeline.counts,
    sourceBytes: facts.size,
    seconds: Math.max(0, clock.now() - started) / 1000,
    survives,
    receipted,
    target,
    cosigned,
    state,
    scheme: `${group.k}+${group.m}`,
    view: view.how,
    notes: [...summary.notes, ...pipeline.failures(), ...unkept, ...signed.notes, ...doubts],
    leftOut: summary.leftOut,
    ...flaws,
  }
}

/** That it is on a list which a majority of the witnesses signed is the coordinator's word: they are asked. */
async function requireSigned(
  finished: Finished,
  snapshot: Hex,
  { home, signal }: PipelineParts,
): Promise<Finished & { notes: string[] }> {
  const isSaid = finished.cosigned && !home.coordinates
  if (!isSaid || (await isWitnessed(home, snapshot, signal))) return { ...finished, notes: [] }
  const state = finished.state === 'incomplete' ? finished.state : 'sealed'
  return { ...finished, cosigned: false, state, notes: [NOT_SIGNED] }
}

const NOT_SIGNED =
  'the coordinator says that enough witnesses have signed the list with this snapshot, and they do not say so themselves'

/** The coordinator's word counts as far as it can show what the hosts signed. */
export function believe({ receipted, target, state }: Finished, seen: Reliance) {
  const isClaimed = state === 'protected' || state === 'verified'
  const least = Math.min(receipted, seen.receipted)
  if (!isClaimed || seen.receipted >= target) return { receipted: least, state, doubts: [] }
  const what = `the coordinator calls it ${state}, and shows no receipts for that of ${seen.short} of ${formatCount(seen.stripes, 'stripe')}`
  return { receipted: least, state: 'sealed' as const, doubts: [what] }
}

/** What the last snapshot of this disk holds already, where that can be relied on; else why not. */
async function findReuse(
  held: string,
  { scan, group }: SnapshotPlan,
  { fullRead }: SnapshotOptions,
  { parent, sequence }: Begun,
  { catalog, home }: PipelineParts,
): Promise<{ reuse: Reuse | null; why: string[] }> {
  if (fullRead || parent === null) return { reuse: null, why: [] }
  const last = await catalog.snapshot(fullName({ appliance: home.host, id: parent }))
  const wanted = Math.max(1, Math.min(group.wanted, group.reach))
  if (last.survives < wanted) {
    return { reuse: null, why: ['everything was read, because the last snapshot survives too little'] }
  }
  try {
    return { reuse: await scan.reuse(held, Buffer.from(parent, 'hex'), sequence, catalog.names), why: [] }
  } catch (error) {
    if (!hasCode(error, 'CORRUPT')) throw error
    return { reuse: null, why: [`everything was read: ${reason(error)}`] }
  }
}

function surprised(blocks: number): string {
  const what = blocks === 1 ? 'one block of a file' : `${blocks} blocks of files`
  return `everything was read, because ${what} had changed although the file's times and extents had not`
}

/** What the root page says, so that a snapshot can be browsed and restored without any catalog. */
function describe(
  of: Pick<Description, 'snapshot' | 'timeMs' | 'domains'>,
  plan: SnapshotPlan,
  options: SnapshotOptions,
  facts: Facts,
  flaws: { leftOut: LeftOut[]; unreadable: Flaws; torn: Flaws },
): string {
  return encodeDescription({
    ...of,
    source: plan.source.title,
    label: options.label,
    view: plan.view.how,
    sizeBytes: facts.size,
    table: { kind: facts.table, id: facts.id, sectorBytes: facts.sectorBytes },
    ...flaws,
    volumes: facts.volumes.map((volume) => {
      const { index, start, length, fileSystem, raw, label, uuid, clusterBytes, root, within, name, pieces } = volume
      const facts = { index, start, length, fileSystem, label, uuid, clusterBytes, root: raw === null ? root : null }
      if (within === null) return facts
      return { ...facts, name, ...(pieces.length > 2 && { pieces: pairs(pieces) }) }
    }),
  })
}

function pairs(flat: readonly number[]): [start: number, length: number][] {
  return Array.from({ length: flat.length / 2 }, (_, at) => [flat[2 * at] as number, flat[2 * at + 1] as number])
}

const UNCONFINED = 'its tables were read without confinement: this kernel offers neither Landlock nor seccomp'

/** What could not be understood, volume by volume. */
function notesOf(facts: Facts): string[] {
  const volumes = facts.volumes.flatMap(({ index, raw, fileSystem, doubts, dirty }) => {
    const named = (text: string) => `volume ${index}: ${text}`
    const rawNote = raw === null ? [] : [`${fileSystem}, read raw: ${raw}`]
    const dirtyNote = dirty ? ['not cleanly unmounted, so its free space is kept too'] : []
    return [...rawNote, ...dirtyNote, ...doubts].map(named)
  })
  const open = facts.confined.length === 0 ? [UNCONFINED] : []
  return [...open, ...facts.doubts, ...volumes].slice(0, 100).map((note) => note.slice(0, 1000))
}
