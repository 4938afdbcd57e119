/**
 * The records: leases, stripes with their shards, snapshots. Only SQL and the figures that follow from it; what may be
 * done when is decided in `local.ts`. A stripe is open until it is committed, and belongs to one lease till then.
 */
import type Database from 'better-sqlite3'
import { ImagerError } from '../base/errors.js'
import { fromHex, type Hex, toHex } from '../base/ids.js'
import { stripeSurvives } from '../stripes/survives.js'
import { Survival } from './survival.js'
import type {
  BeginRequest,
  Begun,
  Finished,
  PlaceRequest,
  ShardPlace,
  ShardRow,
  SnapshotRow,
  SnapshotSummary,
  StripeRow,
} from './types.js'

export interface Lease extends BeginRequest, Begun {
  state: 'open' | 'finished' | 'fenced'
}

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

export interface NewSnapshot extends Omit<SnapshotRow, 'applianceName' | 'survives' | 'state'> {
  head: Uint8Array
  stripes: readonly number[]
}

/** What summaries of earlier versions do not say. */
const NO_FLAWS = { bytes: 0, ranges: [], files: [] }
const ABSENT = { leftOut: [], unreadable: NO_FLAWS, torn: NO_FLAWS }

interface StoredSnapshot extends Omit<SnapshotRow, 'survives' | 'state' | 'summary'> {
  n: number
  head: Buffer
  stripes: Buffer
  summary: string
  survives: number | null
  state: Finished['state'] | null
}

interface StoredShard {
  index: number
  host: Hex
  shard: Buffer
  root: Buffer | null
}

export class Records {
  readonly #db: Database.Database
  readonly #stripe: Database.Statement<[number], StoredStripe>
  readonly #survival: Survival
  readonly #shards: Database.Statement<[number], StoredShard>

  /** Statements by their text: preparing one costs more than running it. */
  readonly #prepared = new Map<string, Database.Statement>()

  constructor(db: Database.Database) {
    this.#db = db
    this.#stripe = db.prepare('SELECT * FROM stripe WHERE stripe = ?')
    this.#survival = new Survival(db)
    this.#shards = db.prepare(`SELECT position AS "index", host.host AS host, shard, root
      FROM shard JOIN host ON host.n = shard.host WHERE stripe = ? ORDER BY position`)
  }

  lease(lease: Hex): Lease | undefined {
    return this.#prepare<[Hex], Lease>('SELECT * FROM lease WHERE lease = ?').get(lease)
  }

  /** Fences what is open of that volume; sequences never go back, also not over runs that came to nothing. */
  begin(lease: Hex, snapshot: Hex, request: BeginRequest, now: number): Begun {
    const { appliance, volume, source, label } = request
    const fenced = this.#prepare<[Hex, Hex], { lease: Hex }>(
      `UPDATE lease SET state = 'fenced' WHERE appliance = ? AND volume = ? AND state = 'open' RETURNING lease`,
    ).all(appliance, volume)
    for (const old of fenced) this.dropOpenStripes(old.lease)
    const parent =
      this.#prepare<[Hex, Hex], { id: Hex; sequence: number }>(
        'SELECT id, sequence FROM snapshot WHERE appliance = ? AND volume = ? ORDER BY sequence DESC LIMIT 1',
      ).get(appliance, volume) ?? null
    const last = this.#prepare<[Hex, Hex], number | null>(
      'SELECT max(sequence) FROM lease WHERE appliance = ? AND volume = ?',
    )
      .pluck()
      .get(appliance, volume)
    const sequence = Math.max(last ?? 0, parent?.sequence ?? 0) + 1
    const begun = { lease, snapshot, sequence, parent: parent?.id ?? null }
    this.#prepare(`INSERT INTO lease VALUES (@lease, @appliance, @volume, @source, @label, @snapshot, @sequence, @parent,
        @now, 'open')`).run({ ...begun, appliance, volume, source, label, now })
    return begun
  }

  endLease(lease: Hex): void {
    this.#prepare(`UPDATE lease SET state = 'finished' WHERE lease = ?`).run(lease)
    this.dropOpenStripes(lease)
  }

  dropOpenStripes(lease: Hex): void {
    this.#prepare('DELETE FROM stripe WHERE lease = ? AND committed = 0').run(lease)
  }

  stripe(stripe: number): StoredStripe | undefined {
    return this.#stripe.get(stripe)
  }

  /** A look at how much each stripe survives, as it is now: -1 also where it is not committed. */
  survival(): Pick<Survival, 'of'> {
    this.#survival.refresh()
    return this.#survival
  }

  /** Committed ones only. */
  stripeRow(stripe: number): StripeRow | undefined {
    const stored = this.#stripe.get(stripe)
    if (!stored?.committed) return undefined
    const { k, m, packBytes } = stored
    const shards = this.#shards.all(stripe).map(toShardRow)
    return { stripe, k, m, packBytes, shards }
  }

  /** Undefined: forget them, they are not what can be told (`lengthsOf`). */
  keepLengths(stripe: number, lengths: Uint8Array | undefined): void {
    if (lengths) this.#prepare('INSERT OR REPLACE INTO record VALUES (?, ?)').run(stripe, lengths)
    else this.#prepare('DELETE FROM record WHERE stripe = ?').run(stripe)
  }

  /**
   * Of a committed stripe that is as safe as its scheme can be: of a weaker one, the same records may have been stored again,
   * and better. With `writer`, only of his.
   */
  lengths(stripe: number, writer: Hex | undefined): Uint32Array {
    const row = this.#prepare<[{ stripe: number; writer: Hex | null }], { lengths: Buffer }>(
      `SELECT lengths FROM record JOIN stripe USING (stripe)
        WHERE stripe = @stripe AND committed AND survives >= m AND (@writer IS NULL OR writer = @writer)`,
    ).get({ stripe, writer: writer ?? null })
    return new Uint32Array(new Uint8Array(row?.lengths ?? []).buffer)
  }

  placedShards(stripe: number): ShardPlace[] {
    return this.#shards.all(stripe).map(({ index, host, shard }) => ({ index, host, shard: toHex(shard) }))
  }

  openStripe(writer: Hex, lease: Hex, r: Pick<PlaceRequest, 'k' | 'm' | 'packBytes'>): number {
    const { lastInsertRowid } = this.#prepare(
      'INSERT INTO stripe (k, m, packBytes, writer, lease) VALUES (?, ?, ?, ?, ?)',
    ).run(r.k, r.m, r.packBytes, writer, lease)
    return Number(lastInsertRowid)
  }

  /** Gives a reserved stripe its shape. */
  shapeStripe(stripe: number, lease: Hex, r: PlaceRequest): void {
    this.#prepare('UPDATE stripe SET k = ?, m = ?, packBytes = ? WHERE stripe = ? AND lease = ? AND k = 0').run(
      r.k,
      r.m,
      r.packBytes,
      stripe,
      lease,
    )
  }

  placeShards(stripe: number, shards: readonly (ShardPlace & { root?: Hex })[]): void {
    const put = this.#prepare('INSERT OR REPLACE INTO shard SELECT ?, ?, host.n, ?, ? FROM host WHERE host.host = ?')
    for (const { index, host, shard, root } of shards) {
      const { changes } = put.run(stripe, index, bytes(shard), root === undefined ? null : bytes(root), host)
      if (changes !== 1) throw new ImagerError('PROTOCOL', { what: `a shard on the unknown host ${host}` })
    }
  }

  /** Exactly `shards` are held from now on. */
  commitStripe(stripe: number, k: number, m: number, shards: readonly ShardRow[]): void {
    this.#prepare('DELETE FROM shard WHERE stripe = ?').run(stripe)
    this.placeShards(stripe, shards)
    const survives = stripeSurvives(
      k,
      shards.map((shard) => shard.host),
    )
    this.#prepare('UPDATE stripe SET committed = 1, survives = ?, complete = ? WHERE stripe = ?').run(
      survives,
      shards.length === k + m ? 1 : 0,
      stripe,
    )
    this.#survival.forget(stripe)
  }

  /** From outside, under its own number; later numbers continue after it. Snapshots' figures are computed anew. */
  importStripe(writer: Hex, row: StripeRow): void {
    this.requireWriter(row.stripe, writer)
    this.#prepare('INSERT OR IGNORE INTO stripe (stripe, k, m, packBytes, writer) VALUES (?, ?, ?, ?, ?)').run(
      row.stripe,
      row.k,
      row.m,
      row.packBytes,
      writer,
    )
    this.commitStripe(row.stripe, row.k, row.m, row.shards)
    this.#prepare('UPDATE snapshot SET survives = NULL WHERE survives IS NOT NULL').run()
  }

  /** So many numbers are never given out: they may name stripes that are not known here. */
  skipStripes(count: number): void {
    const { changes } = this.#prepare(`UPDATE sqlite_sequence SET seq = seq + ? WHERE name = 'stripe'`).run(count)
    if (changes === 0) this.#prepare(`INSERT INTO sqlite_sequence VALUES ('stripe', ?)`).run(count)
  }

  /** Throws FORGED where the stripe is known, and another's. */
  requireWriter(stripe: number, writer: Hex): void {
    const known = this.#stripe.get(stripe)
    if (!known || known.writer === writer) return
    throw new ImagerError('FORGED', { what: `Stripe ${stripe} belongs to another appliance` })
  }

  /** The least of its stripes. */
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

  /** Adds it, or replaces the same one; a snapshot of another appliance is never replaced. */
  addSnapshot(s: NewSnapshot): void {
    const known = this.snapshotStripes(s.id)
    if (known && known.appliance !== s.appliance) {
      throw new ImagerError('FORGED', { what: `Snapshot ${s.id} belongs to another appliance` })
    }
    this.#prepare(`INSERT OR REPLACE INTO snapshot (id, appliance, volume, source, label, sequence, parent, time, head,
        stripes, summary) VALUES (@id, @appliance, @volume, @source, @label, @sequence, @parent, @time, @head,
        @packed, @summary)`).run({ ...s, summary: JSON.stringify(s.summary), packed: encodeStripes(s.stripes) })
  }

  /** Newest last; with `name`, those whose id begins with it; with `appliance`, its own only. */
  snapshots(appliance: Hex | undefined, prefix = ''): (SnapshotRow & { head: Buffer })[] {
    const rows = this.#prepare<[{ appliance: Hex | null; prefix: string }], StoredSnapshot>(
      `SELECT snapshot.*, coalesce(host.name, substr(appliance, 1, 8)) AS applianceName
        FROM snapshot LEFT JOIN host ON host.host = appliance
        WHERE (@appliance IS NULL OR appliance = @appliance) AND substr(id, 1, length(@prefix)) = @prefix
        ORDER BY time, snapshot.n`,
    ).all({ appliance: appliance ?? null, prefix })
    return rows.map((row) => this.#toSnapshot(row))
  }

  snapshotStripes(id: Hex): { appliance: Hex; stripes: number[] } | undefined {
    const row = this.#prepare<[Hex], { appliance: Hex; stripes: Buffer }>(
      'SELECT appliance, stripes FROM snapshot WHERE id = ?',
    ).get(id)
    return row && { appliance: row.appliance, stripes: decodeStripes(row.stripes) }
  }

  #prepare<P extends unknown[] = unknown[], R = unknown>(sql: string): Database.Statement<P, R> {
    const known = this.#prepared.get(sql) ?? this.#db.prepare(sql)
    this.#prepared.set(sql, known)
    return known as Database.Statement<P, R>
  }

  #toSnapshot({ n, stripes, summary, survives, state, ...row }: StoredSnapshot): SnapshotRow & { head: Buffer } {
    const known = survives !== null && state !== null
    const figure = known ? { survives, state } : this.figure(decodeStripes(stripes))
    if (!known) {
      this.#prepare('UPDATE snapshot SET survives = ?, state = ? WHERE n = ?').run(figure.survives, figure.state, n)
    }
    return { ...row, ...figure, summary: { ...ABSENT, ...(JSON.parse(summary) as SnapshotSummary) } }
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

/** Sorted u64 LE. */
export function encodeStripes(stripes: readonly number[]): Buffer {
  const packed = Buffer.alloc(stripes.length * 8)
  for (const [i, stripe] of stripes.entries()) packed.writeBigUInt64LE(BigInt(stripe), i * 8)
  return packed
}

/** Refuses what is not strictly ascending or not a stripe number. */
export function decodeStripes(packed: Uint8Array): number[] {
  const rows = Buffer.from(packed.buffer, packed.byteOffset, packed.byteLength)
  const stripes: number[] = []
  let last = 0
  for (let at = 0; at + 8 <= rows.length; at += 8) {
    const stripe = Number(rows.readBigUInt64LE(at))
    if (stripe <= last || !Number.isSafeInteger(stripe)) break
    stripes.push(stripe)
    last = stripe
  }
  if (stripes.length * 8 !== rows.length)
    throw new ImagerError('PROTOCOL', { what: 'the list of stripes is not sorted' })
  return stripes
}
