/**
 * What a lookup says is known already counts only once it is proved. Whoever may store can say that his stripe holds a record of any
 * signature, and a coordinator can say that anything is known; a snapshot that refers to such a place is lost. A place is right without
 * being asked for where this appliance stored the record itself, or proved it once. All others are *foreign*: the block that is in
 * hand is sealed in memory, and the host that should have its record is asked for the digest of exactly that range. Where it differs
 * (another zstd, or a lie), or the host is away, the record is fetched, or rebuilt from the other shards, and opened.
 *
 * Invariants: the nonce is drawn after the lookup that it is about. What is not proved in the end counts as unknown, so this run
 * stores it: nothing that is referred to rests on somebody's word. Of a stripe whose shards are as their writer sent them, and
 * whose record does not open, the coordinator hears.
 */
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import type { Clock } from '../../base/clock.js'
import { hasCode, isOfHost } from '../../base/errors.js'
import type { Hex } from '../../base/ids.js'
import { FALSE_STRIPES_READ, PROVE_BYTES, PROVE_RANGES, REQUEST_TIMEOUT_MS } from '../../base/limits.js'
import { KiB } from '../../base/units.js'
import type { Catalog, StripeRow } from '../../catalog/types.js'
import type { Home } from '../../keys/home.js'
import {
  type Batch,
  type ExpectedProof,
  type Pack,
  ProvedPlaces,
  packRanges,
  type RecordLocations,
  Routes,
  type VaultHandle,
} from '../../native.js'
import type { Peers } from '../../peers/pool.js'
import type { Proof, ProveRange } from '../../peers/prove.js'
import { openPacks } from '../../retrieve/open.js'
import { PATIENCE, type PackReader, placedAt } from '../../retrieve/packs.js'
import { tellDamage } from '../../retrieve/tell-damage.js'
import { ID_BYTES } from '../../signatures/rows.js'
import { partsOfRunName, runOf, shardOf } from '../../stripes/names.js'
import { LEVELS } from './compression-level.js'

/** Records that lie closer than this are fetched in one range. */
const GAP_BYTES = 64 * KiB
/** So many in a row that no level gives the length of: whoever stored them has another zstd, and trying all costs more than it saves. */
const STRANGE = 64

export interface ProofParts {
  readonly home: Home
  readonly catalog: Catalog
  readonly peers: Peers
  readonly clock: Clock
  readonly signal: AbortSignal
}

/** What of a batch was looked up, and in which domain. */
export interface LookedUp {
  readonly ids: Uint8Array
  /** As for `Batch.olderIds`; left out: in that of new blocks. */
  readonly older?: number
  /** Which items of the batch they are, of those that are not zeros; left out: all, in order. */
  readonly items?: readonly number[]
}

/** Records of a batch that have a birth which is not known to be right. */
interface Foreign {
  /** Positions among those that were looked up. */
  readonly nths: readonly number[]
  /** In the order of `nths`; stripe 0 where the catalog has another place for it than its birth, or none that fits. */
  readonly at: RecordLocations
}

export class Proofs {
  /** Records of others: proved by a digest, by opening them; not proved, and stored again. */
  readonly counts = { proved: 0, opened: 0, refused: 0 }
  readonly #vault: VaultHandle
  readonly #parts: ProofParts
  readonly #known: InstanceType<typeof ProvedPlaces>
  readonly #packs: PackReader
  readonly #layouts = new Map<number, StripeRow>()
  /** In which a record did not open, although its shards are right; nothing there is believed in this run. */
  readonly #false = new Set<number>()
  /** In which a record could not be had. */
  readonly #unproved = new Set<number>()
  readonly #silentUntil = new Map<Hex, number>()
  #strange = 0

  constructor(vault: VaultHandle, parts: ProofParts) {
    this.#vault = vault
    this.#parts = parts
    this.#known = new ProvedPlaces(join(parts.home.state, 'proved.bin'), vault)
    const { home, peers, signal } = parts
    // Without `locate`: a copy in another place does not make this one right.
    const catalog = { stripes: (numbers: readonly number[]) => parts.catalog.stripes(numbers) }
    this.#packs = openPacks({ home, peers, catalog }, new Routes(PATIENCE), signal)
  }

  /** Births as they were looked up, without those that are not proved. The batch was prepared, and is not sealed yet. */
  async only(batch: Batch, of: LookedUp, births: BigUint64Array): Promise<BigUint64Array> {
    const { ids } = of
    const { names } = this.#parts.catalog
    const unknown = this.#known.unknown(names, ids, births)
    if (unknown.length === 0) return births
    const firsts = firstOfEach(unknown, ids, births)
    const foreign = await this.#locate([...new Set(firsts.values())], ids, births)
    const answered = await this.#prove(batch, of, foreign)
    const opened = await this.#open(batch, of, foreign, answered)
    this.#known.learn(names, ids, births, [...answered, ...opened])
    this.counts.proved += answered.size
    this.counts.opened += opened.size
    this.counts.refused += foreign.nths.length - answered.size - opened.size
    const isRight = (first: number | undefined) => first === undefined || answered.has(first) || opened.has(first)
    return births.map((birth, nth) => (isRight(firsts.get(nth)) ? birth : 0n))
  }

  /** A pack of this run is stored. */
  stored(pack: Pack): void {
    this.#known.learnPack(this.#parts.catalog.names, pack)
  }

  /** Keeps what was proved, and tells the coordinator what was found. */
  async settle(): Promise<void> {
    const { catalog } = this.#parts
    // What is lost of it is proved again.
    await this.#known.save().catch(() => {})
    await tellDamage(this.#packs.damaged, catalog)
    if (this.#false.size === 0) return
    await catalog.complain([...this.#false]).catch((error: unknown) => {
      if (!hasCode(error, 'COORDINATOR_UNREACHABLE', 'NOT_ALLOWED', 'PROTOCOL')) throw error
    })
  }

  /** For people. */
  notes(): string[] {
    const { refused } = this.counts
    if (refused === 0) return []
    const writers = [...new Set([...this.#false].map((stripe) => this.#writerOf(stripe)))].sort()
    const who = writers.length === 0 ? '' : `; what ${writers.join(', ')} stored is not what it said`
    return [`${refused} blocks that were said to be known were not proved, and were stored again${who}`]
  }

  async #locate(nths: readonly number[], ids: Uint8Array, births: BigUint64Array): Promise<Foreign> {
    const { catalog } = this.#parts
    const wanted = nths.map((nth) => ids.subarray(nth * ID_BYTES, (nth + 1) * ID_BYTES))
    const own = BigUint64Array.from(nths, (nth) => births[nth] as bigint)
    const { stripes, offsets, lengths } = await catalog.locate(Buffer.concat(wanted), own)
    await this.#learnLayouts([...new Set(Array.from(stripes, Number))])
    // The snapshot says the birth: a copy elsewhere does not make that one right.
    const fits = (at: number) =>
      stripes[at] === (own[at] as bigint) >> 16n &&
      isWithin(this.#layouts.get(Number(stripes[at])), offsets[at] as number, lengths[at] as number)
    return {
      nths,
      at: { stripes: Float64Array.from(nths, (_, at) => (fits(at) ? Number(stripes[at]) : 0)), offsets, lengths },
    }
  }

  async #learnLayouts(stripes: readonly number[]): Promise<void> {
    const unknown = stripes.filter((stripe) => stripe > 0 && !this.#layouts.has(stripe))
    if (unknown.length === 0) return
    for (const row of await this.#parts.catalog.stripes(unknown)) this.#layouts.set(row.stripe, row)
  }

  /** Those all of whose parts are answered as only who has them can. */
  async #prove(batch: Batch, { older, items }: LookedUp, { nths, at }: Foreign): Promise<Set<number>> {
    const asked = nths.flatMap((nth, place) => (this.#mayAsk(at.stripes[place] as number) ? [{ nth, place }] : []))
    if (asked.length === 0) return new Set()
    const pick = (values: Uint32Array) => Uint32Array.from(asked, ({ place }) => values[place] as number)
    const layoutAt = ({ place }: { place: number }) => this.#layouts.get(at.stripes[place] as number) as StripeRow
    const places = {
      nths: Uint32Array.from(asked, ({ nth }) => items?.[nth] ?? nth),
      offsets: pick(at.offsets),
      lengths: pick(at.lengths),
      bodies: Uint32Array.from(asked, (one) => bodyBytes(layoutAt(one))),
    }
    // Drawn now: nobody could know it when he said that he has them.
    const nonce = randomBytes(32)
    const sealed = await batch.expect(this.#vault, nonce, places, this.#levels(), older)
    const nthOf = new Map(asked.map(({ nth }) => [items?.[nth] ?? nth, nth]))
    const expected = sealed.map((one) => ({ ...one, nth: nthOf.get(one.nth) as number }))
    const stripeOf = new Map(asked.map(({ nth, place }) => [nth, at.stripes[place] as number]))
    this.#strange = expected.length > 0 ? 0 : this.#strange + asked.length
    const missed = await this.#ask(nonce, expected, (nth) => stripeOf.get(nth) as number)
    return new Set(expected.map(({ nth }) => nth).filter((nth) => !missed.has(nth)))
  }

  #levels(): number[] {
    return this.#strange < STRANGE ? [...LEVELS] : [LEVELS[0]]
  }

  #mayAsk(stripe: number): boolean {
    return stripe > 0 && !this.#false.has(stripe) && !this.#unproved.has(stripe)
  }

  /** Asks each host once for all that it should have. Those that were not answered right. */
  async #ask(
    nonce: Buffer,
    expected: readonly ExpectedProof[],
    stripeOf: (nth: number) => number,
  ): Promise<Set<number>> {
    const missed = new Set<number>()
    const byHost = new Map<Hex, { range: ProveRange; one: ExpectedProof }[]>()
    for (const one of expected) {
      const stripe = stripeOf(one.nth)
      const host = this.#layouts.get(stripe)?.shards.find(({ index }) => index === one.index)?.host
      if (host === undefined) missed.add(one.nth)
      else
        byHost.set(host, [
          ...(byHost.get(host) ?? []),
          { one, range: { ...one, shard: this.#shard(stripe, one.index) } },
        ])
    }
    await Promise.all(
      [...byHost].map(async ([host, parts]) => {
        const sorted = parts.sort((a, b) => (a.range.shard < b.range.shard ? -1 : 1))
        for (const some of pages(sorted)) {
          const proofs = await this.#answers(
            host,
            nonce,
            some.map(({ range }) => range),
          )
          for (const [nth, { one }] of some.entries()) if (!isProof(proofs[nth], one.digest)) missed.add(one.nth)
        }
      }),
    )
    return missed
  }

  /** None where the host does not answer; then it is let alone for a while, so that a frozen one does not hold up each batch. */
  async #answers(host: Hex, nonce: Buffer, ranges: readonly ProveRange[]): Promise<Proof[]> {
    const { peers, signal, clock } = this.#parts
    if (clock.now() < (this.#silentUntil.get(host) ?? 0)) return []
    try {
      return await peers.get(host).prove(nonce, ranges, { signal, timeoutMs: REQUEST_TIMEOUT_MS })
    } catch (error) {
      signal.throwIfAborted()
      if (!isOfHost(error)) throw error
      this.#silentUntil.set(host, clock.now() + PATIENCE.asideMs)
      return []
    }
  }

  /** Of what was not answered right, what opens. */
  async #open(batch: Batch, of: LookedUp, { nths, at }: Foreign, answered: ReadonlySet<number>): Promise<Set<number>> {
    const places = [...nths.keys()].filter((place) => !answered.has(nths[place] as number) && at.stripes[place] !== 0)
    const opened = new Set<number>()
    for (const range of packRanges(placedAt(places, at).at, GAP_BYTES)) {
      if (!this.#mayAsk(range.stripe) || this.#false.size + this.#unproved.size >= FALSE_STRIPES_READ) continue
      const here = range.members.map((member) => places[member] as number)
      await this.#openRange(
        { batch, of },
        { ...range, members: here.map((place) => nths[place] as number) },
        { at, here },
        opened,
      )
    }
    return opened
  }

  async #openRange(
    { batch, of: { older, items } }: { batch: Batch; of: LookedUp },
    range: { stripe: number; start: number; end: number; members: number[] },
    { at, here }: { at: RecordLocations; here: readonly number[] },
    opened: Set<number>,
  ): Promise<void> {
    const placed = (members: readonly number[]) => {
      const chosen = here.filter((_, nth) => members.includes(range.members[nth] as number))
      return placedAt(
        chosen,
        at,
        chosen.map((place) => range.members[here.indexOf(place)] as number),
      )
    }
    try {
      await this.#packs.open([range], {
        placed,
        sought: () => ({ births: new BigUint64Array(), ids: Buffer.alloc(0) }),
        open: async (pieces, some = placed(range.members)) => {
          const [offsets, bodies] = [pieces.map(({ start }) => start), pieces.map(({ body }) => body)]
          const wanted = { ...some, members: some.members.map((nth) => items?.[nth] ?? nth) }
          const others = new Set(await batch.differ(this.#vault, wanted, offsets, bodies, older))
          const differ = new Set(some.members.filter((_, at) => others.has(wanted.members[at] as number)))
          for (const nth of some.members) if (!differ.has(nth)) opened.add(nth)
          return [...differ]
        },
      })
    } catch (error) {
      this.#parts.signal.throwIfAborted()
      if (hasCode(error, 'CORRUPT')) this.#false.add(range.stripe)
      else if (isOfHost(error) || hasCode(error, 'NOT_RESTORABLE')) this.#unproved.add(range.stripe)
      else throw error
    }
  }

  #shard(stripe: number, index: number): Hex {
    return shardOf(this.#parts.catalog.names.name(runOf(stripe)) as Buffer, stripe, index)
  }

  #writerOf(stripe: number): string {
    const { writer } = partsOfRunName(this.#parts.catalog.names.name(runOf(stripe)) as Buffer)
    return this.#parts.home.membership().find(writer)?.name ?? writer.slice(0, 8)
  }
}

/** What repeats in a batch is proved once: of each of these, the first that is the same record at the same place. */
function firstOfEach(nths: readonly number[], ids: Uint8Array, births: BigUint64Array): Map<number, number> {
  const firsts = new Map<string, number>()
  const rows = Buffer.from(ids.buffer, ids.byteOffset, ids.byteLength)
  return new Map(
    nths.map((nth) => {
      const record = `${births[nth]} ${rows.toString('hex', nth * ID_BYTES, (nth + 1) * ID_BYTES)}`
      const first = firsts.get(record) ?? nth
      firsts.set(record, first)
      return [nth, first]
    }),
  )
}

function bodyBytes({ packBytes, k }: StripeRow): number {
  return Math.ceil(packBytes / k)
}

/** A record of nothing, or one that passes the end of its pack, lies nowhere. */
function isWithin(row: StripeRow | undefined, offset: number, length: number): boolean {
  return row !== undefined && row.k > 0 && length > 0 && offset + length <= row.packBytes
}

function isProof(proof: Proof | undefined, digest: Buffer): boolean {
  return Buffer.isBuffer(proof) && proof.equals(digest)
}

/** As much as one question may ask for. */
function* pages<T extends { readonly range: ProveRange }>(parts: readonly T[]): Generator<T[]> {
  let page: T[] = []
  let bytes = 0
  for (const part of parts) {
    const length = part.range.end - part.range.start
    if (page.length === PROVE_RANGES || (page.length > 0 && bytes + length > PROVE_BYTES)) {
      yield page
      page = []
      bytes = 0
    }
    page.push(part)
    bytes += length
  }
  if (page.length > 0) yield page
}
