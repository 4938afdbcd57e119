/**
 * Stripes, their shards and the lengths of their records. Only SQL and the figures that follow from it; what may be done
 * when is decided in `local.ts`. A stripe is open until it is committed, and belongs to one lease till then.
 */
import type Database from 'better-sqlite3'
import { ImagerError } from '../base/errors.js'
import { fromHex, type Hex, toHex } from '../base/ids.js'
import { stripeSurvives } from '../stripes/survives.js'
import { Statements } from './statements.js'
import { Survival } from './survival.js'
import type { Finished, PlaceRequest, ShardPlace, ShardRow, StripeRow } from './types.js'

export interface StoredStripe {
  stripe: number
  k: number
  m: number
  packBytes: number
  writer: Hex
  lease: Hex | null
  committed: 0 | 1
  survives: number
  complete: 0 | 1
}

interface StoredShard {
  index: number
  host: Hex
  shard: Buffer
  root: Buffer | null
}

export class Stripes {
  readonly #statements: Statements
  readonly #stripe: Database.Statement<[number], StoredStripe>
  readonly #survival: Survival
  readonly #shards: Database.Statement<[number], StoredShard>

  constructor(db: Database.Database) {
    this.#statements = new Statements(db)
    this.#stripe = db.prepare('SELECT * FROM stripe WHERE stripe = ?')
    this.#survival = new Survival(db)
    this.#shards = db.prepare(`SELECT position AS "index", host.host AS host, shard, root
      FROM shard JOIN host ON host.n = shard.host WHERE stripe = ? ORDER BY position`)
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
   * and better. With `writer`, only of his.
   */
  lengths(stripe: number, writer: Hex | undefined): Uint32Array {
    const row = this.#statements
      .prepare<[{ stripe: number; writer: Hex | null }], { lengths: Buffer }>(
        `SELECT lengths FROM record JOIN stripe USING (stripe)
        WHERE stripe = @stripe AND committed AND survives >= m AND (@writer IS NULL OR writer = @writer)`,
      )
      .get({ stripe, writer: writer ?? null })
    return new Uint32Array(new Uint8Array(row?.lengths ?? []).buffer)
  }

  placedShards(stripe: number): ShardPlace[] {
    return this.#shards.all(stripe).map(({ index, host, shard }) => ({ index, host, shard: toHex(shard) }))
  }

  open(writer: Hex, lease: Hex, r: Pick<PlaceRequest, 'k' | 'm' | 'packBytes'>): number {
    const { lastInsertRowid } = this.#statements
      .prepare('INSERT INTO stripe (k, m, packBytes, writer, lease) VALUES (?, ?, ?, ?, ?)')
      .run(r.k, r.m, r.packBytes, writer, lease)
    return Number(lastInsertRowid)
  }

  /** Gives a reserved stripe its shape. */
  shape(stripe: number, lease: Hex, r: PlaceRequest): void {
    this.#statements
      .prepare('UPDATE stripe SET k = ?, m = ?, packBytes = ? WHERE stripe = ? AND lease = ? AND k = 0')
      .run(r.k, r.m, r.packBytes, stripe, lease)
  }

  placeShards(stripe: number, shards: readonly (ShardPlace & { root?: Hex })[]): void {
    const put = this.#statements.prepare(
      'INSERT OR REPLACE INTO shard SELECT ?, ?, host.n, ?, ? FROM host WHERE host.host = ?',
    )
    for (const { index, host, shard, root } of shards) {
      const { changes } = put.run(stripe, index, bytes(shard), root === undefined ? null : bytes(root), host)
      if (changes !== 1) throw new ImagerError('PROTOCOL', { what: `a shard on the unknown host ${host}` })
    }
  }

  /** Exactly `shards` are held from now on. */
  commit(stripe: number, k: number, m: number, shards: readonly ShardRow[]): void {
    this.#statements.prepare('DELETE FROM shard WHERE stripe = ?').run(stripe)
    this.placeShards(stripe, shards)
    const survives = stripeSurvives(
      k,
      shards.map((shard) => shard.host),
    )
    this.#statements
      .prepare('UPDATE stripe SET committed = 1, survives = ?, complete = ? WHERE stripe = ?')
      .run(survives, shards.length === k + m ? 1 : 0, stripe)
    this.#survival.forget(stripe)
  }

  /** From outside, under its own number; later numbers continue after it. What was known of snapshots is old then. */
  import(writer: Hex, row: StripeRow): void {
    this.requireWriter(row.stripe, writer)
    this.#statements
      .prepare('INSERT OR IGNORE INTO stripe (stripe, k, m, packBytes, writer) VALUES (?, ?, ?, ?, ?)')
      .run(row.stripe, row.k, row.m, row.packBytes, writer)
    this.commit(row.stripe, row.k, row.m, row.shards)
  }

  /** Leaves out the next `count` stripe numbers: stripes that are not known here may have them. */
  skip(count: number): void {
    const { changes } = this.#statements
      .prepare(`UPDATE sqlite_sequence SET seq = seq + ? WHERE name = 'stripe'`)
      .run(count)
    if (changes === 0) this.#statements.prepare(`INSERT INTO sqlite_sequence VALUES ('stripe', ?)`).run(count)
  }

  /** Throws FORGED where the stripe is known, and another's. */
  requireWriter(stripe: number, writer: Hex): void {
    const known = this.#stripe.get(stripe)
    if (!known || known.writer === writer) return
    throw new ImagerError('FORGED', { what: `Stripe ${stripe} belongs to another appliance` })
  }

  /** Of a snapshot: the least that any of its stripes survives, and its state. */
  figure(stripes: readonly number[]): Finished {
    let survives = Number.MAX_SAFE_INTEGER
    let complete = true
    for (const number of stripes) {
      const stored = this.#stripe.get(number)
      if (!stored?.committed || stored.survives < 0) return { survives: -1, state: 'incomplete' }
      survives = Math.min(survives, stored.survives)
      complete &&= stored.complete === 1
    }
    return { survives, state: complete ? 'protected' : 'sealed' }
  }

  /** Deletes the stripes of a lease that were placed or reserved, and not committed. */
  dropOpen(lease: Hex): void {
    this.#statements.prepare('DELETE FROM stripe WHERE lease = ? AND committed = 0').run(lease)
  }
}

function toShardRow({ index, host, shard, root }: StoredShard): ShardRow {
  return { index, host, shard: toHex(shard), root: root ? toHex(root) : '' }
}

function bytes(hex: Hex): Buffer {
  const decoded = fromHex(hex)
  if (!decoded) throw new ImagerError('PROTOCOL', { what: 'an id that is not hexadecimal' })
  return decoded
}
