/**
 * What the catalog answers, whether it is opened here (`local.ts`) or asked over the network (`../coordinator/client.ts`).
 * Every id is lower-case hex; batches are bytes back to back. One conformance suite runs over both.
 */
import type { Hex } from '../base/ids.js'
import type { Role } from '../keys/fields.js'

/** Birth number = stripe * 65,536 + ordinal: so many records a stripe at most. */
export const RECORDS_PER_STRIPE = 65_536
/** In front of the records of a pack (docs/formats/pack.md). */
export const PACK_HEADER_BYTES = 16
/** Stripe numbers of one `reserve`. */
export const RESERVED_STRIPES = 64
/** Up to 32 wide (docs/formats/stripe.md). */
export const STRIPE_WIDTH = 32

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
}

export interface BeginRequest {
  appliance: Hex
  volume: Hex
  source: string
  label: string
}

export interface Begun {
  lease: Hex
  snapshot: Hex
  sequence: number
  parent: Hex | null
}

export interface ShardPlace {
  index: number
  host: Hex
  shard: Hex
}

export interface ShardRow extends ShardPlace {
  root: Hex
}

export interface PlaceRequest {
  k: number
  m: number
  packBytes: number
  /** Of each shard's file. */
  lengthBytes: number
  shards: ShardPlace[]
  /** Given for a reserved stripe, and to replace shards of an open one. */
  stripe?: number
}

export interface Placed {
  stripe: number
  /** Base64, one for each shard asked for, in that order. */
  grants: string[]
}

export interface CommitRequest {
  stripe: number
  k: number
  m: number
  packBytes: number
  /** Rows of `RECORD_BYTES`. */
  records: Uint8Array
  /** The shards that peers hold now. */
  shards: ShardRow[]
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
  head: Uint8Array
  /** The reference bitmap, see references.ts. */
  references: Uint8Array
  summary: SnapshotSummary
}

/** `incomplete`: a stripe it needs is not known here, or has lost too many shards. */
export type SnapshotState = 'sealed' | 'protected' | 'incomplete'

export interface Finished {
  /** Hosts that may be missing, whichever they are. */
  survives: number
  state: SnapshotState
}

export interface SnapshotRow {
  id: Hex
  appliance: Hex
  applianceName: string
  volume: Hex
  source: string
  label: string
  sequence: number
  parent: Hex | null
  time: number
  /** -1 where `incomplete`. */
  survives: number
  state: SnapshotState
  summary: SnapshotSummary
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
  shards: ShardRow[]
}

export interface Catalog {
  /** The master file, by name. */
  hosts(): Promise<HostRow[]>
  /** Ends (fences) an older lease of that volume. */
  begin(request: BeginRequest): Promise<Begun>
  /** Birth numbers, 0 = unknown: committed stripes only, and only those that survive at least `tolerate` hosts. */
  lookup(lease: Hex, ids: Uint8Array, tolerate: number): Promise<BigUint64Array>
  /** Numbers for stripes that are still being filled, ascending. */
  reserve(lease: Hex, count: number): Promise<number[]>
  /** A stripe's number and the grants to send its shards. */
  place(lease: Hex, request: PlaceRequest): Promise<Placed>
  /** Makes a stripe's records known. Repeating it changes nothing. */
  commit(lease: Hex, request: CommitRequest): Promise<void>
  /** Makes the snapshot visible and ends the lease. Repeating it gives the same answer. */
  finish(lease: Hex, request: FinishRequest): Promise<Finished>
  /** Newest last. */
  snapshots(): Promise<SnapshotRow[]>
  /** By id, unique prefix or `latest`; NO_SUCH_SNAPSHOT. */
  snapshot(name: string): Promise<SnapshotRow & { head: Uint8Array }>
  locate(ids: Uint8Array): Promise<Located>
  /**
   * Of each stripe, how long its records are, in their order: they lie back to back behind the pack's header. Empty where
   * that is not known, or the stripe is less safe than its scheme: there `locate` says where a record lies best.
   */
  records(stripes: readonly number[]): Promise<Uint32Array[]>
  /** Committed stripes among `numbers`, in that order. */
  stripes(numbers: readonly number[]): Promise<StripeRow[]>
  snapshotStripes(id: Hex): Promise<number[]>
}
