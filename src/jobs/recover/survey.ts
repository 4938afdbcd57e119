/**
 * Stripes, rebuilt from nothing but shards: each peer's inventory, the header of each shard, which its writer signed, and from
 * every stripe that has shards enough the trailer, which lists its records. What no member wrote, and what does not open with a
 * key of the fleet, is counted and left out. Memory stays bounded: what is found waits in a file, trailers go on in small batches.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { hasCode, ImagerError, isOfHost } from '../../base/errors.js'
import type { Hex } from '../../base/ids.js'
import { BREAKER_MS } from '../../base/limits.js'
import { forEachAtOnce } from '../../base/queue.js'
import { MiB } from '../../base/units.js'
import type { LocalCatalog } from '../../catalog/local.js'
import { type ImportedStripe, PACK_HEADER_BYTES } from '../../catalog/types.js'
import { inspectShardHeader, Routes, readTrailer, type SecretHandle, trailerOffset } from '../../native.js'
import type { PeerClient } from '../../peers/client.js'
import type { Peers } from '../../peers/pool.js'
import type { Held } from '../../peers/store.js'
import { BODY_OFFSET, PATIENCE, PackReader } from '../../retrieve/packs.js'
import { RECORD_BYTES } from '../../signatures/rows.js'
import type { RunsHandle } from '../../stripes/names.js'
import type { Meter } from '../progress.js'
import type { FoundShard, FoundShards, FoundStripe } from './found-shards.js'
import type { Missing, Reached } from './reach.js'

export interface SurveyParts {
  readonly fleet: Hex
  /** C_a of each host that may have written: all that it may be. */
  readonly trailerKeys: ReadonlyMap<Hex, readonly SecretHandle[]>
  readonly found: FoundShards
  /** Of the catalog that is filled. */
  readonly names: RunsHandle
  readonly peers: Peers
  readonly signal: AbortSignal
}

export interface Survey {
  shards: number
  damaged: number
  /** Signed for another fleet, or by nobody who may write here. */
  foreign: number
  /** Peers that stopped answering half way; what they had told by then counts. */
  lost: Missing[]
}

const PEERS_AT_ONCE = 16
const HEADERS_AT_ONCE = 4
const STRIPES_AT_ONCE = 8
/** Of one page, before a peer counts as gone. */
const TRIES = 3
const IMPORT_BATCH = 32
/** As many rows as a pack may have records, and their seal. */
const TRAILER_BYTES = 4 * MiB

export async function surveyPeers(reached: readonly Reached[], parts: SurveyParts, meter: Meter): Promise<Survey> {
  const survey: Survey = { shards: 0, damaged: 0, foreign: 0, lost: [] }
  await forEachAtOnce(reached, PEERS_AT_ONCE, async ({ host, name }) => {
    try {
      await surveyPeer(parts.peers.get(host), parts, survey, meter)
    } catch (error) {
      parts.signal.throwIfAborted()
      if (!isOfHost(error)) throw error
      survey.lost.push({ host, name, why: error.message })
    }
  })
  return survey
}

interface Page {
  readonly shards: FoundShard[]
  damaged: number
  foreign: number
  bytes: number
  next: Hex | null
}

/** What it told counts, also where it stops answering in the middle. */
async function surveyPeer(peer: PeerClient, parts: SurveyParts, survey: Survey, meter: Meter): Promise<void> {
  for (let after: Hex | null = ''; after !== null; ) {
    const { page, failure } = await readPatiently(peer, after, parts)
    parts.found.add(page.shards)
    survey.shards += page.shards.length
    survey.damaged += page.damaged
    survey.foreign += page.foreign
    meter.add(page.bytes)
    if (failure) throw failure
    after = page.next
  }
}

/** The line may have been slow for a moment only. */
async function readPatiently(peer: PeerClient, after: Hex, parts: SurveyParts) {
  for (let tries = 1; ; tries++) {
    const page: Page = { shards: [], damaged: 0, foreign: 0, bytes: 0, next: null }
    try {
      await readPage(peer, after, parts, page)
      return { page }
    } catch (failure) {
      parts.signal.throwIfAborted()
      if (!hasCode(failure, 'HOST_UNREACHABLE') || tries === TRIES) return { page, failure }
      await sleep(BREAKER_MS, undefined, { signal: parts.signal })
    }
  }
}

async function readPage(peer: PeerClient, after: Hex, parts: SurveyParts, page: Page): Promise<void> {
  const { shards, next } = await peer.fetchInventory(after, undefined, { signal: parts.signal })
  page.next = next
  await forEachAtOnce(shards, HEADERS_AT_ONCE, async (held) => {
    const shard = await readHeader(peer, held, parts)
    if (typeof shard === 'string') page[shard]++
    else page.shards.push(shard)
    page.bytes += held.bytes
  })
}

/** Throws HOST_UNREACHABLE only: anything else is wrong with this one shard. */
async function readHeader(
  peer: PeerClient,
  { shard, bytes }: Held,
  { fleet, trailerKeys, signal }: SurveyParts,
): Promise<FoundShard | 'damaged' | 'foreign'> {
  if (bytes <= BODY_OFFSET) return 'damaged'
  try {
    const prefix = (await peer.fetchBody(shard, [0, BODY_OFFSET], { signal })).take()
    const { shard: id, index, bodyOffset, bodyBytes, stripe: facts } = inspectShardHeader(prefix)
    if (id !== shard || bodyOffset + bodyBytes !== bytes) return 'damaged'
    if (facts.fleet !== fleet || !trailerKeys.has(facts.writer)) return 'foreign'
    return { facts, index, host: peer.host }
  } catch (error) {
    signal.throwIfAborted()
    if (!isOfHost(error) || error.code === 'HOST_UNREACHABLE') throw error
    return 'damaged'
  }
}

export interface Rebuilt {
  readable: number
  /** Stripes with fewer than k shards on the peers that answer, and how many hosts the worst of them lacks. */
  lacking: number
  lacks: number
  /** Enough shards, but no trailer that opens. */
  unreadable: number
}

/** Reads the trailer of each stripe that was found, and imports it; of one that the catalog knows, the shards that it does not. */
export async function importFound(parts: SurveyParts, catalog: LocalCatalog, meter: Meter): Promise<Rebuilt> {
  const rebuilt: Rebuilt = { readable: 0, lacking: 0, lacks: 0, unreadable: 0 }
  let batch: ImportedStripe[] = []
  const flush = async () => {
    const full = batch
    batch = []
    await catalog.importStripes(full)
    rebuilt.readable += full.length
  }
  await forEachAtOnce(uncontested(parts.found.stripes()), STRIPES_AT_ONCE, async (stripe) => {
    const lacks = stripe.k - stripe.shards.length
    if ((await catalog.stripes([stripe.stripe])).length > 0) {
      catalog.entries.importShards(stripe)
      rebuilt.readable++
    } else if (lacks > 0) {
      rebuilt.lacking++
      rebuilt.lacks = Math.max(rebuilt.lacks, lacks)
    } else {
      const imported = await readStripe(stripe, parts)
      if (imported) batch.push(imported)
      else rebuilt.unreadable++
      if (batch.length >= IMPORT_BATCH) await flush()
    }
    meter.add(stripe.packBytes)
  })
  if (batch.length > 0) await flush()
  return rebuilt
}

/** Only its own writer can have named two packs alike; the more complete has the name. */
function* uncontested(stripes: Iterable<FoundStripe>): Generator<FoundStripe> {
  let best: FoundStripe | undefined
  for (const next of stripes) {
    if (best && best.stripe !== next.stripe) yield best
    if (best?.stripe !== next.stripe || next.shards.length - next.k > best.shards.length - best.k) best = next
  }
  if (best) yield best
}

/** Undefined where what its shards give does not verify. */
async function readStripe(stripe: FoundStripe, parts: SurveyParts): Promise<ImportedStripe | undefined> {
  const { peers, signal, trailerKeys, names } = parts
  const packs = new PackReader({
    catalog: { stripes: async () => [stripe] },
    routes: new Routes(PATIENCE),
    clock: peers.clock,
    fetch: (host, shard, range, options) => peers.get(host).fetchBody(shard, range, options),
    silentMs: (host) => peers.silentMs(host),
    hostName: (host) => host,
  })
  for (const key of trailerKeys.get(stripe.facts.writer) ?? []) {
    const open = (bytes: Buffer, offset: number) => readTrailer(bytes, offset, stripe.facts, names, key)
    try {
      const rows = await readRows(packs, stripe, open, signal)
      return { ...stripe, ...splitRows(rows) }
    } catch (error) {
      signal.throwIfAborted()
      if (!isOfHost(error)) throw error
    }
  }
  return undefined
}

/** From the ranges that hold it, and where those do not verify, from shards that were checked whole. */
async function readRows(
  packs: PackReader,
  { stripe, packBytes }: FoundStripe,
  open: (trailer: Buffer, offset: number) => Buffer,
  signal: AbortSignal,
) {
  const rowsOf = async (read: (start: number, end: number) => Promise<Buffer>) => {
    const offset = trailerOffset(await read(0, PACK_HEADER_BYTES))
    if (offset >= packBytes || packBytes - offset > TRAILER_BYTES) {
      throw new ImagerError('CORRUPT', { what: `A trailer cannot lie at ${offset}` })
    }
    return open(await read(offset, packBytes), offset)
  }
  try {
    return await rowsOf(async (start, end) => {
      const pieces = await packs.read({ stripe, start, end }, { hedged: true, signal })
      return Buffer.concat(pieces.map(({ body }) => body.take()))
    })
  } catch (error) {
    if (!hasCode(error, 'CORRUPT', 'FORGED', 'UNSUPPORTED')) throw error
    const whole = (await packs.readSound({ stripe, start: 0, end: packBytes }, signal)).body.take()
    return rowsOf(async (start, end) => whole.subarray(start, end))
  }
}

/** Rows of birth u64 LE, then what the catalog calls a record. */
function splitRows(rows: Buffer): { births: BigUint64Array; records: Buffer } {
  const width = 8 + RECORD_BYTES
  const count = rows.length / width
  const births = new BigUint64Array(count)
  const records = Buffer.allocUnsafe(count * RECORD_BYTES)
  for (let row = 0; row < count; row++) {
    births[row] = rows.readBigUInt64LE(row * width)
    rows.copy(records, row * RECORD_BYTES, row * width + 8, (row + 1) * width)
  }
  return { births, records }
}
