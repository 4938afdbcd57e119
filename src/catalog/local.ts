/**
 * The catalog on a state folder: what may be done when, over the records and the signature repository. It needs no
 * daemon; a coordinator serves this same class. A stripe's signatures are written in the transaction that commits it.
 */
import { randomBytes } from 'node:crypto'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { type Clock, systemClock } from '../base/clock.js'
import { ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import { GRANT_LIFETIME_MS } from '../base/limits.js'
import { formatBytes } from '../base/units.js'
import { openHome } from '../keys/home.js'
import type { FoundLocations, SignatureRepository } from '../signatures/repository.js'
import { ID_BYTES } from '../signatures/rows.js'
import { SegmentRepository } from '../signatures/segments.js'
import { unfitBecause } from '../stripes/place.js'
import { checkCommit, checkFailure, checkIds, checkPlace, checkRecords, checkReserve } from './checks.js'
import { choose, prefixOf } from './choose.js'
import { type Effect, effectOn, requireNoLoss, requireNoSnapshots } from './departure.js'
import type { GuardedDatabase } from './guard.js'
import { type Admission, type Heartbeat, HostCatalogue } from './hosts.js'
import { Knowledge } from './knowledge.js'
import { type Lease, Leases } from './leases.js'
import { lengthsOf } from './lengths.js'
import { type CatalogParts, partsOf } from './parts.js'
import { Policies, type VolumeId } from './policies.js'
import { referencedStripes } from './references.js'
import { Registry } from './registry.js'
import { openDatabase } from './schema.js'
import { type Present, Snapshots } from './snapshots.js'
import { outlookOf } from './state.js'
import { Stripes } from './stripes.js'
import type {
  Among,
  BeginRequest,
  Begun,
  Catalog,
  CommitRequest,
  Condition,
  Finding,
  Finished,
  FinishRequest,
  FoundSnapshot,
  HostRow,
  Located,
  Placed,
  PlaceRequest,
  Policy,
  RunRow,
  SnapshotRow,
  SnapshotSummary,
  StripeRow,
  VolumePolicy,
} from './types.js'
import { type OpenOptions, Upkeep } from './upkeep.js'

/** Signatures looked up in one go: some 20 ms where the segments lie in the page cache. */
const FIND_PART = 8192

/** Also stripes of which too little is left: whoever reads finds out what is missing. */
const ANY = -1

/** A stripe read back from its trailer. */
export interface ImportedStripe extends StripeRow {
  writer: Hex
  /** Rows of `RECORD_BYTES`, and each one's birth number. */
  records: Uint8Array
  births: BigUint64Array
}

export interface ImportedSnapshot extends Pick<FinishRequest, 'head' | 'references'> {
  summary: SnapshotSummary
  source: string
  label: string
}

export class LocalCatalog implements Catalog {
  /** The master file. */
  readonly members: HostCatalogue
  readonly registry: Registry
  readonly #parts: CatalogParts
  readonly upkeep: Upkeep
  readonly #db: GuardedDatabase
  readonly #leases: Leases
  readonly #stripes: Stripes
  readonly #snapshots: Snapshots
  readonly #knowledge: Knowledge
  readonly #policies: Policies
  readonly #signatures: SignatureRepository

  private constructor(db: GuardedDatabase, signatures: SignatureRepository, parts: CatalogParts) {
    this.#db = db
    this.#signatures = signatures
    this.#parts = parts
    this.#stripes = new Stripes(db)
    this.#leases = new Leases(db, this.#stripes)
    this.#snapshots = new Snapshots(db, this.#stripes)
    this.#policies = new Policies(db)
    this.members = new HostCatalogue(db, parts.clock)
    this.registry = new Registry(db, parts.clock)
    const { members, registry } = this
    const [stripes, snapshots] = [this.#stripes, this.#snapshots]
    this.#knowledge = new Knowledge({ db, clock: parts.clock, members, registry, stripes, snapshots })
    this.upkeep = new Upkeep({ db, stripes, members, registry })
  }

  static open(stateDir: string, parts: CatalogParts, options?: OpenOptions): LocalCatalog {
    const folder = join(stateDir, 'catalog')
    mkdirSync(folder, { recursive: true, mode: 0o700 })
    const db = openDatabase(join(folder, 'catalog.db'), parts.peer, options?.waitMs)
    try {
      const damaged = (why: string, path: string) => db.guard.doubt(why, path)
      return new LocalCatalog(db, new SegmentRepository(db, folder, damaged, options), parts)
    } catch (error) {
      db.close()
      throw error
    }
  }

  /** The catalog of a host's own state folder, with its identity: what a coordinator serves and `recover` fills. */
  static openFor(stateDir: string, clock: Clock = systemClock, options?: OpenOptions): LocalCatalog {
    return LocalCatalog.open(stateDir, partsOf(openHome(stateDir), clock), options)
  }

  close(): void {
    this.#signatures.close()
    this.#db.close()
  }

  async hosts(): Promise<HostRow[]> {
    return this.members.rows()
  }

  async begin(request: BeginRequest): Promise<Begun> {
    const id = () => randomBytes(16).toString('hex')
    return this.write(() => {
      this.members.seen(request.appliance)
      const { appliance, volume, lease = id() } = request
      const known = this.#leases.find(lease)
      if (!known) return this.#leases.begin(lease, id(), request, this.#parts.clock.now())
      if (known.appliance !== appliance || known.volume !== volume) {
        throw new ImagerError('PROTOCOL', { what: 'the lease of another run' })
      }
      const { snapshot, sequence, parent } = this.#openLease(lease)
      return { lease, snapshot, sequence, parent }
    })
  }

  async lookup(lease: Hex, ids: Uint8Array, tolerate: number): Promise<BigUint64Array> {
    checkIds(ids)
    this.#openLease(lease)
    const births = new BigUint64Array(ids.length / ID_BYTES)
    for await (const { at, locations } of this.#find(ids, tolerate)) {
      births.set(BigUint64Array.from(locations.births, BigInt), at)
    }
    return births
  }

  async reserve(lease: Hex, count: number): Promise<number[]> {
    checkReserve(count)
    const { appliance } = this.#openLease(lease)
    const shape = { k: 0, m: 0, packBytes: 0 }
    return this.write(() => Array.from({ length: count }, () => this.#stripes.open(appliance, lease, shape)))
  }

  async place(lease: Hex, request: PlaceRequest): Promise<Placed> {
    const { appliance } = this.#openLease(lease)
    checkPlace(request)
    this.#checkHosts(appliance, request)
    const stripe = this.write(() => {
      if (request.stripe !== undefined) this.#stripes.shape(request.stripe, lease, request)
      const number = request.stripe ?? this.#stripes.open(appliance, lease, request)
      if (request.stripe !== undefined) this.#sameStripe(lease, { ...request, stripe: number })
      this.#stripes.placeShards(number, request.shards)
      return number
    })
    const expires = this.#parts.clock.now() + GRANT_LIFETIME_MS
    const { lengthBytes } = request
    const grants = request.shards.map(({ host, shard }) =>
      this.#parts.signGrant({ operation: 'put', shard, lengthBytes, host, bearer: appliance, expires }),
    )
    return { stripe, grants: grants.map((grant) => Buffer.from(grant).toString('base64')) }
  }

  async commit(lease: Hex, request: CommitRequest): Promise<void> {
    this.#openLease(lease)
    checkCommit(request)
    if (this.#isCommitted(lease, request)) return
    this.#sameStripe(lease, request)
    const placed = new Set(this.#stripes.placedShards(request.stripe).map(placeName))
    if (!request.shards.every((shard) => placed.has(placeName(shard)))) {
      throw new ImagerError('PROTOCOL', { what: `stripe ${request.stripe} holds a shard that was never placed` })
    }
    this.write(() => {
      this.members.seen(this.#openLease(lease).appliance)
      this.#signatures.insert([request])
      this.#stripes.commit(request.stripe, request.shards)
      this.#stripes.keepLengths(request.stripe, lengthsOf(request))
      this.#knowledge.missDeparted(request.stripe, request.shards)
    })
    await this.#signatures.settle()
  }

  async finish(lease: Hex, request: FinishRequest): Promise<Finished> {
    const facts = this.#parts.openHead(request.head, request.references)
    const stripes = referencedStripes(request.references)
    return this.write(() => {
      const open = this.#leases.find(lease)
      if (open?.state === 'finished' && this.#isFinished(open, request.head)) return this.#finished(open.snapshot)
      const { source, label, parent, appliance, volume } = this.#openLease(lease)
      const names = ['appliance', 'volume', 'sequence', 'snapshot', 'parent'] as const
      const wrong = names.find((name) => facts[name] !== open?.[name])
      if (wrong) throw new ImagerError('PROTOCOL', { what: `the head's ${wrong} is not the lease's` })
      const { patterns } = this.#stripes.figure(stripes)
      if (outlookOf({ patterns }, new Map()).survives < 0) {
        throw new ImagerError('PROTOCOL', { what: 'the snapshot refers to stripes that are not committed' })
      }
      const { summary, head } = request
      const arrived = this.#parts.clock.now()
      this.#snapshots.add({ ...facts, arrived, id: facts.snapshot, parent, source, label, summary, head, stripes })
      this.#leases.end(lease, arrived)
      this.#policies.reach({ appliance, volume }, summary.tolerate, request.asked)
      const finished = this.#finished(facts.snapshot)
      this.registry.record('snapshot', appliance, finishedSentence(source, summary, finished))
      return finished
    })
  }

  async abandon(lease: Hex, failure: string): Promise<void> {
    checkFailure(failure)
    this.write(() => {
      const known = this.#leases.find(lease)
      if (known?.state !== 'open') return
      this.#leases.abandon(lease, failure, this.#parts.clock.now())
      this.registry.record('snapshot', known.appliance, `A run came to nothing (${failure}): ${known.source}`)
    })
  }

  async runs(appliance?: Hex): Promise<RunRow[]> {
    const runs = this.#leases.runs(this.#parts.clock.now(), appliance)
    return runs.filter((run) => this.#policies.of(run).retired === 0)
  }

  #finished(snapshot: Hex): Finished {
    const [row] = this.#snapshots.list(this.#present(), undefined, snapshot)
    if (!row) throw new ImagerError('NO_SUCH_SNAPSHOT', { snapshot })
    const { survives, target, state } = row
    return { survives, target, state }
  }

  async snapshots(appliance?: Hex): Promise<SnapshotRow[]> {
    return this.#snapshots.list(this.#present(), appliance).map(({ head: _head, ...row }) => row)
  }

  async snapshot(name: string, among: Among = {}, appliance?: Hex): Promise<FoundSnapshot> {
    const prefix = prefixOf(name)
    const rows = prefix === undefined ? [] : this.#snapshots.list(this.#present(), appliance, prefix)
    return choose(name, rows, among, (row) => this.#policies.of(row).retired === 1)
  }

  async locate(ids: Uint8Array): Promise<Located> {
    checkIds(ids)
    const count = ids.length / ID_BYTES
    const found = {
      stripes: new BigUint64Array(count),
      offsets: new Uint32Array(count),
      lengths: new Uint32Array(count),
    }
    for await (const { at, locations } of this.#find(ids, ANY)) {
      found.stripes.set(BigUint64Array.from(locations.stripes, BigInt), at)
      found.offsets.set(locations.offsets, at)
      found.lengths.set(locations.lengths, at)
    }
    return found
  }

  /** With `writer`, of his stripes only. */
  async records(numbers: readonly number[], writer?: Hex): Promise<Uint32Array[]> {
    return numbers.map((number) => this.#stripes.lengths(number, writer))
  }

  async stripes(numbers: readonly number[]): Promise<StripeRow[]> {
    const read = this.#db.transaction(() => numbers.map((number) => this.#stripes.row(number)))
    return read().filter((row) => row !== undefined)
  }

  async snapshotStripes(id: Hex, appliance?: Hex): Promise<number[]> {
    const found = this.#snapshots.stripesOf(id)
    if (!found || (appliance !== undefined && found.appliance !== appliance)) {
      throw new ImagerError('NO_SUCH_SNAPSHOT', { snapshot: id })
    }
    return found.stripes
  }

  /** `by` is who looked; what `trusted` says outweighs what others said. Defaults are for this host's own commands. */
  async learn(findings: readonly Finding[], inspected: readonly Hex[], by: Hex = '', trusted = true): Promise<void> {
    this.write(() => this.#knowledge.learn(findings, inspected, by, trusted))
  }

  /** Keeps what the host says of itself; true as `HostCatalogue.heartbeat`. A store with less than it was given is not believed. */
  heartbeat(host: Hex, beat: Heartbeat): boolean {
    return this.upkeep.keepBeat(host, beat, () => this.write(() => this.#knowledge.heartbeat(host, beat)))
  }

  async condition(): Promise<Condition[]> {
    return this.upkeep.conditions()
  }

  async policies(appliance?: Hex): Promise<{ fleet: Policy; volumes: VolumePolicy[] }> {
    const volumes = this.#policies.volumes().filter((one) => appliance === undefined || one.appliance === appliance)
    return { fleet: this.#policies.fleet(), volumes }
  }

  async setPolicy(of: VolumeId | null, policy: Partial<Policy>): Promise<void> {
    this.write(() => this.#policies.set(of, policy))
  }

  #present(): Present {
    const hosts = this.members.rows()
    const { needsKeybags } = this.#parts
    return {
      now: this.#parts.clock.now(),
      away: this.members.awayNumbers(),
      tolerate: (appliance, volume) => this.#policies.of({ appliance, volume }).tolerate,
      keybagHeld: (appliance) => !needsKeybags || this.registry.keybagHeld(appliance, hosts),
    }
  }

  /** Whose lease it is, whatever its state. */
  leaseOwner(lease: Hex): Hex | undefined {
    return this.#leases.find(lease)?.appliance
  }

  /** One transaction over the master file, registry and records. Nests. */
  write<T>(work: () => T): T {
    return this.#db.transaction(work).immediate()
  }

  /** Takes a host and its shards out of account (departure.ts). Throws WOULD_LOSE, and changes nothing, unless forced. */
  removeHost(host: Hex, by: Hex, force: boolean): Effect {
    return this.write(() => {
      const name = this.members.name(host)
      const snapshots = this.#snapshots.list(this.#present(), undefined)
      if (!force) requireNoSnapshots(name, snapshots.filter((row) => row.appliance === host).length)
      this.#knowledge.depart(host, by)
      const after = this.#snapshots.list(this.#present(), undefined)
      const effect = effectOn(snapshots, after)
      if (!force) requireNoLoss(name, effect)
      return effect
    })
  }

  /** Whether a volume raises alarms. Throws NO_SUCH_VOLUME where no snapshot is of it, and no run was. */
  retire(id: VolumeId, retired: boolean): Pick<VolumePolicy, 'applianceName' | 'source'> {
    return this.write(() => {
      const known = [...this.#policies.volumes(), ...this.#leases.runs(this.#parts.clock.now())]
      const found = known.find((one) => one.appliance === id.appliance && one.volume === id.volume)
      if (!found) throw new ImagerError('NO_SUCH_VOLUME', { name: id.volume })
      this.#policies.retire(id, retired)
      return found
    })
  }

  importHost(host: Admission): void {
    this.members.admit(host)
  }

  /** Hosts first; all or none. Throws FORGED at a stripe that another appliance wrote. Later ones are numbered after the highest. */
  async importStripes(stripes: readonly ImportedStripe[]): Promise<void> {
    for (const stripe of stripes) {
      checkRecords(stripe)
      this.#stripes.requireWriter(stripe.stripe, stripe.writer)
    }
    this.write(() => {
      this.#signatures.insert(stripes)
      this.#stripes.placed.together(() => {
        for (const { writer, ...row } of stripes) {
          this.#stripes.import(writer, row)
          this.#stripes.keepLengths(row.stripe, lengthsOf(row))
        }
      })
      this.#snapshots.forgetFigures()
    })
    await this.#signatures.settle()
  }

  /**
   * Leaves out the next `count` stripe numbers: stripes that only absent hosts hold, and that are unknown here, may
   * have them.
   */
  skipStripes(count: number): void {
    this.write(() => this.#stripes.skip(count))
  }

  /** Listed even where stripes of it are missing; it says so. */
  importSnapshot({ head, references, summary, source, label }: ImportedSnapshot): void {
    const facts = this.#parts.openHead(head, references)
    const stripes = referencedStripes(references)
    const row = { ...facts, arrived: 0, id: facts.snapshot, source, label, summary, head, stripes }
    this.write(() => this.#snapshots.add(row))
  }

  /** Looks signatures up, `FIND_PART` at a time: between two parts the event loop serves other calls. */
  async *#find(ids: Uint8Array, tolerate: number): AsyncGenerator<{ at: number; locations: FoundLocations }> {
    for (let at = 0; at * ID_BYTES < ids.length; at += FIND_PART) {
      const survival = this.#stripes.survival()
      const rank = (stripe: number): number => {
        const survives = survival.of(stripe)
        return survives >= tolerate ? survives - ANY : -1
      }
      const locations = await this.#signatures.find(ids.subarray(at * ID_BYTES, (at + FIND_PART) * ID_BYTES), rank)
      yield { at, locations }
    }
  }

  #openLease(lease: Hex): Lease {
    const found = this.#leases.find(lease)
    if (!found) throw new ImagerError('LEASE_ENDED', { why: 'the coordinator does not know it' })
    if (found.state === 'open') return found
    const fenced = found.failure === null ? 'a newer run of the same volume has begun' : `it failed (${found.failure})`
    throw new ImagerError('LEASE_ENDED', { why: found.state === 'fenced' ? fenced : 'it is finished' })
  }

  /** An open stripe of this lease, of this shape. */
  #sameStripe(lease: Hex, r: Pick<CommitRequest, 'stripe' | 'k' | 'm' | 'packBytes'>): void {
    const stored = this.#stripes.find(r.stripe)
    const same = stored?.lease === lease && stored.k === r.k && stored.m === r.m && stored.packBytes === r.packBytes
    if (!same || stored.committed) throw new ImagerError('PROTOCOL', { what: `stripe ${r.stripe} is not open` })
  }

  #isCommitted(lease: Hex, request: CommitRequest): boolean {
    if (this.#stripes.find(request.stripe)?.lease !== lease) return false
    const row = this.#stripes.row(request.stripe)
    if (!row) return false
    const name = (shard: { index: number; shard: Hex; root: Hex }) => `${shard.index} ${shard.shard} ${shard.root}`
    const held = new Set(row.shards.map(name))
    return held.size === request.shards.length && request.shards.every((shard) => held.has(name(shard)))
  }

  #isFinished({ snapshot }: Lease, head: Uint8Array): boolean {
    const [row] = this.#snapshots.list(this.#present(), undefined, snapshot)
    return row !== undefined && Buffer.compare(row.head, head) === 0
  }

  /** Each host of a placement offers a store, was seen lately, has room, and is not the bearer. */
  #checkHosts(bearer: Hex, { shards, lengthBytes }: PlaceRequest): void {
    const rows = new Map(this.members.rows().map((row) => [row.host, row]))
    const needed = new Map<Hex, number>()
    for (const { host } of shards) needed.set(host, (needed.get(host) ?? 0) + lengthBytes)
    for (const [host, bytes] of needed) {
      const row = rows.get(host)
      const why = row ? unfitBecause(row, bearer, bytes) : 'it is not a member of the fleet'
      if (why) throw new ImagerError('HOST_UNFIT', { host: row?.name ?? host.slice(0, 8), key: host, why })
    }
  }
}

function placeName({ index, host, shard }: { index: number; host: Hex; shard: Hex }): string {
  return `${index} ${host} ${shard}`
}

function finishedSentence(source: string, { newBytes, storedBytes }: SnapshotSummary, { survives }: Finished): string {
  const sizes = `${formatBytes(newBytes)} new, ${formatBytes(storedBytes)} stored`
  return `Snapshot of ${source}: ${sizes}, survives the loss of ${survives} ${survives === 1 ? 'host' : 'hosts'}`
}
