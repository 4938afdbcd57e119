/** A catalog on a temporary folder with a clock one can turn, hosts that offer stores, and what a run of a snapshot needs. */
import { createHash, randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Hex } from '../../src/base/ids.js'
import type { Admission, Heartbeat } from '../../src/catalog/hosts.js'
import { LocalCatalog } from '../../src/catalog/local.js'
import type { CatalogParts, HeadFacts } from '../../src/catalog/parts.js'
import type { Begun, Catalog, PlaceRequest, ReceiptedShard, SnapshotSummary } from '../../src/catalog/types.js'
import type { Role } from '../../src/keys/fields.js'
import { NO_LINE } from '../../src/keys/replacement.js'
import { shardFileBytes } from '../../src/native.js'
import type { SegmentOptions } from '../../src/signatures/segments.js'
import { Buckets } from '../../src/stripes/buckets.js'
import { numberOf, type RunsHandle, runName, runOf, stripeOf } from '../../src/stripes/names.js'
import { readReceipt, signReceipt } from '../../src/stripes/receipt.js'

/** What peers that were added say that their store is. */
export const STORE = '5a'.repeat(16)
const EMPTY = new Buckets().root
const NOBODY = { fleet: '00'.repeat(16), shard: '00'.repeat(16), root: '00'.repeat(32) }

export class TurnedClock {
  constructor(public time = 1_800_000_000_000) {}
  now(): number {
    return this.time
  }
}

export const hex = (bytes: number): Hex => randomBytes(bytes).toString('hex')

export function temporaryFolder(): { path: string; remove(): void } {
  const path = mkdtempSync(join(tmpdir(), 'imager-catalog-'))
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) }
}

/** Heads as JSON and grants as JSON: what is signed is the business of src/keys and tested in test/coordinator. */
export function plainParts(clock: TurnedClock): CatalogParts {
  return {
    clock,
    needsKeys: false,
    isWatched: () => false,
    line: () => NO_LINE,
    signGrant: (grant) => Buffer.from(JSON.stringify(grant)),
    openReceipt: (receipt) => readReceipt(receipt),
    openHead: (head) => JSON.parse(Buffer.from(head).toString()) as HeadFacts,
  }
}

export const plainHead = (facts: HeadFacts): Buffer => Buffer.from(JSON.stringify(facts))

export function openPlain(path: string, clock = new TurnedClock(), options?: SegmentOptions): LocalCatalog {
  return LocalCatalog.open(path, plainParts(clock), options)
}

export function member(host: Hex, role: Role, name: string): Admission {
  return { host, sealing: hex(32), name, role, domain: name, addresses: ['127.0.0.1:1'] }
}

export function offer(storage: string, freeBytes = 4e12): Heartbeat {
  return {
    addresses: ['127.0.0.1:1'],
    freeBytes,
    usedBytes: 0,
    capacityBytes: 2 * freeBytes,
    storage,
    store: { id: STORE, sequence: 0, shards: EMPTY },
  }
}

/** `count` peers that were just seen, each with a disk of its own. */
export function addPeers(catalog: LocalCatalog, count: number): Hex[] {
  return Array.from({ length: count }, (_, i) => {
    const host = hex(32)
    catalog.members.admit(member(host, 'peer', `pc${i + 1}`))
    catalog.members.heartbeat(host, offer(`disk-${host}`))
    return host
  })
}

export function placement(k: number, m: number, hosts: readonly Hex[], stripe = 0): PlaceRequest {
  const shards = Array.from({ length: k + m }, (_, index) => ({ index, host: hosts[index % hosts.length] as Hex }))
  return { stripe, k, m, packBytes: 100_000, lengthBytes: 60_000, shards }
}

const numbers = new Map<Hex, number>()

/** The next stripe of a run, as the catalog that was asked to begin it calls it. */
export function nextStripe({ names }: Pick<Catalog, 'names'>, appliance: Hex, { run }: Pick<Begun, 'run'>): number {
  const number = numbers.get(run) ?? 0
  numbers.set(run, number + 1)
  return stripeOf(names.number(runName(appliance, run)), number)
}

/** Receipts that say the right thing; who signed them is the business of test/catalog/receipts.test.ts. */
export function held(r: PlaceRequest, keep: (index: number) => boolean = () => true): ReceiptedShard[] {
  const said = { stripe: hex(32), lengthBytes: shardFileBytes(r.packBytes, r.k), store: STORE, sequence: 0 }
  return r.shards
    .filter(({ index }) => keep(index))
    .map((shard) => {
      const receipt = signReceipt({ ...said, index: shard.index }, NOBODY, { sign: () => Buffer.alloc(64) })
      return { ...shard, root: hex(32), receipt: receipt.toString('base64') }
    })
}

/** Rows of id | offset | length for these ids: 90 bytes each, back to back with `gap` between them. */
export function recordsOf(ids: Uint8Array, gap = 0): Buffer {
  const count = ids.length / 32
  const records = Buffer.alloc(count * 40)
  for (let i = 0; i < count; i++) {
    records.set(ids.subarray(i * 32, (i + 1) * 32), i * 40)
    records.writeUInt32LE(16 + i * (90 + gap), i * 40 + 32)
    records.writeUInt32LE(90, i * 40 + 36)
  }
  return records
}

export const ids = (count: number): Buffer => randomBytes(32 * count)

/** The id of a word: for tests that need to name one. */
export const idOf = (word: string): Buffer => createHash('sha256').update(word).digest()

/** The reference bitmap that names the first record of each stripe; docs/formats/references.md. */
export function references(stripes: readonly number[], names: RunsHandle): Buffer {
  const runs = [...new Set(stripes.map(runOf))].map((run) => names.name(run) ?? Buffer.alloc(40, 0xff))
  const parts: Uint8Array[] = [Buffer.from([...Buffer.from('IMRF'), 1, 0, 0, 0])]
  for (const name of runs.sort(Buffer.compare)) {
    const own = stripes.filter((stripe) => (names.name(runOf(stripe)) ?? Buffer.alloc(40, 0xff)).equals(name))
    parts.push(name, Buffer.from(varint(own.length)))
    let end = 0
    for (const number of own.map(numberOf).sort((a, b) => a - b)) {
      const birth = number * 65_536
      parts.push(Buffer.from([...varint(birth - end), 1]))
      end = birth + 1
    }
  }
  return Buffer.concat(parts)
}

function varint(value: number): number[] {
  return value < 0x80 ? [value] : [(value % 0x80) | 0x80, ...varint(Math.floor(value / 0x80))]
}

export function summary(over: Partial<SnapshotSummary> = {}): SnapshotSummary {
  return {
    sourceBytes: 1,
    allocatedBytes: 1,
    readBytes: 1,
    leftOut: [],
    unreadable: { bytes: 0, ranges: [], files: [] },
    torn: { bytes: 0, ranges: [], files: [] },
    newBytes: 1,
    storedBytes: 2,
    blocks: 1,
    newBlocks: 1,
    domains: ['d0'.repeat(16)],
    files: 1,
    seconds: 1.5,
    view: 'image file',
    volumes: [{ index: 1, fileSystem: 'ext4', files: 1, label: 'root' }],
    perHost: {},
    fileTypes: { txt: 1 },
    owners: { root: 1 },
    notes: [],
    tolerate: 2,
    k: 2,
    m: 1,
    ...over,
  }
}
