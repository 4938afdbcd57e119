/**
 * Ranges of packs, from whichever shards are there. A data shard holds its part of the pack as it is, so a range costs that
 * range of one host (two where it straddles); a missing one costs the same range of k others. Nothing here is believed by
 * its reader, who verifies each record; where one does not verify, `readSound` uses only shards whose every slice and root
 * are right, and remembers which were not.
 */
import type { Clock } from '../base/clock.js'
import { hasCode, ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import { SHARD_BYTES } from '../base/limits.js'
import type { ShardRow, StripeRow } from '../catalog/types.js'
import { Body, type BodyHandle, type DataLinesHandle, inspectShard, recoverBody } from '../native.js'

/** Where a shard's body begins (docs/formats/shard.md). */
export const BODY_OFFSET = 4096
const LAYOUTS_KEPT = 100_000
const AVOID_MS = 30_000
/** A host that takes longer than this, and than its bytes at 4 MB/s, is raced by the others. */
const HEDGE_MS = 300
const HEDGE_BYTES_PER_MS = 4_000
export const PATIENCE = { leastMs: HEDGE_MS, bytesPerMs: HEDGE_BYTES_PER_MS, asideMs: AVOID_MS }

export interface StripeSource {
  stripes(numbers: readonly number[]): Promise<StripeRow[]>
}

/** Bytes [start, end) of a shard file; the whole file without a range. */
export type FetchShard = (
  host: Hex,
  shard: Hex,
  range: readonly [number, number] | undefined,
  signal: AbortSignal | undefined,
) => Promise<BodyHandle>

/** A part of a range, as it came; `start` is its place in the pack. */
export interface Piece {
  readonly start: number
  readonly body: BodyHandle
}

export interface PackReaderParts {
  readonly catalog: StripeSource
  readonly fetch: FetchShard
  readonly clock: Clock
  /** For sentences. */
  readonly hostName: (host: Hex) => string
  /** Hears what the addon needs to know to fetch ranges by itself. */
  readonly lines?: DataLinesHandle
}

/** A stretch of one shard's body. */
interface Span {
  readonly index: number
  readonly start: number
  readonly end: number
}

/** Returns when it may be tried again; throws to give up. */
type Wait = (error: ImagerError, waitedMs: number) => Promise<void>

type FetchOwn = (own: ShardRow, span: Span, row: StripeRow) => Promise<BodyHandle>

export class PackReader {
  /** Shards that were found damaged; each was corrected from others. */
  readonly damaged = new Map<Hex, { host: Hex; stripe: number }>()
  readonly #parts: PackReaderParts
  readonly #layouts = new Map<number, StripeRow>()
  readonly #avoided = new Map<Hex, number>()
  #wait: Wait | undefined

  constructor(parts: PackReaderParts) {
    this.#parts = parts
  }

  /** From now on, where too few hosts answer, they are waited for. */
  waitBy(wait: Wait): void {
    this.#wait = wait
  }

  /** Learns the layouts of many stripes in one question. */
  async prepare(stripes: readonly number[]): Promise<void> {
    const unknown = stripes.filter((stripe) => !this.#layouts.has(stripe))
    if (unknown.length === 0) return
    if (this.#layouts.size > LAYOUTS_KEPT) {
      this.#layouts.clear()
      this.#parts.lines?.forgetStripes()
    }
    for (const row of await this.#parts.catalog.stripes(unknown)) {
      this.#layouts.set(row.stripe, row)
      this.#tellLines(row)
    }
  }

  #tellLines(row: StripeRow): void {
    const shards: Hex[] = Array.from({ length: row.k }, () => '')
    const hosts = [...shards]
    for (const { index, shard, host } of row.shards) {
      if (index >= row.k || this.damaged.has(shard)) continue
      shards[index] = shard
      hosts[index] = host
    }
    this.#parts.lines?.stripe(row.stripe, shardBytes(row), shards, hosts)
  }

  /** Bytes [start, end) of a pack, not verified, in order: a piece from each shard. Throws NOT_RESTORABLE. */
  async readPieces(stripe: number, start: number, end: number, signal?: AbortSignal): Promise<Piece[]> {
    const fetchOwn: FetchOwn = (own, span) => this.#fetch(own, span, signal)
    return this.#patiently(() => this.#pieces(stripe, start, end, fetchOwn, signal))
  }

  /** The same for somebody who waits: a host that is slow costs its part of the fleet's lines, and not his time. */
  async readSoon(stripe: number, start: number, end: number, signal?: AbortSignal): Promise<Piece[]> {
    const fetchOwn: FetchOwn = (own, span, row) => this.#hedge(row, own, span, signal)
    return this.#patiently(() => this.#pieces(stripe, start, end, fetchOwn, signal))
  }

  /** The same as one buffer. */
  async read(stripe: number, start: number, end: number, signal?: AbortSignal): Promise<Buffer> {
    const parts = (await this.readSoon(stripe, start, end, signal)).map(({ body }) => body.take())
    return parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts)
  }

  /** The same from shards that were checked whole. Throws NOT_RESTORABLE. */
  readSound(stripe: number, start: number, end: number, signal?: AbortSignal): Promise<Buffer> {
    return this.#patiently(() => this.#sound(stripe, start, end, signal))
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

  async #sound(stripe: number, start: number, end: number, signal: AbortSignal | undefined): Promise<Buffer> {
    const row = await this.#layout(stripe)
    const bodies = await Promise.all(row.shards.map((shard) => this.#soundBody(row, shard, signal)))
    const spans = spansOf(row, start, end)
    const present = slots(row, (index) => bodies[row.shards.findIndex((shard) => shard.index === index)])
    const missing = spans.map((span) => span.index).filter((index) => !present[index])
    if (missing.length > 0 && present.filter(Boolean).length < row.k) throw this.#notRestorable(row, present)
    for (const index of missing) {
      const others = present.map((body) => body && new Body(body))
      present[index] = (await recoverBody(row.k, row.m, others, index)).take()
    }
    return Buffer.concat(spans.map((span) => (present[span.index] as Buffer).subarray(span.start, span.end)))
  }

  async #pieces(
    stripe: number,
    start: number,
    end: number,
    fetchOwn: FetchOwn,
    signal: AbortSignal | undefined,
  ): Promise<Piece[]> {
    const row = await this.#layout(stripe)
    const length = shardBytes(row)
    return await Promise.all(
      spansOf(row, start, end).map(async (span) => {
        return { start: span.index * length + span.start, body: await this.#readSpan(row, span, fetchOwn, signal) }
      }),
    )
  }

  async #layout(stripe: number): Promise<StripeRow> {
    await this.prepare([stripe])
    const row = this.#layouts.get(stripe)
    if (row) return row
    throw new ImagerError('CORRUPT', { what: `The catalog does not know stripe ${stripe}` })
  }

  /** From its own host, else from the others; from an avoided host only where nothing else is left. */
  async #readSpan(
    row: StripeRow,
    span: Span,
    fetchOwn: FetchOwn,
    signal: AbortSignal | undefined,
  ): Promise<BodyHandle> {
    const own = row.shards.find((one) => one.index === span.index && !this.damaged.has(one.shard))
    if (own && !this.#isAvoided(own.host)) {
      try {
        return await fetchOwn(own, span, row)
      } catch (error) {
        this.#mayGoOn(error, signal)
        return this.#rebuild(row, span, signal)
      }
    }
    try {
      return await this.#rebuild(row, span, signal)
    } catch (error) {
      if (!own || !hasCode(error, 'NOT_RESTORABLE')) throw error
      return await this.#fetch(own, span, signal).catch((failure: unknown) => {
        this.#mayGoOn(failure, signal)
        throw error
      })
    }
  }

  /** From the same range of k others: asked k at once, each failure replaced by the next. */
  async #rebuild(row: StripeRow, span: Span, signal: AbortSignal | undefined): Promise<BodyHandle> {
    const others = row.shards
      .filter((shard) => shard.index !== span.index && !this.damaged.has(shard.shard))
      .sort((a, b) => Number(this.#isAvoided(a.host)) - Number(this.#isAvoided(b.host)))
    const present: (BodyHandle | undefined)[] = slots(row, () => undefined)
    const fetchNext = async (): Promise<void> => {
      for (let shard = others.shift(); shard; shard = others.shift()) {
        try {
          present[shard.index] = await this.#fetch(shard, span, signal)
          return
        } catch (error) {
          this.#mayGoOn(error, signal)
        }
      }
    }
    await Promise.all(Array.from({ length: row.k }, fetchNext))
    if (present.filter(Boolean).length < row.k) throw this.#notRestorable(row, present)
    return recoverBody(row.k, row.m, present, span.index)
  }

  /** From its own host, or, where that takes too long, from whoever comes first; the others are asked no further. */
  async #hedge(row: StripeRow, own: ShardRow, span: Span, signal: AbortSignal | undefined): Promise<BodyHandle> {
    const over = new AbortController()
    const interrupt = () => over.abort(signal?.reason)
    signal?.addEventListener('abort', interrupt, { once: true })
    if (signal?.aborted) interrupt()
    const patience = HEDGE_MS + (span.end - span.start) / HEDGE_BYTES_PER_MS
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, patience)
    })
    try {
      const first = this.#fetch(own, span, over.signal)
      const body = await Promise.race([first, late])
      if (body) return body
      this.avoid(own.host)
      const others = this.#rebuild(row, span, over.signal)
      return await Promise.any([first, others])
        .catch(() => others)
        .finally(() => over.abort())
    } finally {
      clearTimeout(timer)
      signal?.removeEventListener('abort', interrupt)
    }
  }

  async #fetch({ host, shard }: ShardRow, span: Span, signal: AbortSignal | undefined): Promise<BodyHandle> {
    try {
      return await this.#parts.fetch(host, shard, [BODY_OFFSET + span.start, BODY_OFFSET + span.end], signal)
    } catch (error) {
      if (hasCode(error, 'HOST_UNREACHABLE')) this.avoid(host)
      throw error
    }
  }

  /** This host does not answer: for a while it is asked last, so that one that hangs costs its deadline once. */
  avoid(host: Hex): void {
    this.#avoided.set(host, this.#parts.clock.now() + AVOID_MS)
    this.#parts.lines?.avoid(host)
  }

  /** The same for hosts that did not answer the addon, which does not ask them for a while either. */
  avoidSilent(hosts: readonly Hex[]): void {
    for (const host of hosts) if (!this.#isAvoided(host)) this.avoid(host)
  }

  #isAvoided(host: Hex): boolean {
    return (this.#avoided.get(host) ?? 0) > this.#parts.clock.now()
  }

  async #soundBody(row: StripeRow, shard: ShardRow, signal: AbortSignal | undefined): Promise<Buffer | undefined> {
    try {
      const file = (await this.#parts.fetch(shard.host, shard.shard, undefined, signal)).take()
      const facts = await inspectShard(file)
      const body = file.subarray(facts.bodyOffset)
      if (facts.shard === shard.shard && facts.root === shard.root && body.length === shardBytes(row)) return body
    } catch (error) {
      if (!hasCode(error, 'CORRUPT', 'UNSUPPORTED')) {
        this.#mayGoOn(error, signal)
        return undefined
      }
    }
    this.damaged.set(shard.shard, { host: shard.host, stripe: row.stripe })
    this.#tellLines(row)
    return undefined
  }

  /** Whatever a host does wrong makes its shard an erasure; our own cancelling ends the read. */
  #mayGoOn(error: unknown, signal: AbortSignal | undefined): void {
    signal?.throwIfAborted()
    if (!(error instanceof ImagerError)) throw error
  }

  #notRestorable(row: StripeRow, present: readonly unknown[]): ImagerError {
    const missing = row.shards.filter((shard) => !present[shard.index])
    const names = [...new Set(missing.map((shard) => this.#parts.hostName(shard.host)))].sort()
    const needed = row.k - present.filter(Boolean).length
    return new ImagerError('NOT_RESTORABLE', {
      missing: names.length,
      suffice: `any ${needed} of ${names.join(', ')}`,
      stripe: row.stripe,
    })
  }
}

/** Length of each shard's body. */
export function shardBytes(row: Pick<StripeRow, 'k' | 'packBytes'>): number {
  return Math.min(Math.ceil(row.packBytes / row.k), SHARD_BYTES)
}

function spansOf(row: StripeRow, start: number, end: number): Span[] {
  if (start < 0 || end > row.packBytes || start >= end) {
    throw new ImagerError('CORRUPT', { what: `bytes ${start} to ${end} of stripe ${row.stripe} are outside its pack` })
  }
  const length = shardBytes(row)
  const spans: Span[] = []
  for (let index = Math.floor(start / length); index * length < end; index++) {
    const base = index * length
    spans.push({ index, start: Math.max(0, start - base), end: Math.min(length, end - base) })
  }
  return spans
}

function slots<T>(row: StripeRow, at: (index: number) => T): T[] {
  return Array.from({ length: row.k + row.m }, (_, index) => at(index))
}
