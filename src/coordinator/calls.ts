/**
 * What can be asked of a coordinator: one table, from which server and client both take path, request and answer.
 * Bodies are JSON checked by these schemas on both sides; batches of bytes travel as the message's attachment.
 */
import * as v from 'valibot'
import { KEYS_AN_OWNER, LOOKUP_IDS, MESSAGE_BYTES } from '../base/limits.js'
import { KiB, MiB } from '../base/units.js'
import { OTHERS } from '../catalog/choose.js'
import { COPIED_NAME } from '../catalog/copy.js'
import { EVENT_KINDS } from '../catalog/registry.js'
import { CONDITIONS, FACTS, KNOWN, RECORDS_PER_STRIPE, STATES, STRIPE_WIDTH } from '../catalog/types.js'
import { isPlausible } from '../keys/address.js'
import { Address, Base64, Count, Id, Key, Name, Role, Run, RunName, StripeNumber, Term, Time } from '../keys/fields.js'
import { Handed } from '../keys/handover.js'
import { ORDER_KINDS } from '../keys/orders.js'
import { STATEMENT_BYTES } from '../keys/statement.js'
import { ID_BYTES, RECORD_BYTES } from '../signatures/rows.js'
import { BUCKETS_BYTES } from '../stripes/buckets.js'
import { RECEIPT_BYTES } from '../stripes/receipt.js'

/** Snapshots of one answer: each at most 64 KiB, see `Summary`. */
export const SNAPSHOT_PAGE = 200
/** Layouts of one answer: each at most 6 KiB. */
export const STRIPE_PAGE = 1000
/** Stripes of one answer, whose records may take 256 KiB each. */
export const RECORDS_PAGE = 32
export const EVENT_PAGE = 1000
/** Of a stranger: names, sixteen addresses of 255 letters, an admission and a replacement. */
const JOIN_BYTES = 16 * KiB
/** Stripes whose receipts are in one answer: each at most 12 KiB. */
export const RECEIPTS_PAGE = 500
/** Findings of one message. */
export const FINDINGS_PAGE = 1000

const NAMES = 1000
/** Shown to people, and it comes from another host: control and direction characters could rewrite a terminal's line. */
const Text = (length: number) =>
  v.pipe(
    v.string(),
    v.maxLength(length),
    v.transform((text) => text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '?')),
  )
const Amounts = v.pipe(v.record(Text(255), v.pipe(v.number(), v.finite())), v.maxEntries(NAMES))
const Seconds = v.pipe(v.number(), v.finite(), v.minValue(0))
const Tolerate = v.pipe(Count, v.maxValue(STRIPE_WIDTH))
const Width = v.pipe(Count, v.maxValue(STRIPE_WIDTH))
/** Numbered by the runs of the same message, from 1. */
const Stripe = v.pipe(Count, v.minValue(1))
const Runs = v.pipe(v.array(RunName), v.maxLength(LOOKUP_IDS))
const Survives = v.pipe(v.number(), v.integer(), v.minValue(-1))
const Addresses = v.pipe(v.array(Address), v.maxLength(16))
/** Of who says so himself. */
const OwnAddresses = v.pipe(Addresses, v.everyItem(isPlausible, 'A place where no host can be'))
/** What a person typed to name a host. */
const Typed = v.pipe(v.string(), v.minLength(1), v.maxLength(255))
const Statements = v.pipe(v.array(Base64(1024)), v.maxLength(2000))
/** Of a membership: what orders it. */
const Place = { term: Term, handed: Count, sequence: Count }
const None = v.strictObject({})

const HostRow = v.strictObject({
  host: Key,
  name: Name,
  role: Role,
  domain: Name,
  addresses: Addresses,
  freeBytes: Count,
  usedBytes: Count,
  capacityBytes: Count,
  storage: Text(255),
  lastSeen: Time,
  uptime: v.pipe(v.number(), v.minValue(0), v.maxValue(1)),
  away: v.boolean(),
  state: v.picklist(['here', 'away', 'never-seen', 'suspect']),
  suspect: Text(1000),
  store: v.union([Id, v.literal('')]),
  clockSkewMs: v.nullable(v.pipe(v.number(), v.safeInteger())),
  tookPlaceOf: v.exactOptional(v.pipe(v.array(v.strictObject({ host: Key, name: Name })), v.maxLength(500))),
})
const ShardPlace = v.strictObject({ index: Width, host: Key })
const HeldShard = v.strictObject({ ...ShardPlace.entries, root: Key })
const shards = <S extends v.GenericSchema>(one: S) => v.pipe(v.array(one), v.minLength(1), v.maxLength(STRIPE_WIDTH))
const ReceiptedShard = v.strictObject({ ...HeldShard.entries, receipt: Base64(RECEIPT_BYTES) })
const KnownShard = v.strictObject({ ...HeldShard.entries, shard: Id, fact: v.exactOptional(v.picklist(KNOWN)) })
const SignedShard = v.strictObject({ ...HeldShard.entries, receipt: v.exactOptional(Base64(RECEIPT_BYTES)) })
const Finding = v.strictObject({ stripe: Stripe, shard: Id, fact: v.picklist(FACTS) })
const Policy = { tolerate: v.nullable(Tolerate), maxAgeMs: v.nullable(Count) }
const Scheme = { k: Width, m: Width, packBytes: Count }

const Flaws = v.strictObject({
  bytes: Count,
  ranges: v.pipe(v.array(v.strictObject({ start: Count, length: Count })), v.maxLength(NAMES)),
  files: v.pipe(v.array(Text(1024)), v.maxLength(NAMES)),
})
const Summary = v.pipe(
  v.strictObject({
    sourceBytes: Count,
    allocatedBytes: Count,
    readBytes: Count,
    newBytes: Count,
    storedBytes: Count,
    blocks: Count,
    newBlocks: Count,
    domains: v.pipe(v.array(Id), v.maxLength(KEYS_AN_OWNER)),
    files: Count,
    seconds: Seconds,
    view: Text(255),
    volumes: v.pipe(
      v.array(v.strictObject({ index: Count, fileSystem: Text(64), files: Count, label: Text(255) })),
      v.maxLength(256),
    ),
    perHost: Amounts,
    fileTypes: Amounts,
    owners: Amounts,
    notes: v.pipe(v.array(Text(1024)), v.maxLength(NAMES)),
    leftOut: v.pipe(
      v.array(v.strictObject({ partition: Count, what: Text(64), path: Text(1024), bytes: Count })),
      v.maxLength(NAMES),
    ),
    unreadable: Flaws,
    torn: Flaws,
    tolerate: Tolerate,
    k: Width,
    m: Width,
  }),
  v.check((summary) => JSON.stringify(summary).length <= 64 * KiB, 'The summary is over 64 KiB'),
)
const Finished = {
  survives: Survives,
  receipted: Survives,
  target: Tolerate,
  cosigned: v.boolean(),
  state: v.picklist(STATES),
}
const SnapshotRow = v.strictObject({
  id: Id,
  appliance: Key,
  applianceName: Text(64),
  takenBy: v.exactOptional(v.strictObject({ host: Key, name: Text(64) })),
  volume: Id,
  source: Text(4096),
  label: Text(255),
  sequence: Count,
  parent: v.nullable(Id),
  time: Time,
  arrived: Time,
  ...Finished,
  at: Time,
  now: v.strictObject({ survives: Survives, suffice: v.pipe(v.array(Key), v.maxLength(10_000)) }),
  summary: Summary,
  ordered: v.exactOptional(v.strictObject({ what: v.picklist(['forget', 'hold']), by: Text(64), time: Time })),
})
const { id, source, applianceName, time, arrived } = SnapshotRow.entries
const Named = v.strictObject({ id, source, applianceName, time, arrived })
const RunRow = v.strictObject({
  ...{ appliance: Key, applianceName: Text(64), volume: Id, source: Text(4096), started: Time },
  ...{ ended: v.nullable(Time), failure: v.nullable(Text(64)), finished: v.boolean(), kept: v.boolean() },
})
const EventRow = v.strictObject({
  n: Count,
  time: Time,
  kind: v.picklist(EVENT_KINDS),
  host: Key,
  sentence: Text(1000),
  count: v.pipe(Count, v.minValue(1)),
})

interface Call<Q extends v.GenericSchema, A extends v.GenericSchema> {
  readonly request: Q
  readonly answer: A
  /** Bytes of the whole request, at most. */
  readonly maxBytes: number
  /** Asking twice is asking once, but for numbers and grants that nobody uses: the client may repeat it on a fresh connection. */
  readonly repeatable: boolean
  /** Hosts that are no members may call it too. */
  readonly open: boolean
}

function call<Q extends v.GenericSchema, A extends v.GenericSchema>(
  request: Q,
  answer: A,
  { maxBytes = 64 * KiB, repeatable = true, open = false } = {},
): Call<Q, A> {
  return { request, answer, maxBytes, repeatable, open }
}

/** Each is `POST /v1/<name>`. The comment says what the attachments are, where there are any. */
export const CALLS = {
  /** What is known of the caller. */
  self: call(None, HostRow),
  hosts: call(None, v.strictObject({ hosts: v.array(HostRow) })),
  /** Answer: the entry with the key of new blocks, sealed to the appliance; empty where this coordinator holds none. */
  begin: call(
    v.strictObject({
      lease: v.exactOptional(Id),
      run: v.exactOptional(Run),
      appliance: Key,
      volume: Id,
      source: Text(4096),
      label: Text(255),
    }),
    v.strictObject({ lease: Id, run: Run, snapshot: Id, sequence: Count, parent: v.nullable(Id) }),
  ),
  /** ids; births as u64 LE. */
  lookup: call(v.strictObject({ lease: Id, tolerate: Tolerate }), v.strictObject({ runs: Runs }), {
    maxBytes: LOOKUP_IDS * ID_BYTES + 4 * KiB,
  }),
  /** `number`, as of `commit`: of the lease's own run. */
  place: call(
    v.strictObject({ lease: Id, number: StripeNumber, ...Scheme, lengthBytes: Count, shards: shards(ShardPlace) }),
    v.strictObject({ grants: v.array(Base64(4 * KiB)) }),
  ),
  /** records. */
  commit: call(v.strictObject({ lease: Id, number: StripeNumber, ...Scheme, shards: shards(ReceiptedShard) }), None, {
    maxBytes: RECORDS_PER_STRIPE * RECORD_BYTES + 64 * KiB,
  }),
  /** head, then references. Answer: the newest checkpoint with its cosignatures; empty where nobody watches. */
  finish: call(
    v.strictObject({
      lease: Id,
      headBytes: v.pipe(Count, v.maxValue(STATEMENT_BYTES)),
      asked: v.boolean(),
      summary: Summary,
    }),
    v.strictObject(Finished),
    { maxBytes: MESSAGE_BYTES },
  ),
  abandon: call(v.strictObject({ lease: Id, failure: Text(64) }), None),
  runs: call(None, v.strictObject({ runs: v.array(RunRow) })),
  snapshots: call(
    v.strictObject({ skip: Count }),
    v.strictObject({ snapshots: v.pipe(v.array(SnapshotRow), v.maxLength(SNAPSHOT_PAGE)), total: Count }),
  ),
  /** Answer: head. */
  snapshot: call(
    v.strictObject({ name: Text(96), source: v.exactOptional(Text(4096)), host: v.exactOptional(Text(64)) }),
    v.strictObject({ ...SnapshotRow.entries, others: v.pipe(v.array(Named), v.maxLength(OTHERS)) }),
  ),
  /** ids, then the birth of each, u64 LE; for each stripe u64, then for each offset u32, then for each length u32, LE. */
  locate: call(
    v.strictObject({ runs: Runs, except: v.pipe(v.array(Stripe), v.maxLength(STRIPE_PAGE)) }),
    v.strictObject({ runs: Runs }),
    { maxBytes: MESSAGE_BYTES },
  ),
  /** Answer: for each stripe count u32, then the length of each record u32, LE. */
  records: call(v.strictObject({ runs: Runs, numbers: v.pipe(v.array(Stripe), v.maxLength(RECORDS_PAGE)) }), None),
  stripes: call(
    v.strictObject({ runs: Runs, numbers: v.pipe(v.array(Stripe), v.maxLength(STRIPE_PAGE)) }),
    v.strictObject({ stripes: v.array(v.strictObject({ stripe: Stripe, ...Scheme, shards: shards(KnownShard) })) }),
  ),
  receipts: call(
    v.strictObject({ runs: Runs, numbers: v.pipe(v.array(Stripe), v.maxLength(RECEIPTS_PAGE)) }),
    v.strictObject({
      stripes: v.array(
        v.strictObject({ stripe: Stripe, ...Scheme, shards: v.pipe(v.array(SignedShard), v.maxLength(STRIPE_WIDTH)) }),
      ),
    }),
  ),
  /** Answer: sorted u64 LE. */
  snapshotStripes: call(v.strictObject({ name: Text(96) }), v.strictObject({ runs: Runs })),
  /** What the caller found out about shards; `inspected` counts from who may look after the fleet. */
  learn: call(
    v.strictObject({
      runs: Runs,
      findings: v.pipe(v.array(Finding), v.maxLength(FINDINGS_PAGE)),
      inspected: v.pipe(v.array(Key), v.maxLength(10_000)),
    }),
    None,
    { maxBytes: MiB },
  ),
  /** Their records do not open, although their shards are as they were sent. */
  complain: call(v.strictObject({ runs: Runs, numbers: v.pipe(v.array(Stripe), v.maxLength(STRIPE_PAGE)) }), None, {
    maxBytes: MiB,
  }),
  /** Answer: the statement in force; empty where nobody decided anything. */
  policies: call(
    None,
    v.strictObject({
      fleet: v.strictObject(Policy),
      volumes: v.array(
        v.strictObject({
          appliance: Key,
          applianceName: Text(64),
          volume: Id,
          source: Text(4096),
          ...Policy,
          target: Tolerate,
          retired: v.boolean(),
        }),
      ),
    }),
  ),
  setPolicy: call(
    v.strictObject({
      of: v.nullable(v.strictObject({ appliance: Key, volume: Id })),
      policy: v.strictObject({
        tolerate: v.exactOptional(Policy.tolerate),
        maxAgeMs: v.exactOptional(Policy.maxAgeMs),
      }),
    }),
    None,
  ),

  /** admission, signed by the token's key; `replacement`: what the root or an admin says of whose place it takes. Answer: the membership. */
  join: call(
    v.strictObject({
      ...{ token: Id, name: Name, domain: Name, addresses: OwnAddresses },
      replacement: v.exactOptional(Base64(1024)),
    }),
    v.strictObject({ name: Name, keys: v.pipe(v.array(Base64(2 * KiB)), v.maxLength(16)) }),
    { maxBytes: JOIN_BYTES, repeatable: false, open: true },
  ),
  /** What the caller says of its addresses, signed. */
  heartbeat: call(
    v.strictObject({
      freeBytes: Count,
      usedBytes: Count,
      capacityBytes: Count,
      storage: Text(255),
      store: v.nullable(
        v.strictObject({
          ...{ id: Id, sequence: Count, shards: Id },
          buckets: v.exactOptional(Base64(BUCKETS_BYTES)),
        }),
      ),
    }),
    v.strictObject({ ...Place, name: Name, wanted: v.boolean() }),
  ),
  /** The voucher of a token, where an enroller or an admin made one; else one is made. Answer: no token where it was brought. */
  invite: call(
    v.strictObject({ role: v.picklist(['peer', 'appliance', 'admin']) }),
    v.strictObject({ token: Text(4096), expires: Time }),
    { repeatable: false },
  ),
  /** The removal, where an enroller or an admin signed one. */
  remove: call(
    v.strictObject({ host: Typed, force: v.boolean() }),
    v.strictObject({ host: Name, key: Key, snapshotsBelowTarget: Count }),
    { repeatable: false },
  ),
  /** The root's delegation of an admin. Answer: the membership. */
  appoint: call(v.strictObject({ name: Name, sealing: Key }), v.strictObject({ name: Name, key: Key }), {
    repeatable: false,
  }),
  /**
   * The dismissal of an admin; the rest says again what he had said. Answer: the membership; those whom he had let in.
   */
  dismiss: call(
    v.strictObject({ admissions: Statements, removals: Statements, replacements: Statements }),
    v.strictObject({ name: Name, key: Key, letIn: v.array(Name) }),
    { maxBytes: 4 * MiB, repeatable: false },
  ),
  /** What an admin signed: an order, or a policy. */
  say: call(v.strictObject({ kind: v.picklist([...ORDER_KINDS, 'policy']) }), None, {
    maxBytes: STATEMENT_BYTES + 4 * KiB,
  }),
  rename: call(v.strictObject({ host: Typed, name: Name }), v.strictObject({ host: Name, name: Name, key: Key }), {
    repeatable: false,
  }),
  retire: call(v.strictObject({ appliance: Key, volume: Id, retired: v.boolean() }), None),
  /** Answer: the statement; one between what the caller knows and the newest, where he must not miss it. */
  membership: call(v.strictObject({ after: v.exactOptional(v.strictObject(Place)) }), None),
  /** What an enroller agreed to; empty where the coordinator is the enroller. `start`: else how it stands with it. */
  move: call(
    v.strictObject({ host: Typed, start: v.boolean() }),
    v.strictObject({ stage: v.picklist(['copying', 'handed over', 'moved']), name: Name }),
  ),
  /** A host is ready to become coordinator: is there something for it? `failed`: why it could not take what there was. */
  standBy: call(
    v.strictObject({ failed: Text(1000) }),
    v.strictObject({
      offer: v.nullable(
        v.strictObject({
          files: v.array(v.strictObject({ name: v.pipe(v.string(), v.regex(COPIED_NAME)), bytes: Count })),
          keys: v.array(Base64(2 * KiB)),
          /** The ids of those that are in use. */
          ...{ domain: Id, catalog: Id },
          /** BLAKE3 of the newest checkpoint. */
          tip: v.nullable(Key),
        }),
      ),
      handed: v.exactOptional(Handed),
    }),
  ),
  /** Answer: bytes of a file from there on. */
  movePart: call(v.strictObject({ name: v.pipe(v.string(), v.regex(COPIED_NAME)), offset: Count }), None),
  /** All is there and checked: the place goes to the caller. */
  handOver: call(None, v.strictObject({ handed: Handed })),
  /** The caller's first membership as coordinator. */
  takenUp: call(None, None, { maxBytes: STATEMENT_BYTES + 4 * KiB }),
  /** The first membership of a new term, signed by the root, with this coordinator in it. */
  adopt: call(None, None, { maxBytes: STATEMENT_BYTES + 4 * KiB }),
  /** Answer: the newest checkpoint that a quorum cosigned, with its cosignatures; empty where there is none. */
  checkpoint: call(None, None),
  /**
   * What the caller holds and the coordinator does not seem to know any more: it proves itself, also where a host brings it that the
   * coordinator does not know any more.
   */
  show: call(v.strictObject({ kind: v.picklist(['membership', 'checkpoint']) }), None, {
    ...{ maxBytes: 2 * STATEMENT_BYTES, open: true },
  }),
  /** What keeps the coordinator from writing, or from believing its own catalog. */
  condition: call(
    None,
    v.strictObject({
      problems: v.pipe(
        v.array(
          v.strictObject({
            code: v.picklist(CONDITIONS),
            sentence: Text(5000),
            remedy: Text(5000),
          }),
        ),
        v.maxLength(16),
      ),
    }),
  ),
  events: call(v.strictObject({ after: Count }), v.strictObject({ events: v.array(EventRow) })),
  /** Key entries of a host, for whoever opens them with the words. */
  keysOf: call(
    v.strictObject({ host: Key }),
    v.strictObject({ entries: v.pipe(v.array(Base64(2 * KiB)), v.maxLength(4 * KEYS_AN_OWNER)) }),
  ),
  /** Key entries of the caller's. The first of each name stays, so that it may be repeated. */
  keys: call(
    v.strictObject({ entries: v.pipe(v.array(Base64(2 * KiB)), v.minLength(1), v.maxLength(KEYS_AN_OWNER)) }),
    None,
    { maxBytes: KEYS_AN_OWNER * 3 * KiB },
  ),
} as const

export type CallName = keyof typeof CALLS
export type Request<N extends CallName> = v.InferOutput<(typeof CALLS)[N]['request']>
export type Answer<N extends CallName> = v.InferOutput<(typeof CALLS)[N]['answer']>
export const CALL_NAMES = Object.keys(CALLS) as CallName[]
