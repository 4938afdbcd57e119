/**
 * Ranges of packs, from whichever shards are there. Who has which part, who does not answer and what is damaged stands in
 * `Routes` (native/src/retrieve/routes.rs), which is asked and told; here is what takes time: fetching, hedging (racing a slow
 * host against the others), rebuilding, waiting. A data shard holds its part of the pack as it is, so a range costs that range
 * of one host (two where it straddles); a missing one costs the same range of k others.
 */
import type { Clock } from '../base/clock.js'
import { hasCode, ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import type { StripeRow } from '../catalog/types.js'
import {
  type BodyHandle,
  type PackRange,
  type RouteShard,
  type RouteSpan,
  type RoutesHandle,
  recoverBody,
} from '../native.js'

/** Where a shard's body begins (docs/formats/shard.md). */
export const BODY_OFFSET = 4096
/**
 * Deadline after which a read is hedged: `leastMs` and as long as its bytes take at `bytesPerMs` (4 MB/s). The slow
 * host is then asked last for `asideMs`.
 */
export const PATIENCE = { leastMs: 300, bytesPerMs: 4_000, asideMs: 30_000 }

/** Bytes [start, end) of a shard file; the whole file without a range. */
export type FetchShard = (
  host: Hex,
  shard: Hex,
  range: readonly [number, number] | undefined,
  signal: AbortSignal | undefined,
) => Promise<BodyHandle>

/** As `imager check` calls them. */
export type ShardFault = 'missing' | 'wrong length' | 'corrupt'

/** A part of a range, as it came; `start` is its offset in the pack. */
export interface Piece {
  readonly start: number
  readonly body: BodyHandle
}

/** Opens the records of `only`, or of all members of the ranges, from pieces in order; returns those that did not verify. */
export type OpenRecords = (pieces: Piece[], only: number[] | undefined) => Promise<number[]>

export interface ReadOptions {
  /**
   * Hedge: where a host takes longer than `PATIENCE` allows, the range is asked of k others too, and whichever comes
   * first counts. Costs their bandwidth, so it is for reads that somebody waits for.
   */
  readonly hedged?: boolean
  readonly signal?: AbortSignal | undefined
}

export interface PackReaderParts {
  readonly catalog: { stripes(numbers: readonly number[]): Promise<StripeRow[]> }
  readonly routes: RoutesHandle
  readonly fetch: FetchShard
  readonly clock: Clock
  /** The name of a host, for error messages. */
  readonly hostName: (host: Hex) => string
}

/** Returns when it may be tried again; throws to give up. */
type Wait = (error: ImagerError, waitedMs: number) => Promise<void>

type Extent = Pick<PackRange, 'stripe' | 'start' | 'end'>

export class PackReader {
  /** Shards that were found damaged, or not found; each was corrected from others. */
  readonly damaged = new Map<Hex, { host: Hex; stripe: number; what: ShardFault }>()
  readonly #parts: PackReaderParts
  readonly #routes: RoutesHandle
  #wait: Wait | undefined

  constructor(parts: PackReaderParts) {
    this.#parts = parts
    this.#routes = parts.routes
  }

  /**
   * From now on reads for which too few hosts answer are repeated after `wait`, instead of failing with NOT_RESTORABLE.
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
   * checked whole. Throws NOT_RESTORABLE; CORRUPT where no host gives what verifies.
   */
  async open(ranges: readonly PackRange[], open: OpenRecords, options: ReadOptions = {}): Promise<void> {
    const fast = await Promise.all(ranges.map((range) => this.read(range, options)))
    const bad = await open(fast.flat(), undefined)
    if (bad.length === 0) return
    const members = new Set(bad)
    const again = ranges.filter((range) => range.members.some((member) => members.has(member)))
    const worse = await open(await Promise.all(again.map((range) => this.readSound(range, options.signal))), bad)
    if (worse.length === 0) return
    const what = `${worse.length} records of stripe ${ranges[0]?.stripe} do not verify from any host`
    throw new ImagerError('CORRUPT', { what })
  }

  /** Bytes of a pack, not verified: a piece from each shard, in order. Throws NOT_RESTORABLE. */
  read({ stripe, start, end }: Extent, options: ReadOptions = {}): Promise<Piece[]> {
    return this.#patiently(async () => {
      await this.prepare([stripe])
      const spans = this.#routes.spans(stripe, start, end)
      const piece = async (span: RouteSpan) => ({
        start: span.offset,
        body: await this.#readSpan(stripe, span, options),
      })
      return await Promise.all(spans.map(piece))
    })
  }

  async #patiently<T>(read: () => Promise<T>): Promise<T> {
    const started = this.#parts.clock.now()
    for (;;) {
      try {
        return await read()
      } catch (error) {
        if (!this.#wait || !hasCode(error, 'NOT_RESTORABLE')) throw error
        await this.#wait(error, this.#parts.clock.now() - started)
      }
    }
  }

  /**
   * The same from whole shards whose root and slices were checked; damaged ones go to `damaged`. Throws NOT_RESTORABLE.
   */
  readSound({ stripe, start, end }: Extent, signal?: AbortSignal): Promise<Piece> {
    return this.#patiently(async () => {
      const whole = ({ host, shard }: RouteShard) =>
        this.#parts.fetch(host, shard, undefined, signal).catch((error: unknown) => {
          this.#noteFault(stripe, host, shard, error)
          return throwIfOurs(error, signal)
        })
      const files = await Promise.all(this.#routes.shards(stripe).map(whole))
      const { body, right, damaged } = await this.#routes.readSound(stripe, start, end, files)
      for (const { shard, host } of damaged) this.#note(shard, host, stripe, 'corrupt')
      if (!body) throw this.#notRestorable(stripe, new Set(right))
      return { start, body }
    })
  }

  /**
   * Bytes of one data shard: from its own host, else rebuilt from others. A host that was silent of late is asked last.
   */
  async #readSpan(stripe: number, span: RouteSpan, { hedged, signal }: ReadOptions): Promise<BodyHandle> {
    const { own, silent } = span
    if (own && !silent) {
      try {
        return await (hedged ? this.#readHedged(stripe, own, span, signal) : this.#fetch(stripe, own, span, signal))
      } catch (error) {
        throwIfOurs(error, signal)
        return this.#rebuild(stripe, span, signal)
      }
    }
    try {
      return await this.#rebuild(stripe, span, signal)
    } catch (error) {
      if (!own || !hasCode(error, 'NOT_RESTORABLE')) throw error
      return await this.#fetch(stripe, own, span, signal).catch((failure: unknown) => {
        throwIfOurs(failure, signal)
        throw error
      })
    }
  }

  /**
   * Rebuilds a span from the same range of k other shards: k are asked at once, and the next one for each that fails.
   */
  async #rebuild(stripe: number, span: RouteSpan, signal: AbortSignal | undefined): Promise<BodyHandle> {
    const [k, m] = this.#routes.shape(stripe) as [number, number]
    const others = this.#routes.others(stripe, span.index)
    const present = new Map<number, BodyHandle>()
    const fetchNext = async (): Promise<void> => {
      for (let shard = others.shift(); shard; shard = others.shift()) {
        try {
          present.set(shard.index, await this.#fetch(stripe, shard, span, signal))
          return
        } catch (error) {
          throwIfOurs(error, signal)
        }
      }
    }
    await Promise.all(Array.from({ length: k }, fetchNext))
    if (present.size < k) throw this.#notRestorable(stripe, new Set(present.keys()))
    const bodies = Array.from({ length: k + m }, (_, index) => present.get(index))
    return recoverBody(k, m, bodies, span.index)
  }

  /**
   * From its own host; past the deadline for so many bytes (`patienceMs`) rebuilt from others as well. Whichever comes
   * first counts, and the other is cancelled.
   */
  async #readHedged(
    stripe: number,
    own: RouteShard,
    span: RouteSpan,
    signal: AbortSignal | undefined,
  ): Promise<BodyHandle> {
    const over = new AbortController()
    const interrupt = () => over.abort(signal?.reason)
    signal?.addEventListener('abort', interrupt, { once: true })
    if (signal?.aborted) interrupt()
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, this.#routes.patienceMs(span.end - span.start))
    })
    try {
      const first = this.#fetch(stripe, own, span, over.signal)
      const body = await Promise.race([first, late])
      if (body) return body
      this.#routes.avoid(own.host)
      const others = this.#rebuild(stripe, span, over.signal)
      return await Promise.any([first, others])
        .catch(() => others)
        .finally(() => over.abort())
    } finally {
      clearTimeout(timer)
      signal?.removeEventListener('abort', interrupt)
    }
  }

  async #fetch(
    stripe: number,
    { host, shard }: RouteShard,
    span: RouteSpan,
    signal: AbortSignal | undefined,
  ): Promise<BodyHandle> {
    try {
      return await this.#parts.fetch(host, shard, [BODY_OFFSET + span.start, BODY_OFFSET + span.end], signal)
    } catch (error) {
      if (hasCode(error, 'HOST_UNREACHABLE')) this.#routes.avoid(host)
      this.#noteFault(stripe, host, shard, error)
      throw error
    }
  }

  /** What a host itself says of its shard: it is not there, or ends before what was asked for. */
  #noteFault(stripe: number, host: Hex, shard: Hex, error: unknown): void {
    if (hasCode(error, 'SHARD_MISSING')) this.#note(shard, host, stripe, 'missing')
    if (hasCode(error, 'SHARD_CORRUPT')) this.#note(shard, host, stripe, 'wrong length')
  }

  /** The first that is found of a shard stays. */
  #note(shard: Hex, host: Hex, stripe: number, what: ShardFault): void {
    if (!this.damaged.has(shard)) this.damaged.set(shard, { host, stripe, what })
  }

  #notRestorable(stripe: number, present: ReadonlySet<number>): ImagerError {
    const [k] = this.#routes.shape(stripe) as [number]
    const missing = this.#routes.shards(stripe).filter((shard) => !present.has(shard.index))
    const names = [...new Set(missing.map((shard) => this.#parts.hostName(shard.host)))].sort()
    const suffice = `any ${k - present.size} of ${names.join(', ')}`
    return new ImagerError('NOT_RESTORABLE', { missing: names.length, suffice, stripe })
  }
}

/**
 * Swallows what a host did wrong: its shard is an erasure. Throws where the read was cancelled, or the error is our own
 * bug.
 */
function throwIfOurs(error: unknown, signal: AbortSignal | undefined): undefined {
  signal?.throwIfAborted()
  if (!(error instanceof ImagerError)) throw error
  return undefined
}
