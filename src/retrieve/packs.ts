/**
 * Ranges of packs, from whichever shards are there. Who has which part, who does not answer, who is late and what is damaged
 * stands in `Routes` (native/src/retrieve/routes.rs), which is asked and told; here is what takes time: fetching, hedging (racing
 * a slow host against the others), rebuilding, waiting. A data shard holds its part of the pack as it is, so a range costs that
 * range of one host (two where it straddles); a missing one costs the same range of k others.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Clock } from '../base/clock.js'
import { hasCode, ImagerError, isOfHost } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import type { Catalog } from '../catalog/types.js'
import {
  type BodyHandle,
  type PackRange,
  type PlacedRecords,
  packRanges,
  type RecordLocations,
  type RouteFault,
  type RouteShard,
  type RouteSpan,
  type RoutesHandle,
  recoverBody,
  type SoughtRecords,
} from '../native.js'
import { anyOf, notRestorable } from '../stripes/suffice.js'
import { type Race, race } from './race.js'

/** Where a shard's body begins (docs/formats/shard.md). */
export const BODY_OFFSET = 4096
/**
 * Deadline after which others are asked too. Of a read that somebody waits for: `leastMs` and as long as its bytes take at
 * `bytesPerMs` (4 MB/s). Of all others: when nothing came of the host for `quietMs`. The slow host is then asked last for `asideMs`.
 */
export const PATIENCE = { leastMs: 300, bytesPerMs: 4_000, quietMs: 3_000, asideMs: 30_000 }

/** Bytes [start, end) of a shard file; the whole file without a range. `begun` hears when the host is asked. */
export type FetchShard = (
  host: Hex,
  shard: Hex,
  range: readonly [number, number] | undefined,
  options: { readonly signal: AbortSignal; readonly begun: () => void },
) => Promise<BodyHandle>

/** As `imager check` calls them. */
export type ShardFault = 'missing' | 'wrong length' | 'corrupt'

/** A part of a range, as it came; `start` is its offset in the pack. */
export interface Piece {
  readonly start: number
  readonly body: BodyHandle
}

/** Whose records they are. */
export interface Opener {
  /** Where its members were planned to be read. */
  placed(members: number[]): PlacedRecords
  /** Opens all members of the ranges from pieces in order, or only those that are `placed`; returns those that did not verify. */
  open(pieces: Piece[], placed: PlacedRecords | undefined): Promise<number[]>
  /** What its members are. */
  sought(members: number[]): SoughtRecords
}

export interface ReadOptions {
  /**
   * Hedge at once: where a host takes longer than `PATIENCE` allows, the range is asked of k others too, and whichever comes
   * first counts. Costs their bandwidth, so it is for reads that somebody waits for; others do so only when a host is silent.
   */
  readonly hedged?: boolean
  readonly signal?: AbortSignal | undefined
}

export interface PackReaderParts {
  readonly catalog: Pick<Catalog, 'stripes'> & Partial<Pick<Catalog, 'locate'>>
  readonly routes: RoutesHandle
  readonly fetch: FetchShard
  /** For how long nothing has come of a host; undefined where nothing ever did. */
  readonly silentMs: (host: Hex) => number | undefined
  readonly clock: Clock
  /** Ends all reads that have no signal of their own. */
  readonly signal?: AbortSignal | undefined
  /** The name of a host, for error messages. */
  readonly hostName: (host: Hex) => string
}

/** Other places of a record that are tried: each costs a read, and whoever may store can say that he holds it too. */
export const PLACES_TRIED = 32
/** Records in one other place that lie closer than this come in one range. */
const GAP_BYTES = 64 * 1024

/** What could not be had, and why. */
interface Failed {
  readonly members: number[]
  readonly error: ImagerError
}

/** Returns when it may be tried again; throws to give up. */
type Wait = (error: ImagerError, waitedMs: number) => Promise<void>

type Extent = Pick<PackRange, 'stripe' | 'start' | 'end'>

export class PackReader {
  /** Shards that were found damaged, or not found; each was corrected from others. */
  readonly damaged = new Map<Hex, { host: Hex; stripe: number; what: ShardFault }>()
  /** Records that came from another place than the first. */
  elsewhere = 0
  readonly #parts: PackReaderParts
  readonly #routes: RoutesHandle
  #wait: Wait | undefined

  constructor(parts: PackReaderParts) {
    this.#parts = parts
    this.#routes = parts.routes
  }

  /**
   * From now on reads for which too few hosts answer are repeated after `wait`, instead of failing with NOT_RESTORABLE. Only
   * where hosts that come back would be enough.
   */
  waitBy(wait: Wait): void {
    this.#wait = wait
  }

  /** Learns the layouts of many stripes in one question. */
  async prepare(stripes: readonly number[]): Promise<void> {
    const unknown = this.#routes.unknown([...stripes])
    if (unknown.length === 0) return
    for (const { stripe, k, m, packBytes, shards } of await this.#parts.catalog.stripes(unknown)) {
      this.#routes.learn(stripe, k, m, packBytes, shards)
    }
  }

  /**
   * Has the records in some ranges of one stripe opened: fetched fast; what does not verify, once more from shards that were
   * checked whole; and what its first place does not give, from each other one that the catalog knows. Throws NOT_RESTORABLE;
   * CORRUPT where no host gives what verifies.
   */
  async open(ranges: readonly PackRange[], opener: Opener, options: ReadOptions = {}): Promise<void> {
    const started = this.#parts.clock.now()
    let placed: PlacedRecords | undefined
    for (;;) {
      const failed = await this.#openAnywhere(ranges, placed, opener, options, [])
      if (!failed) return
      await this.#waitFor(failed.error, started)
      placed = opener.placed(failed.members)
    }
  }

  /** `tried`: the stripes that need not be told. */
  async #openAnywhere(
    ranges: readonly PackRange[],
    placed: PlacedRecords | undefined,
    opener: Opener,
    options: ReadOptions,
    tried: readonly number[],
  ): Promise<Failed | undefined> {
    const failed = await this.#openHere(ranges, placed, opener, options)
    if (placed && tried.length > 0) this.elsewhere += placed.members.length - (failed?.members.length ?? 0)
    const { catalog } = this.#parts
    if (!failed || !catalog.locate || tried.length === PLACES_TRIED) return failed
    const { ids, births } = opener.sought(failed.members)
    const here = [...tried, ...new Set(ranges.map(({ stripe }) => stripe))]
    const { stripes, offsets, lengths } = await catalog.locate(ids, births, here)
    const found = { stripes: Float64Array.from(stripes, Number), offsets, lengths }
    const known = [...stripes.keys()].filter((at) => stripes[at] !== 0n)
    const left = failed.members.filter((_, at) => stripes[at] === 0n)
    for (const range of packRanges(placedAt(known, found).at, GAP_BYTES)) {
      const nths = range.members.map((nth) => known[nth] as number)
      const placed = placedAt(
        nths,
        found,
        nths.map((nth) => failed.members[nth] as number),
      )
      const worse = await this.#openAnywhere([{ ...range, members: placed.members }], placed, opener, options, here)
      left.push(...(worse?.members ?? []))
    }
    return left.length > 0 ? { members: left, error: failed.error } : undefined
  }

  async #openHere(
    ranges: readonly PackRange[],
    placed: PlacedRecords | undefined,
    opener: Opener,
    options: ReadOptions,
  ): Promise<Failed | undefined> {
    let left = placed?.members ?? ranges.flatMap(({ members }) => members)
    const some = new Set(left)
    const wanted = ranges.filter(({ members }) => members.some((member) => some.has(member)))
    try {
      const signal = options.signal ?? this.#parts.signal
      const fast = await Promise.all(wanted.map((range) => this.#readFast(range, { ...options, signal })))
      left = await opener.open(fast.flat(), placed)
      if (left.length === 0) return undefined
      const bad = new Set(left)
      const again = wanted.filter(({ members }) => members.some((member) => bad.has(member)))
      const sound = await Promise.all(again.map((range) => this.#readWhole(range, signal)))
      left = await opener.open(sound, placed ? among(placed, bad) : opener.placed(left))
    } catch (error) {
      if (hasCode(error, 'NOT_RESTORABLE', 'CORRUPT')) return { members: left, error }
      throw error
    }
    const what = `${left.length} records of one stripe do not verify from any host`
    return left.length > 0 ? { members: left, error: new ImagerError('CORRUPT', { what }) } : undefined
  }

  /** Bytes of a pack, not verified: a piece from each shard, in order. Throws NOT_RESTORABLE. */
  read(range: Extent, options: ReadOptions = {}): Promise<Piece[]> {
    return this.#patiently(() => this.#readFast(range, { ...options, signal: options.signal ?? this.#parts.signal }))
  }

  async #readFast(range: Extent, options: ReadOptions): Promise<Piece[]> {
    const { stripe, start, end } = range
    await this.prepare([stripe])
    const spans = this.#routes.spans(stripe, start, end)
    const piece = async (span: RouteSpan) => ({ start: span.offset, body: await this.#readSpan(stripe, span, options) })
    try {
      return await Promise.all(spans.map(piece))
    } catch (error) {
      // What was damaged is not asked any more, and may have been mended.
      if (!hasCode(error, 'NOT_RESTORABLE') || !error.details.faulty) throw error
      return [await this.#readWhole(range, options.signal)]
    }
  }

  async #patiently<T>(read: () => Promise<T>): Promise<T> {
    const started = this.#parts.clock.now()
    for (;;) {
      try {
        return await read()
      } catch (error) {
        await this.#waitFor(error, started)
      }
    }
  }

  /** Throws where nobody would come back who helps. */
  async #waitFor(error: unknown, started: number): Promise<void> {
    if (!this.#wait || !hasCode(error, 'NOT_RESTORABLE') || !error.details.suffice) throw error
    await this.#wait(error, this.#parts.clock.now() - started)
  }

  /**
   * The same from whole shards whose root and slices were checked; damaged ones go to `damaged`. Throws NOT_RESTORABLE.
   */
  readSound(range: Extent, signal = this.#parts.signal): Promise<Piece> {
    return this.#patiently(() => this.#readWhole(range, signal))
  }

  /** Waits for all shards but those that are late, as any of them may be damaged. */
  async #readWhole({ stripe, start, end }: Extent, signal: AbortSignal | undefined): Promise<Piece> {
    const [k] = this.#routes.shape(stripe) as [number]
    const sound = this.#routes.sound(stripe)
    const shards = this.#routes.shards(stripe)
    const take: Race['take'] = async (shard, signal, begun) => {
      const right = await sound.keep(shard, await this.#fetch(stripe, shard, undefined, { signal, begun }))
      if (!right) this.#note(stripe, shard, 'corrupt')
    }
    await race({
      ...{ shards, first: shards.length, signal, more: () => 0, take },
      late: ({ host }, stop) => this.#late(host, { bytes: 0, eager: false }, stop),
      enough: (pending) => pending === 0 && sound.right().length >= k,
    })
    const body = await sound.read(start, end)
    if (!body) throw this.#notRestorable(stripe, sound.right())
    return { start, body }
  }

  /**
   * Bytes of one data shard: from its own host; where that fails or is late, rebuilt from the same range of k others, and
   * whichever comes first counts. A host that was silent of late is asked last.
   */
  async #readSpan(stripe: number, span: RouteSpan, { hedged = false, signal }: ReadOptions): Promise<BodyHandle> {
    const { own, silent, index } = span
    const [k, m] = this.#routes.shape(stripe) as [number, number]
    const others = this.#routes.others(stripe, index)
    const ownFirst = own !== null && !silent
    const present = new Map<number, BodyHandle>()
    const range = [BODY_OFFSET + span.start, BODY_OFFSET + span.end] as const
    await race({
      shards: ownFirst ? [own, ...others] : own ? [...others, own] : others,
      first: ownFirst ? 1 : k,
      signal,
      more: (shard) => (shard.index === index ? k : 1),
      take: async (shard, stop, begun) => {
        present.set(shard.index, await this.#fetch(stripe, shard, range, { signal: stop, begun }))
      },
      late: ({ host }, stop) => this.#late(host, { bytes: span.end - span.start, eager: hedged }, stop),
      enough: () => present.has(index) || present.size >= k,
    })
    const body = present.get(index)
    if (body) return body
    if (present.size < k) throw this.#notRestorable(stripe, [...present.keys()])
    const bodies = Array.from({ length: k + m }, (_, at) => present.get(at))
    return recoverBody(k, m, bodies, index)
  }

  /** Resolves when a host has taken too long, which is remembered, or was silent already. */
  async #late(host: Hex, asked: { bytes: number; eager: boolean }, stop: AbortSignal): Promise<void> {
    const began = performance.now()
    for (let waited = false; !stop.aborted; waited = true) {
      const times = { askedMs: performance.now() - began, silentMs: this.#parts.silentMs(host) ?? null }
      const left = this.#routes.leftMs(host, { ...asked, ...times })
      if (left > 0) await sleep(left, undefined, { signal: stop }).catch(() => {})
      else return waited ? this.#routes.avoid(host) : undefined
    }
  }

  /** Not verified. Tells the routes what that says of host and shard. */
  async #fetch(
    stripe: number,
    shard: RouteShard,
    range: Parameters<FetchShard>[2],
    options: Parameters<FetchShard>[3],
  ): Promise<BodyHandle> {
    try {
      const body = await this.#parts.fetch(shard.host, shard.shard, range, options)
      this.#routes.gave(shard)
      return body
    } catch (error) {
      const what = faultOf(error)
      if (hasCode(error, 'HOST_UNREACHABLE')) this.#routes.avoid(shard.host)
      else if (what && !options.signal.aborted) this.#routes.findFault({ shard, what })
      if (hasCode(error, 'SHARD_MISSING')) this.#note(stripe, shard, 'missing')
      if (hasCode(error, 'SHARD_CORRUPT')) this.#note(stripe, shard, 'wrong length')
      throw error
    }
  }

  /** The first that is found of a shard stays. */
  #note(stripe: number, { shard, host }: RouteShard, what: ShardFault): void {
    if (!this.damaged.has(shard)) this.damaged.set(shard, { host, stripe, what })
  }

  #notRestorable(stripe: number, came: number[]): ImagerError {
    const { needed, silent, faulty, canPass } = this.#routes.lack(stripe, came)
    const name = ({ host }: RouteShard) => this.#parts.hostName(host)
    const away = [...new Set(silent.map(name))].sort()
    const faults = faulty.map(({ shard, what }) => ({ what, shard: shard.shard, host: name(shard) }))
    return notRestorable({ silent: away, suffice: canPass ? anyOf(needed, away) : '', faulty: faults })
  }
}

/** Some records by where they stand in a list of places: as members of these numbers, or of others. */
export function placedAt(nths: readonly number[], at: RecordLocations, members = [...nths]): PlacedRecords {
  const stripes = Float64Array.from(nths, (nth) => at.stripes[nth] as number)
  const offsets = Uint32Array.from(nths, (nth) => at.offsets[nth] as number)
  const lengths = Uint32Array.from(nths, (nth) => at.lengths[nth] as number)
  return { members, at: { stripes, offsets, lengths } }
}

function among({ members, at }: PlacedRecords, some: ReadonlySet<number>): PlacedRecords {
  const nths = [...members.keys()].filter((nth) => some.has(members[nth] as number))
  return placedAt(
    nths,
    at,
    nths.map((nth) => members[nth] as number),
  )
}

/** What an answer says of a shard; undefined for no answer, and for what is ours. */
function faultOf(error: unknown): RouteFault['what'] | undefined {
  if (!isOfHost(error) || error.code === 'HOST_UNREACHABLE') return undefined
  if (hasCode(error, 'SHARD_MISSING')) return 'missing'
  return hasCode(error, 'SHARD_CORRUPT', 'IO') ? 'damaged' : 'refused'
}
