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
import { openHome } from '../keys/home.js'
import { Runs } from '../native.js'
import type { SignatureRepository } from '../signatures/repository.js'
import { ID_BYTES } from '../signatures/rows.js'
import { SegmentRepository } from '../signatures/segments.js'
import { numberOf, partsOfRunName, type RunsHandle, runName, runOf, stripeOf } from '../stripes/names.js'
import { ChainStore } from './chain.js'
import { checkCommit, checkFailure, checkIds, checkPlace, checkRecords, requireFit, requirePlaced } from './checks.js'
import { choose } from './choose.js'
import { type Effect, effectOn, requireNoLoss, requireNoSnapshots } from './departure.js'
import { Entries } from './entries.js'
import { ANY, Finder } from './finder.js'
import type { GuardedDatabase } from './guard.js'
import { type Heartbeat, HostCatalogue } from './hosts.js'
import { Knowledge } from './knowledge.js'
import { type Lease, Leases } from './leases.js'
import { lengthsOf } from './lengths.js'
import { meant, withPlaces } from './owners.js'
import { type CatalogParts, partsOf } from './parts.js'
import { Policies, type VolumeId } from './policies.js'
import { presentOf } from './present.js'
import { Receipts, requireReceipts } from './receipts.js'
import { referencedStripes } from './references.js'
import { Registry } from './registry.js'
import { Repairs } from './repairs.js'
import { StoredRuns } from './runs.js'
import { openDatabase } from './schema.js'
import { type Present, Snapshots } from './snapshots.js'
import { finishedSentence, outlookOf } from './state.js'
import { Stores } from './stores.js'
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
  HeldShard,
  HostRow,
  ImportedSnapshot,
  ImportedStripe,
  Located,
  PlaceRequest,
  Policy,
  RunRow,
  SignedStripe,
  SnapshotRow,
  StripeRow,
  VolumePolicy,
} from './types.js'
import { type OpenOptions, Upkeep } from './upkeep.js'

export class LocalCatalog implements Catalog {
  readonly members: HostCatalogue
  readonly registry: Registry
  readonly #parts: CatalogParts
  readonly upkeep: Upkeep
  readonly chain: ChainStore
  readonly entries: Entries
  readonly signed: Receipts
  readonly repairs: Repairs
  readonly #db: GuardedDatabase
  readonly #leases: Leases
  readonly #stripes: Stripes
  readonly #snapshots: Snapshots
  readonly knowledge: Knowledge
  readonly decisions: Policies
  readonly #signatures: SignatureRepository
  readonly #finder: Finder
  readonly #runs: StoredRuns
  readonly #stores: Stores

  private constructor(db: GuardedDatabase, signatures: SignatureRepository, parts: CatalogParts) {
    this.#db = db
    this.#signatures = signatures
    this.#parts = parts
    this.#runs = new StoredRuns(db)
    this.#stores = new Stores(db)
    this.#stripes = new Stripes(db, this.#runs)
    this.#leases = new Leases(db, this.#stripes)
    this.#finder = new Finder(signatures, this.#stripes)
    this.#snapshots = new Snapshots(db, this.#stripes)
    this.decisions = new Policies(db, parts.line)
    this.members = new HostCatalogue(db, parts.clock)
    this.registry = new Registry(db, parts.clock)
    this.chain = new ChainStore(db)
    const { members, registry, decisions } = this
    const tables = { runs: this.#runs, stripes: this.#stripes, snapshots: this.#snapshots, stores: this.#stores }
    const all = { db, parts, clock: parts.clock, members, registry, decisions, ...tables }
    this.knowledge = new Knowledge(all)
    this.upkeep = new Upkeep(all)
    this.signed = new Receipts(all)
    this.repairs = new Repairs(all)
    this.entries = new Entries(all)
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

  get names(): RunsHandle {
    this.#runs.refresh()
    return this.#runs.here
  }

  async hosts(): Promise<HostRow[]> {
    return withPlaces(this.members.rows(), this.#parts.line(), (host) => this.members.formerName(host))
  }

  async begin(request: BeginRequest): Promise<Begun> {
    const id = () => randomBytes(16).toString('hex')
    return this.write(() => {
      this.members.seen(request.appliance)
      const { appliance, volume, lease = id(), run = randomBytes(8).toString('hex') } = request
      const known = this.#leases.find(lease)
      if (!known) {
        const n = this.#runs.add(runName(appliance, run))
        const line = this.#parts.line().of(appliance)
        return { ...this.#leases.begin(lease, id(), { ...request, run: n }, line, this.#parts.clock.now()), run }
      }
      const { snapshot, sequence, parent, run: n } = this.#openLease(lease)
      const begun = { lease, run: partsOfRunName(this.#runs.name(n)).run, snapshot, sequence, parent }
      if (known.appliance === appliance && known.volume === volume && begun.run === (request.run ?? begun.run))
        return begun
      throw new ImagerError('PROTOCOL', { what: 'the lease of another run' })
    })
  }

  async lookup(lease: Hex, ids: Uint8Array, tolerate: number): Promise<BigUint64Array> {
    checkIds(ids)
    const { appliance } = this.#openLease(lease)
    const struck = this.knowledge.struckFor(appliance)
    const mine = this.#runs.writtenBy(this.#parts.line().of(appliance))
    const births = new BigUint64Array(ids.length / ID_BYTES)
    for await (const { at, locations } of this.#finder.of(ids, tolerate, [], struck, mine)) {
      births.set(this.#runs.birthsToHere(locations.births), at)
    }
    return births
  }

  async place(lease: Hex, asked: PlaceRequest): Promise<string[]> {
    const request = this.#ofLease(lease, asked)
    const { appliance, run: n } = this.#openLease(lease)
    checkPlace(request)
    requireFit(this.members.rows(), appliance, request)
    this.write(() => {
      this.#stripes.open(appliance, lease, request)
      this.#sameStripe(lease, request)
      this.#stripes.placeShards(request.stripe, request.shards)
    })
    const number = numberOf(request.stripe)
    const { writer, run } = partsOfRunName(this.#runs.name(n))
    const { lengthBytes } = request
    const grants = request.shards.map(({ host, index }) => {
      const named = { operation: 'put' as const, lease, writer, run, number, index }
      return this.#parts.signGrant({ ...named, lengthBytes, host, bearer: appliance })
    })
    return grants.map((grant) => Buffer.from(grant).toString('base64'))
  }

  async commit(lease: Hex, committed: CommitRequest): Promise<void> {
    const request = this.#ofLease(lease, committed)
    checkCommit(request)
    if (this.#isCommitted(lease, request)) return
    this.#sameStripe(lease, request)
    requirePlaced(request, this.#stripes.placedShards(request.stripe))
    requireReceipts(this.#parts, this.#runs.name(runOf(request.stripe)), request)
    this.write(() => {
      this.members.seen(this.#openLease(lease).appliance)
      this.#signatures.insert([request])
      this.#stripes.commit(request.stripe, this.signed.counting(request.shards))
      this.#stripes.keepLengths(request.stripe, lengthsOf(request))
      this.knowledge.missDeparted(
        request.stripe,
        request.shards.map(({ host }) => host),
      )
    })
    await this.#signatures.settle()
  }

  async finish(lease: Hex, request: FinishRequest): Promise<Finished> {
    const facts = this.#parts.openHead(request.head, request.references)
    const named = new Runs()
    const references = referencedStripes(request.references, named)
    return this.write(() => {
      const stripes = this.#rowsOf(references, named)
      const open = this.#leases.find(lease)
      if (open?.state === 'finished' && this.#isFinished(open, request.head)) return this.#finished(open)
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
      this.decisions.reach({ appliance, volume }, summary.tolerate, request.asked)
      const finished = this.#finished(facts)
      this.registry.record('snapshot', appliance, finishedSentence(source, summary, finished.survives))
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
    return runs.filter((run) => this.decisions.of(run).retired === 0)
  }

  #finished({ appliance, snapshot }: Pick<Lease, 'appliance' | 'snapshot'>): Finished {
    const [row] = this.#snapshots.list(this.#present(), appliance, snapshot)
    if (!row) throw new ImagerError('NO_SUCH_SNAPSHOT', { snapshot })
    const { survives, receipted, target, cosigned, state } = row
    return { survives, receipted, target, cosigned, state }
  }

  async snapshots(appliance?: Hex): Promise<SnapshotRow[]> {
    return this.#snapshots.list(this.#present(), appliance).map(({ head: _head, ...row }) => row)
  }

  async snapshot(name: string, among: Among = {}, appliance?: Hex): Promise<FoundSnapshot> {
    const asked = meant(name, this.#parts.line(), appliance)
    const rows = asked ? this.#snapshots.list(this.#present(), asked.owner, asked.prefix) : []
    return choose(name, rows, among, (row) => this.decisions.of(row).retired === 1)
  }

  async locate(ids: Uint8Array, births: BigUint64Array, except: readonly number[] = []): Promise<Located> {
    checkIds(ids)
    const count = ids.length / ID_BYTES
    if (births.length !== count)
      throw new ImagerError('PROTOCOL', { what: `${births.length} births of ${count} records` })
    const own = this.#runs.toRows(Array.from(births, (birth) => Number(birth >> 16n)))
    const tried = new Set(this.#runs.toRows(except))
    const found = {
      stripes: new BigUint64Array(count),
      offsets: new Uint32Array(count),
      lengths: new Uint32Array(count),
    }
    for await (const { at, locations } of this.#finder.of(ids, ANY, own, tried)) {
      found.stripes.set(
        BigUint64Array.from(locations.stripes, (stripe) => BigInt(stripe && this.#runs.toHere(stripe))),
        at,
      )
      found.offsets.set(locations.offsets, at)
      found.lengths.set(locations.lengths, at)
    }
    return found
  }

  /** With `writer`, of his stripes only, and of those of hosts whose place he has. */
  async records(numbers: readonly number[], writer?: Hex): Promise<Uint32Array[]> {
    const writers = writer === undefined ? undefined : this.#parts.line().of(writer)
    return this.#runs.toRows(numbers).map((number) => this.#stripes.lengths(number, writers))
  }

  async stripes(numbers: readonly number[]): Promise<StripeRow[]> {
    return this.#rows(numbers, (number) => this.#stripes.row(number))
  }

  async receipts(numbers: readonly number[]): Promise<SignedStripe[]> {
    return this.#rows(numbers, (number) => this.#stripes.signed(number))
  }

  #rows<R>(numbers: readonly number[], find: (row: number) => R | undefined): R[] {
    const rows = this.#runs.toRows(numbers)
    const read = this.#db.transaction(() => rows.map(find))
    return read().flatMap((row, at) => (row ? [{ ...row, stripe: numbers[at] as number }] : []))
  }

  async snapshotStripes(name: string, appliance?: Hex): Promise<number[]> {
    const line = this.#parts.line()
    const asked = meant(name, line, appliance)
    const found =
      asked && this.#snapshots.stripesOf(asked.prefix, asked.owner === undefined ? undefined : line.of(asked.owner))
    if (!found) throw new ImagerError('NO_SUCH_SNAPSHOT', { snapshot: name })
    return found.map((stripe) => this.#runs.toHere(stripe)).sort((a, b) => a - b)
  }

  /** `by` is who looked; what `trusted` says outweighs what others said. Defaults are for this host's own commands. */
  async learn(findings: readonly Finding[], inspected: readonly Hex[], by: Hex = '', trusted = true): Promise<void> {
    const rows = this.#runs.toRows(findings.map(({ stripe }) => stripe))
    const known = findings
      .map((finding, at) => ({ ...finding, stripe: rows[at] as number }))
      .filter(({ stripe }) => stripe > 0)
    this.write(() => this.knowledge.learn(known, inspected, by, trusted))
  }

  /** Keeps what the host says of itself; true as `HostCatalogue.heartbeat`. A store with less than it was given is not believed. */
  heartbeat(host: Hex, beat: Heartbeat): boolean {
    return this.upkeep.keepBeat(host, beat, () => this.write(() => this.knowledge.heartbeat(host, beat)))
  }

  async complain(stripes: readonly number[], by: Hex = '', trusted = true): Promise<void> {
    this.write(() => this.knowledge.complain(this.#runs.toRows(stripes), by, trusted))
  }

  async condition(): Promise<Condition[]> {
    return this.knowledge.conditions(this.upkeep.conditions())
  }

  async policies(appliance?: Hex): Promise<{ fleet: Policy; volumes: VolumePolicy[] }> {
    const volumes = this.decisions
      .volumes(this.#parts.line(), this.members)
      .filter((one) => appliance === undefined || one.appliance === appliance)
    return { fleet: this.decisions.fleet(), volumes }
  }

  async setPolicy(of: VolumeId | null, policy: Partial<Policy>): Promise<void> {
    this.write(() => this.decisions.set(of, policy))
  }

  #present(): Present {
    const { members, registry, chain, decisions } = this
    return presentOf({ parts: this.#parts, members, registry, chain, decisions })
  }

  /** The stripe of a lease's own run with this number in it. Throws LEASE_ENDED. */
  stripeOfLease(lease: Hex, number: number): number {
    return this.#runs.toHere(stripeOf(this.#openLease(lease).run, number))
  }

  leaseOwner(lease: Hex): Hex | undefined {
    return this.#leases.find(lease)?.appliance
  }

  /** One transaction over the master file, registry and records. Nests. */
  write<T>(work: () => T): T {
    try {
      return this.#db.transaction(work).immediate()
    } catch (error) {
      this.#runs.forget()
      this.#stores.forget()
      this.knowledge.stock.forget()
      throw error
    }
  }

  /** Takes a host and its shards out of account (departure.ts). Throws WOULD_LOSE, and changes nothing, unless forced. */
  removeHost(host: Hex, by: Hex, force: boolean): Effect {
    return this.write(() => {
      const name = this.members.name(host)
      const snapshots = this.#snapshots.list(this.#present(), undefined)
      if (!force) requireNoSnapshots(name, snapshots.filter((row) => row.appliance === host).length)
      this.knowledge.depart(host, by)
      this.#leases.expel(host, this.#parts.clock.now())
      const after = this.#snapshots.list(this.#present(), undefined)
      const effect = effectOn(snapshots, after)
      if (!force) requireNoLoss(name, effect)
      return effect
    })
  }

  /** A host takes the place of another, which is no member from then on. */
  inherit(former: Hex, heir: Hex): void {
    this.write(() => {
      this.removeHost(former, heir, true)
      this.#leases.inherit(former, heir, this.#parts.clock.now())
      this.decisions.inherit(former, heir)
    })
  }

  /** Whether a volume raises alarms. Throws NO_SUCH_VOLUME where no snapshot is of it, and no run was. */
  retire(id: VolumeId, retired: boolean): Pick<VolumePolicy, 'applianceName' | 'source'> {
    return this.write(() => {
      const known = [
        ...this.decisions.volumes(this.#parts.line(), this.members),
        ...this.#leases.runs(this.#parts.clock.now()),
      ]
      const found = known.find((one) => one.appliance === id.appliance && one.volume === id.volume)
      if (!found) throw new ImagerError('NO_SUCH_VOLUME', { name: id.volume })
      this.decisions.retire(id, retired)
      return found
    })
  }

  /** Hosts first; all or none. */
  async importStripes(imported: readonly ImportedStripe[]): Promise<void> {
    for (const stripe of imported) checkRecords(stripe)
    this.write(() => {
      this.#runs.keepAll(imported.map(({ stripe }) => stripe))
      const stripes = imported.map((one) => {
        return { ...one, stripe: this.#runs.toRow(one.stripe), births: this.#runs.keepBirths(one.births) }
      })
      this.#signatures.insert(stripes)
      for (const row of stripes) {
        this.#stripes.import(row)
        this.#stripes.keepLengths(row.stripe, lengthsOf(row))
      }
      this.#snapshots.forgetFigures()
    })
    await this.#signatures.settle()
  }

  /** Listed even where stripes of it are missing; it says so. */
  importSnapshot({ head, references, summary, source, label }: ImportedSnapshot): void {
    const facts = this.#parts.openHead(head, references)
    const named = new Runs()
    const referenced = referencedStripes(references, named)
    this.write(() => {
      this.#runs.keepAll(referenced, named)
      const stripes = this.#rowsOf(referenced, named)
      this.#snapshots.add({ ...facts, arrived: 0, id: facts.snapshot, source, label, summary, head, stripes })
    })
  }

  /** Ascending. Throws PROTOCOL where one is of a run that is not known. */
  #rowsOf(stripes: readonly number[], named: RunsHandle): number[] {
    const rows = this.#runs.toRows(stripes, named)
    if (!rows.includes(0)) return rows.sort((a, b) => a - b)
    throw new ImagerError('PROTOCOL', { what: 'the snapshot refers to stripes that are not committed' })
  }

  /** With the number of its row: the stripes of a lease are of its own run. */
  #ofLease<R extends { stripe: number }>(lease: Hex, request: R): R {
    const stripe = this.#runs.toRow(request.stripe)
    if (runOf(stripe) === this.#openLease(lease).run) return { ...request, stripe }
    throw new ImagerError('PROTOCOL', { what: 'a stripe of another run' })
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
    if (same && !stored.committed) return
    throw new ImagerError('PROTOCOL', { what: `stripe ${numberOf(r.stripe)} is not open` })
  }

  #isCommitted(lease: Hex, request: CommitRequest): boolean {
    if (this.#stripes.find(request.stripe)?.lease !== lease) return false
    const row = this.#stripes.row(request.stripe)
    if (row === undefined) return false
    const name = ({ index, host, root }: HeldShard) => `${index} ${host} ${root}`
    const held = new Set(row.shards.map(name))
    return held.size === request.shards.length && request.shards.every((shard) => held.has(name(shard)))
  }

  #isFinished({ appliance, snapshot }: Lease, head: Uint8Array): boolean {
    const [row] = this.#snapshots.list(this.#present(), appliance, snapshot)
    return row !== undefined && Buffer.compare(row.head, head) === 0
  }
}
