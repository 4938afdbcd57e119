/**
 * What peers signed of the shards that they hold, in the row of each. A commit brings its own; what a recovery or a survey found has none
 * until its host reads it back and signs again (`daemon/receipts.ts`).
 */
import type Database from 'better-sqlite3'
import { hasCode, ImagerError, reason } from '../base/errors.js'
import { type Hex, toHex } from '../base/ids.js'
import { shardFileBytes } from '../native.js'
import { shardOf } from '../stripes/names.js'
import { isReceiptOf, type Receipt, readReceipt } from '../stripes/receipt.js'
import type { CatalogParts } from './parts.js'
import type { StoredRuns } from './runs.js'
import type { Snapshots } from './snapshots.js'
import { Statements } from './statements.js'
import type { Stores } from './stores.js'
import type { Stripes } from './stripes.js'
import type { CommitRequest, HeldShard, ReceiptedShard } from './types.js'

/**
 * Each shard comes with the word of its host, for this stripe and no other. Throws FORGED where a host did not sign it, PROTOCOL
 * where it is of something else. `name`: of the stripe's run.
 */
export function requireReceipts(
  { openReceipt }: Pick<CatalogParts, 'openReceipt'>,
  name: Uint8Array,
  { stripe, k, packBytes, shards }: CommitRequest,
): void {
  const lengthBytes = shardFileBytes(packBytes, k)
  let identity: Hex | undefined
  for (const { index, host, root, receipt } of shards) {
    const said = openReceipt(Buffer.from(receipt, 'base64'), { shard: shardOf(name, stripe, index), root, host })
    identity ??= said.stripe
    if (!isReceiptOf(said, { stripe: identity, index, lengthBytes }))
      throw new ImagerError('PROTOCOL', { what: 'a receipt of another shard' })
  }
}

/** A shard whose host has signed nothing that counts; `stripe` as rows have it. */
export interface Unreceipted {
  readonly stripe: number
  readonly index: number
  readonly shard: Hex
}

interface Stored {
  readonly host: Hex
  readonly shard: Buffer
  readonly root: Buffer | null
  readonly k: number
  readonly packBytes: number
}

interface ReceiptsParts {
  readonly db: Database.Database
  readonly parts: Pick<CatalogParts, 'openReceipt'>
  readonly runs: StoredRuns
  readonly stripes: Stripes
  readonly snapshots: Snapshots
  readonly stores: Stores
}

export class Receipts {
  readonly #parts: ReceiptsParts
  readonly #statements: Statements

  constructor(parts: ReceiptsParts) {
    this.#parts = parts
    this.#statements = new Statements(parts.db)
  }

  /** Of the good shards of a host those without a receipt, after one of them, in order. */
  missing(host: Hex, after: Pick<Unreceipted, 'stripe' | 'index'>, limit: number): Unreceipted[] {
    return this.#statements
      .prepare<[Hex, number, number, number], { stripe: number; index: number; shard: Buffer }>(
        `SELECT shard.stripe AS stripe, shard.position AS "index", shard FROM sound_shard AS shard
        JOIN sound_stripe AS stripe ON stripe.stripe = shard.stripe
        LEFT JOIN sound_evidence AS evidence ON evidence.stripe = shard.stripe AND evidence.position = shard.position
        WHERE shard.host = (SELECT n FROM host WHERE host = ?) AND receipt IS NULL AND committed AND fact IS NULL
        AND (shard.stripe, shard.position) > (?, ?) ORDER BY shard.stripe, shard.position LIMIT ?`,
      )
      .all(host, after.stripe, after.index, limit)
      .map((row) => ({ ...row, shard: toHex(row.shard) }))
  }

  /** Those of them that a peer holds for the fleet; of no host where nobody holds such. */
  waiting(): Hex[] {
    return this.#statements
      .prepare<[], Hex>(
        'SELECT host FROM host WHERE member AND EXISTS (SELECT 1 FROM shard WHERE shard.host = host.n AND receipt IS NULL)',
      )
      .pluck()
      .all()
  }

  /** As this process calls the stripe. */
  here({ stripe }: Pick<Unreceipted, 'stripe'>): number {
    return this.#parts.runs.toHere(stripe)
  }

  /** Without those of another store than its host has: they say nothing of this one. */
  counting(shards: readonly ReceiptedShard[]): HeldShard[] {
    const { stores } = this.#parts
    return shards.map(({ receipt, ...shard }) => {
      return stores.counts(shard.host, Buffer.from(receipt, 'base64')) ? { ...shard, receipt } : shard
    })
  }

  /** Keeps what the host signed; gives why where that is not what it should be. */
  keep(host: Hex, signed: readonly (Unreceipted & { readonly receipt: Buffer })[]): string[] {
    const { stripes, snapshots } = this.#parts
    const flaws: string[] = []
    this.#parts.db.transaction(() => {
      for (const one of signed) {
        try {
          this.#keep(host, one)
          stripes.refigure(one.stripe)
        } catch (error) {
          if (!hasCode(error, 'FORGED', 'CORRUPT', 'UNSUPPORTED', 'PROTOCOL')) throw error
          flaws.push(reason(error))
        }
      }
      snapshots.forgetFigures()
    })()
    return flaws
  }

  #keep(host: Hex, { stripe, index, shard, receipt }: Unreceipted & { readonly receipt: Buffer }): void {
    const row = this.#statements
      .prepare<[number, number], Stored>(
        `SELECT host.host AS host, shard, root, k, packBytes FROM sound_shard AS shard
        JOIN sound_host AS host ON host.n = shard.host JOIN sound_stripe USING (stripe) WHERE stripe = ? AND position = ?`,
      )
      .get(stripe, index)
    // It has moved since.
    if (row?.host !== host || toHex(row.shard) !== shard || !row.root) return
    const said = this.#parts.parts.openReceipt(receipt, { shard, root: toHex(row.root), host })
    const identity = this.#identityOf(stripe) ?? said.stripe
    const lengthBytes = shardFileBytes(row.packBytes, row.k)
    if (!isReceiptOf(said, { stripe: identity, index, lengthBytes }))
      throw new ImagerError('PROTOCOL', { what: 'a receipt of another shard' })
    if (!this.#parts.stores.counts(host, receipt)) return
    this.#statements
      .prepare('UPDATE shard SET receipt = ? WHERE stripe = ? AND position = ?')
      .run(receipt, stripe, index)
  }

  /** Of the stripe, as its other receipts have it. */
  #identityOf(stripe: number): Receipt['stripe'] | undefined {
    const known = this.#statements
      .prepare<[number], Buffer>('SELECT receipt FROM sound_shard WHERE stripe = ? AND receipt IS NOT NULL LIMIT 1')
      .pluck()
      .get(stripe)
    return known && readReceipt(known).stripe
  }
}
