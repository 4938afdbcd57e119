/**
 * What the catalog answers, whether it is opened here (`local.ts`) or asked over the network (`../coordinator/client.ts`).
 * Every id is lower-case hex; batches are bytes back to back. One conformance suite runs over both.
 */
import type { Hex } from '../base/ids.js'
import type { Role } from '../keys/fields.js'
import type { RunsHandle } from '../stripes/names.js'

/** A birth is its stripe * 65,536 + ordinal: so many records a stripe at most. */
export const RECORDS_PER_STRIPE = 65_536
/** In front of the records of a pack (docs/formats/pack.md). */
export const PACK_HEADER_BYTES = 16
/** Up to 32 wide (docs/formats/stripe.md). */
export const STRIPE_WIDTH = 32

/**
 * `away`: not heard of for AWAY_AFTER_MS; an appliance or an admin, which calls only when it has something to do, mostly is.
 * `suspect`: it is there, but its store is not believed.
 */
export type HostState = 'here' | 'away' | 'never-seen' | 'suspect'

/** A line of the master file. */
export interface HostRow {
  host: Hex
  name: string
  role: Role
  domain: string
  addresses: string[]
  /** Where `storage` is shared, this host's part of it. */
  freeBytes: number
  usedBytes: number
  capacityBytes: number
  /** Identity of the file system under the store: equal = shared space; empty = offers no store. */
  storage: string
  lastSeen: number
  /** 0..1: time seen / time since admission. */
  uptime: number
  away: boolean
  state: HostState
  /** Why its store is not believed: its shards count as missing. Empty: it is. */
  suspect: string
  /** Id of its store, as it last said; empty: it never did. */
  store: Hex
  /** Its clock less the coordinator's, as it last measured it; null: it never did. */
  clockSkewMs: number | null
  /** Whose place it took; left out: nobody's. */
  tookPlaceOf?: { host: Hex; name: string }[]
}

export interface BeginRequest {
  /** Drawn by who asks, so that asking twice is asking once. */
  lease?: Hex
  /** 64 random bits, drawn by who asks: the stripes of this run are named by them, and never those of another. */
  run?: Hex
  appliance: Hex
  volume: Hex
  source: string
  label: string
}

export interface Begun {
  lease: Hex
  run: Hex
  snapshot: Hex
  sequence: number
  parent: Hex | null
  /** The entry with the key of new blocks, sealed to the appliance, where another host's coordinator gave it. */
  domainKey?: Buffer
}

/** The last run of a volume that is over: one that goes on says nothing yet. Times are the coordinator's. */
export interface LastRun {
  started: number
  /** Null where nobody said. */
  ended: number | null
  /** The code of its error, LEASE_ENDED where it ended without a word; null where it is `finished`. */
  failure: string | null
  finished: boolean
}

export interface RunRow extends LastRun {
  appliance: Hex
  applianceName: string
  volume: Hex
  source: string
  /** There are snapshots of it. */
  kept: boolean
}

export interface ShardPlace {
  index: number
  host: Hex
}

export interface HeldShard extends ShardPlace {
  root: Hex
  /** What its host signed of it (docs/formats/receipt.md), base64; left out: nothing yet. */
  receipt?: string
}

export type ReceiptedShard = HeldShard & { receipt: string }

export interface ShardRow extends Omit<HeldShard, 'receipt'> {
  /** Its id, which follows from its stripe and index. */
  shard: Hex
}

export interface PlaceRequest {
  /** Of the lease's own run. */
  stripe: number
  k: number
  m: number
  packBytes: number
  /** Of each shard's file. */
  lengthBytes: number
  shards: ShardPlace[]
}

/** What was found out about a shard. `present`: it is there, in its length; `proved`: all its bytes were read and are right. */
export const FACTS = ['present', 'proved', 'missing', 'corrupt', 'stale', 'wrong length'] as const
export type Fact = (typeof FACTS)[number]
/**
 * What is known of a shard, where nobody has found out more: `placed`, it was seen where it should be; `receipted`, its host signed
 * what it read back from its store.
 */
export const KNOWN = ['placed', 'receipted', ...FACTS] as const
export type Known = (typeof KNOWN)[number]

export interface Finding {
  stripe: number
  /** Nothing is learnt where the stripe has other shards by now. */
  shard: Hex
  fact: Fact
}

export interface CommitRequest {
  stripe: number
  k: number
  m: number
  packBytes: number
  /** Rows of `RECORD_BYTES`. */
  records: Uint8Array
  /** The shards that peers hold now, and say so. */
  shards: ReceiptedShard[]
}

/** Bytes of the source that are not as they should be; the first ranges of them, and the first files that they belong to. */
export interface Flaws {
  bytes: number
  ranges: { start: number; length: number }[]
  /** `/<partition>/<path>` */
  files: string[]
}

export interface SnapshotSummary {
  sourceBytes: number
  allocatedBytes: number
  readBytes: number
  newBytes: number
  storedBytes: number
  blocks: number
  newBlocks: number
  /** Ids of the keys under which its blocks may be sealed: new ones under the first. Empty where that is not known. */
  domains: Hex[]
  files: number
  seconds: number
  view: string
  volumes: { index: number; fileSystem: string; files: number; label: string }[]
  perHost: Record<Hex, number>
  fileTypes: Record<string, number>
  owners: Record<string, number>
  notes: string[]
  /** In use, but left out on purpose; `path` is empty where it is no file. */
  leftOut: { partition: number; what: string; path: string; bytes: number }[]
  /** What the source refused to give. */
  unreadable: Flaws
  /** Of files that went on being written: bytes that may be of several moments. */
  torn: Flaws
  tolerate: number
  k: number
  m: number
}

export interface FinishRequest {
  /** A person named the number of hosts that may be missing: it may be less than before. */
  asked: boolean
  head: Uint8Array
  /** The reference bitmap, see references.ts. */
  references: Uint8Array
  summary: SnapshotSummary
}

/**
 * By what is known of every shard, from the worst to the best. `incomplete`: a stripe it needs is not known here, or has lost
 * too many shards; `sealed`: it can be restored, and bears fewer losses than it should, or too few hosts have signed for that;
 * `protected`: as many as it should, and the hosts have signed what they hold;
 * `verified`: besides, every byte of it was read and is right.
 */
export const STATES = ['incomplete', 'sealed', 'protected', 'verified'] as const
export type SnapshotState = (typeof STATES)[number]

export interface Finished {
  /** Hosts that may be missing, whichever they are; -1 where `incomplete`. */
  survives: number
  /** The same, of failure domains, counting only what hosts have signed of the stores that they have now, or somebody has read. */
  receipted: number
  /** Hosts that should be allowed to be missing. */
  target: number
  /** Enough witnesses have signed the list that it is on, or there are none. */
  cosigned: boolean
  state: SnapshotState
}

export interface SnapshotRow extends Finished {
  id: Hex
  appliance: Hex
  applianceName: string
  /** Who took it, where `appliance` has that one's place now. */
  takenBy?: { host: Hex; name: string }
  volume: Hex
  source: string
  label: string
  sequence: number
  parent: Hex | null
  /** By its appliance's clock: `order.ts` says which to believe. */
  time: number
  /** When its `finish` arrived, by the coordinator's clock; 0: read back from peers, or of a catalog before format 4. */
  arrived: number
  /** Since when it is in that state: `verified`, when the byte that was read longest ago was read. */
  at: number
  /** Without the hosts that are away: hosts that may be missing besides (-1: it cannot be restored now), and whose return helps. */
  now: { survives: number; suffice: Hex[] }
  summary: SnapshotSummary
  /** What admins said of it. */
  ordered?: Ordered
}

/** To forget a snapshot, or to hold it whatever else is said: who said so, and when by his clock. Nothing is deleted by it yet. */
export interface Ordered {
  what: 'forget' | 'hold'
  by: string
  time: number
}

/** What a person decided of a volume, and what follows where he did not. */
export interface Policy {
  /** Hosts that may be missing; null: as many as the volume's snapshots were made for. */
  tolerate: number | null
  /** Age of the newest snapshot at which an alarm is due; null: by the intervals between them; 0: never. */
  maxAgeMs: number | null
}

export interface VolumePolicy extends Policy {
  appliance: Hex
  applianceName: string
  volume: Hex
  source: string
  /** The most that a snapshot of it was made for, and what the next one should reach. Falls only by a person. */
  target: number
  /** No alarm is raised for it. */
  retired: boolean
}

/** What says which snapshot is meant, for people. */
export type Named = Pick<SnapshotRow, 'id' | 'source' | 'applianceName' | 'time' | 'arrived'>

/** Of which disks a name may mean a snapshot: as they were called when they were imaged, of a host by its name or key. */
export interface Among {
  source?: string | undefined
  host?: string | undefined
}

export interface FoundSnapshot extends SnapshotRow {
  head: Uint8Array
  /** The newest of each other disk that `latest` could have meant as well. A disk of the same host and name is no other. */
  others: Named[]
}

export interface Located {
  /** 0 = unknown. */
  stripes: BigUint64Array
  offsets: Uint32Array
  lengths: Uint32Array
}

export interface StripeRow {
  stripe: number
  k: number
  m: number
  packBytes: number
  /** `fact`: what is known of it; left out where shards are told of, and not the catalog. */
  shards: (ShardRow & { fact?: Known })[]
}

/** Its good shards, with what their hosts signed where that is here. */
export interface SignedStripe extends Omit<StripeRow, 'shards'> {
  shards: HeldShard[]
}

export const CONDITIONS = [
  'COORDINATOR_READ_ONLY',
  'STATE_DAMAGED',
  'NOT_COSIGNED',
  'UNKNOWN_SNAPSHOTS',
  'REPLACED_BACK',
  'FALSE_RECORDS',
] as const

/** What keeps the coordinator from writing, from believing its own catalog, or from being believed. */
export interface Condition {
  readonly code: (typeof CONDITIONS)[number]
  readonly sentence: string
  readonly remedy: string
}

export interface Catalog {
  /** What the runs of the stripes and births are called that it is asked for, and answers. */
  readonly names: RunsHandle
  /** What its status is about: empty while all is well. */
  condition(): Promise<Condition[]>
  /** The master file, by name. */
  hosts(): Promise<HostRow[]>
  /** Key entries of the caller's, where it is another host's. Of one name the first stays. */
  keepKeys?(entries: readonly Buffer[]): Promise<void>
  /** Ends (fences) an older lease of that volume. Repeating it with the same lease gives the same answer. */
  begin(request: BeginRequest): Promise<Begun>
  /** Births, 0 = unknown: committed stripes only, and only those that survive at least `tolerate` hosts. */
  lookup(lease: Hex, ids: Uint8Array, tolerate: number): Promise<BigUint64Array>
  /** The grants to send a stripe's shards, base64, in the order of these. Asked again, also for other hosts, it gives others. */
  place(lease: Hex, request: PlaceRequest): Promise<string[]>
  /** Makes a stripe's records known. Repeating it changes nothing. */
  commit(lease: Hex, request: CommitRequest): Promise<void>
  /** Makes the snapshot visible and ends the lease. Repeating it gives the same answer. */
  finish(lease: Hex, request: FinishRequest): Promise<Finished>
  /** Ends a lease that came to nothing, with the code of the error. What is over already stays as it ended. */
  abandon(lease: Hex, failure: string): Promise<void>
  /** Of each volume that a run was begun of, newest last; of one without snapshots, while it was tried lately. */
  runs(): Promise<RunRow[]>
  /** Newest last: by sequence within a volume, volumes by arrival. */
  snapshots(): Promise<SnapshotRow[]>
  /** By id, unique prefix, `fullName` or `latest`; NO_SUCH_SNAPSHOT. */
  snapshot(name: string, among?: Among): Promise<FoundSnapshot>
  /**
   * Of each record, by signature and birth: in the stripe of its birth while that can be read, else where it is safest; `except`:
   * stripes that were tried.
   */
  locate(ids: Uint8Array, births: BigUint64Array, except?: readonly number[]): Promise<Located>
  /**
   * Of each stripe, how long its records are, in their order: they lie back to back behind the pack's header. Empty where
   * that is not known, or the stripe is less safe than its scheme: there `locate` says where a record lies best.
   */
  records(stripes: readonly number[]): Promise<Uint32Array[]>
  /** Committed stripes among `numbers`, in that order. */
  stripes(numbers: readonly number[]): Promise<StripeRow[]>
  /** Of committed stripes among `numbers`, in that order. */
  receipts(numbers: readonly number[]): Promise<SignedStripe[]>
  /** By id or `fullName`. */
  snapshotStripes(name: string): Promise<number[]>
  /** What was found out about shards, and the hosts all of whose shards were looked at. */
  learn(findings: readonly Finding[], inspected: readonly Hex[]): Promise<void>
  /** These stripes do not hold what they are said to: their shards are as they were sent, and records in them do not open. */
  complain(stripes: readonly number[]): Promise<void>
  /** The fleet's, and each volume's that has a snapshot. */
  policies(): Promise<{ fleet: Policy; volumes: VolumePolicy[] }>
  /** Of the volume, or of the fleet; what is left out stays. */
  setPolicy(of: { appliance: Hex; volume: Hex } | null, policy: Partial<Policy>): Promise<void>
}

/** A stripe read back from its trailer. */
export interface ImportedStripe extends StripeRow {
  /** Rows of `RECORD_BYTES`, and each one's birth. */
  records: Uint8Array
  births: BigUint64Array
}

export interface ImportedSnapshot extends Pick<FinishRequest, 'head' | 'references'> {
  summary: SnapshotSummary
  source: string
  label: string
}
