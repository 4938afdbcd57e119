/**
 * Stripes, their shards and the lengths of their records. Only SQL and the figures that follow from it; what may be done
 * when is decided in `local.ts`. A stripe is open until it is committed, and belongs to one lease till then.
 */
import type Database from 'better-sqlite3'
import { hasCode, ImagerError } from '../base/errors.js'
import { fromHex, type Hex, toHex } from '../base/ids.js'
import { partsOfRunName, runOf, shardOf } from '../stripes/names.js'
import { stripeSurvives } from '../stripes/survives.js'
import type { StoredRuns } from './runs.js'
import { Statements } from './statements.js'
import { Stock } from './stock.js'
import { Survival } from './survival.js'
import type { Fact, HeldShard, Known, PlaceRequest, ShardPlace, SignedStripe, StripeRow } from './types.js'

export interface StoredStripe {
  stripe: number
  k: number
  m: number
  packBytes: number
  writer: Hex
  lease: Hex | null
  committed: 0 | 1
  survives: number
  /** `host.n` of the hosts of its good shards, ascending, with commas. */
  holders: string
  /** Those of them whose receipt for it is not here, the same way. */
  unsigned: string
  /** When the one of its shards was proved that was proved longest ago; 0: not all are. */
  proved: number
}

interface StoredShard {
  index: number
  host: Hex
  shard: Buffer
  root: Buffer | null
  receipt: Buffer | null
  fact: Fact | null
}

/** Hosts by `host.n`, once for each good shard. */
export interface Pattern {
  k: number
  hosts: number[]
  /** Of these, who has signed nothing of the store that it has now, and whose shard nobody has read. */
  unsigned: number[]
}

/** Of all stripes of a snapshot, each way in which good shards lie on hosts (`host.n`). */
export interface Figure {
  /** None where a stripe is not known. */
  patterns: Pattern[]
  /** As `StoredStripe.proved`, of all stripes. */
  proved: number
  /** When the last bad thing was found out about a stripe that bears less than its scheme; 0: nothing was. */
  worsened: number
}

export class Stripes {
  readonly #statements: Statements
  readonly #stripe: Database.Statement<[number], StoredStripe>
  readonly #survival: Survival
  readonly stock: Stock
  readonly #shards: Database.Statement<[number], StoredShard>

  readonly #runs: StoredRuns

  constructor(db: Database.Database, runs: StoredRuns) {
    this.#runs = runs
    this.#statements = new Statements(db)
    this.#stripe = db.prepare('SELECT * FROM sound_stripe WHERE stripe = ?')
    this.#survival = new Survival(db)
    this.stock = new Stock(db)
    this.#shards = db.prepare(`SELECT position AS "index", host.host AS host, shard, root, receipt, fact
      FROM sound_shard AS shard JOIN sound_host AS host ON host.n = shard.host
      LEFT JOIN sound_evidence USING (stripe, position) WHERE stripe = ? ORDER BY position`)
  }

  find(stripe: number): StoredStripe | undefined {
    return this.#stripe.get(stripe)
  }

  /** A look at how much each stripe survives, as it is now: -1 also where it is not committed. */
  survival(): Pick<Survival, 'of'> {
    this.#survival.refresh()
    return this.#survival
  }

  /** Committed ones only. */
  row(stripe: number): StripeRow | undefined {
    const stored = this.#stripe.get(stripe)
    if (!stored?.committed) return undefined
    const { k, m, packBytes } = stored
    const shards = this.#shards.all(stripe).map(toShardRow)
    return { stripe, k, m, packBytes, shards }
  }

  /** The same with receipts, of its good shards. */
  signed(stripe: number): SignedStripe | undefined {
    const stored = this.#stripe.get(stripe)
    if (!stored?.committed) return undefined
    const { k, m, packBytes } = stored
    const good = this.#shards.all(stripe).filter(({ fact }) => isGood(fact))
    const shards = good.map(({ index, host, root, receipt }) => {
      return { index, host, root: toHex(root as Buffer), ...(receipt && { receipt: receipt.toString('base64') }) }
    })
    return { stripe, k, m, packBytes, shards }
  }

  /**
   * Stores the lengths of a stripe's records; undefined deletes them, where they cannot be given as lengths alone
   * (`lengthsOf`).
   */
  keepLengths(stripe: number, lengths: Uint8Array | undefined): void {
    if (lengths) this.#statements.prepare('INSERT OR REPLACE INTO record VALUES (?, ?)').run(stripe, lengths)
    else this.#statements.prepare('DELETE FROM record WHERE stripe = ?').run(stripe)
  }

  /**
   * Of a committed stripe that is as safe as its scheme can be: of a weaker one, the same records may have been stored again,
   * and better. With `writers`, only of theirs; with `least`, of one that survives so many losses.
   */
  lengths(stripe: number, writers: readonly Hex[] | undefined, least?: number): Uint32Array {
    const stored = this.#stripe.get(stripe)
    const isSafe = stored?.committed && stored.survives >= (least ?? stored.m)
    const isTold = isSafe && (writers === undefined || writers.includes(stored.writer))
    return new Uint32Array(new Uint8Array((isTold && this.#soundLengths(stripe)) || []).buffer)
  }

  /** None where the row is damaged: whoever asks then asks by signature, as where there never was one. */
  #soundLengths(stripe: number): Buffer | undefined {
    try {
      const row = this.#statements.prepare<[number], Buffer>('SELECT lengths FROM sound_record WHERE stripe = ?')
      return row.pluck().get(stripe)
    } catch (error) {
      if (hasCode(error, 'STATE_DAMAGED')) return undefined
      throw error
    }
  }

  placedShards(stripe: number): ShardPlace[] {
    return this.#shards.all(stripe).map(({ index, host }) => ({ index, host }))
  }

  /** A stripe that there is stays as it is. */
  open(writer: Hex, lease: Hex | null, r: Pick<PlaceRequest, 'stripe' | 'k' | 'm' | 'packBytes'>): void {
    this.#statements
      .prepare('INSERT OR IGNORE INTO stripe (stripe, k, m, packBytes, writer, lease) VALUES (?, ?, ?, ?, ?, ?)')
      .run(r.stripe, r.k, r.m, r.packBytes, writer, lease)
  }

  placeShards(stripe: number, shards: readonly (ShardPlace & Partial<HeldShard>)[]): void {
    const put = this.#statements.prepare(
      'INSERT OR REPLACE INTO shard SELECT ?, ?, host.n, ?, ?, ? FROM host WHERE host.host = ?',
    )
    const name = this.#runs.name(runOf(stripe))
    for (const { index, host, root, receipt } of shards) {
      const shard = bytes(shardOf(name, stripe, index))
      const { changes } = put.run(stripe, index, shard, root ? bytes(root) : null, signed(receipt), host)
      if (changes !== 1) throw new ImagerError('PROTOCOL', { what: `a shard on the unknown host ${host}` })
    }
  }

  /** Exactly `shards` are held from now on, and nothing bad is known of them. */
  commit(stripe: number, shards: readonly HeldShard[]): void {
    const stored = this.#stripe.get(stripe)
    if (!stored) throw new ImagerError('PROTOCOL', { what: 'a stripe that is unknown' })
    const before = this.#shards.all(stripe)
    if (stored.committed)
      for (const { host, shard, fact } of before) if (fact !== 'missing') this.stock.change(host, shard, -1)
    // Each row that is written costs its checksum: those that only get their root stay.
    if (isSame(before, shards)) this.#root(stripe, shards)
    else {
      this.#statements.prepare('DELETE FROM shard WHERE stripe = ?').run(stripe)
      this.placeShards(stripe, shards)
    }
    if (before.some(({ fact }) => fact !== null)) {
      this.#statements.prepare('DELETE FROM evidence WHERE stripe = ?').run(stripe)
    }
    this.#expect(stripe, shards)
    this.#figureOut(stripe, stored)
  }

  #expect(stripe: number, shards: readonly ShardPlace[]): void {
    const name = this.#runs.name(runOf(stripe))
    for (const { index, host } of shards) this.stock.change(host, bytes(shardOf(name, stripe, index)), 1)
  }

  #root(stripe: number, shards: readonly HeldShard[]): void {
    const put = this.#statements.prepare('UPDATE shard SET root = ?, receipt = ? WHERE stripe = ? AND position = ?')
    for (const { index, root, receipt } of shards) put.run(bytes(root), signed(receipt), stripe, index)
  }

  /** Brings what follows from its shards, and from what is known of them, up to date. */
  refigure(stripe: number): void {
    const stored = this.#stripe.get(stripe)
    if (stored?.committed) this.#figureOut(stripe, stored)
  }

  #figureOut(stripe: number, stored: StoredStripe): void {
    const shards = this.#statements
      .prepare<[number], { host: number; fact: Fact | null; time: number | null; isSigned: 0 | 1 }>(
        `SELECT host, fact, time, receipt IS NOT NULL AS isSigned FROM sound_shard LEFT JOIN sound_evidence USING (stripe, position)
        WHERE stripe = ? ORDER BY host`,
      )
      .all(stripe)
    const good = shards.filter(({ fact }) => isGood(fact))
    const hosts = good.map(({ host }) => host)
    const unsigned = good.filter(({ fact, isSigned }) => fact === null && isSigned === 0).map(({ host }) => host)
    const isProved = good.length === stored.k + stored.m && good.every(({ fact }) => fact === 'proved')
    this.#statements
      .prepare('UPDATE stripe SET committed = 1, survives = ?, holders = ?, unsigned = ?, proved = ? WHERE stripe = ?')
      .run(
        stripeSurvives(stored.k, hosts),
        hosts.join(','),
        unsigned.join(','),
        isProved ? Math.min(...good.map(({ time }) => time ?? 0)) : 0,
        stripe,
      )
    this.#survival.forget(stripe)
  }

  /** From outside. What was known of snapshots is old then. */
  import(row: Omit<StripeRow, 'shards'> & { shards: readonly HeldShard[] }): void {
    const { writer } = partsOfRunName(this.#runs.name(runOf(row.stripe)))
    this.open(writer, null, row)
    this.commit(row.stripe, row.shards)
  }

  /** More shards of a committed stripe that were found; of places that are taken none. What is known of the others stays. */
  addShards(stripe: number, shards: readonly HeldShard[]): void {
    const stored = this.#stripe.get(stripe)
    if (!stored?.committed) return
    const taken = new Set(this.#shards.all(stripe).map(({ index }) => index))
    const coming = shards.filter(({ index }) => !taken.has(index))
    if (coming.length === 0) return
    this.placeShards(stripe, coming)
    this.#expect(stripe, coming)
    this.#figureOut(stripe, stored)
  }

  /** A shard that nobody held well was made anew: from now on it is where this says, and nothing bad is known of it. */
  remake(stripe: number, shard: HeldShard): void {
    const stored = this.#stripe.get(stripe)
    const before = this.#shards.all(stripe).find(({ index }) => index === shard.index)
    if (!stored?.committed || (before && isGood(before.fact))) return
    this.#statements.prepare('DELETE FROM evidence WHERE stripe = ? AND position = ?').run(stripe, shard.index)
    if (before && before.fact !== 'missing') this.stock.change(before.host, before.shard, -1)
    this.placeShards(stripe, [shard])
    this.#expect(stripe, [shard])
    this.#figureOut(stripe, stored)
  }

  /** What a snapshot's state follows from, without who is away: one row a stripe is read. */
  figure(stripes: readonly number[]): Figure {
    const patterns = new Map<string, Figure['patterns'][number]>()
    let [proved, worsened] = [Number.MAX_SAFE_INTEGER, 0]
    for (const number of stripes) {
      const stored = this.#stripe.get(number)
      if (!stored?.committed) return { patterns: [], proved: 0, worsened: 0 }
      const { k, m, holders, unsigned } = stored
      proved = Math.min(proved, stored.proved)
      if (stored.survives < m) worsened = Math.max(worsened, this.#lastFinding(number))
      const name = `${k}/${holders}/${unsigned}`
      if (!patterns.has(name)) patterns.set(name, { k, hosts: numbersOf(holders), unsigned: numbersOf(unsigned) })
    }
    return { patterns: [...patterns.values()], proved: stripes.length > 0 ? proved : 0, worsened }
  }

  #lastFinding(stripe: number): number {
    const last = this.#statements
      .prepare<[number], number | null>(`SELECT max(time) FROM sound_evidence WHERE stripe = ? AND fact != 'proved'`)
      .pluck()
      .get(stripe)
    return last ?? 0
  }

  /** Deletes the stripes of a lease that were placed, and not committed. */
  dropOpen(lease: Hex): void {
    this.#statements.prepare('DELETE FROM stripe WHERE lease = ? AND committed = 0').run(lease)
  }
}

/** Nobody has looked since its commit, or all was right. */
export function isGood(fact: Known | null): boolean {
  return fact === null || fact === 'placed' || fact === 'receipted' || fact === 'proved'
}

function numbersOf(joined: string): number[] {
  return joined === '' ? [] : joined.split(',').map(Number)
}

function isSame(placed: readonly StoredShard[], shards: readonly HeldShard[]): boolean {
  const known = new Set(placed.map(({ index, host }) => `${index} ${host}`))
  return known.size === shards.length && shards.every(({ index, host }) => known.has(`${index} ${host}`))
}

function toShardRow({ index, host, shard, root, ...known }: StoredShard): StripeRow['shards'][number] {
  return { index, host, shard: toHex(shard), root: root ? toHex(root) : '', fact: knownOf(known) }
}

/** What its row says, where nobody found out more. */
function knownOf({ fact, receipt }: Pick<StoredShard, 'fact' | 'receipt'>): Known {
  return fact ?? (receipt ? 'receipted' : 'placed')
}

function signed(receipt: string | undefined): Buffer | null {
  return receipt === undefined ? null : Buffer.from(receipt, 'base64')
}

function bytes(hex: Hex): Buffer {
  const decoded = fromHex(hex)
  if (!decoded) throw new ImagerError('PROTOCOL', { what: 'an id that is not hexadecimal' })
  return decoded
}
