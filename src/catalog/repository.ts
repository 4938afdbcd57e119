/**
 * The signature repository: id -> where its record lies. The part of the catalog that outgrows a machine, so it has its
 * own file and an interface of batch calls only. It knows nothing of what is committed: the caller asks only for
 * stripes that are, so rows of a stripe that never was (a crash between the two files) are never seen.
 */
import type Database from 'better-sqlite3'
import { openDatabase, REPOSITORY_SCHEMA } from './schema.js'
import { ID_BYTES, RECORD_BYTES } from './types.js'

/** Rank of a stripe for a reader: below 0 = do not use. Higher is taken first. */
export type Rank = (stripe: number) => number

export interface SignatureBatch {
  stripe: number
  /** Rows of id 32 | offset u32 LE | length u32 LE. */
  records: Uint8Array
  /** One for each row; stripe * 65,536 + row number where absent. */
  births?: BigUint64Array
}

export interface Places {
  /** 0 = unknown. */
  births: Float64Array
  stripes: Float64Array
  offsets: Uint32Array
  lengths: Uint32Array
}

export interface SignatureRepository {
  /** All or nothing; durable when it returns. A row that is there already stays. */
  insert(batches: readonly SignatureBatch[]): void
  /** `ids` of 32 bytes each. Of several places the one of highest rank. */
  find(ids: Uint8Array, rank: Rank): Places
  close(): void
}

/** birth, stripe, offset, length */
type Row = [number, number, number, number]

export function birthNumber(stripe: number, ordinal: number): number {
  return stripe * 65_536 + ordinal
}

export class SqliteRepository implements SignatureRepository {
  readonly #db: Database.Database
  readonly #insert: Database.Transaction<(batches: readonly SignatureBatch[]) => void>
  readonly #find: Database.Transaction<(ids: Uint8Array, rank: Rank) => Places>

  constructor(path: string) {
    this.#db = openDatabase(path, REPOSITORY_SCHEMA)
    const insert = this.#db.prepare('INSERT OR IGNORE INTO signature VALUES (?, ?, ?, ?, ?)')
    const find = this.#db
      .prepare<[Uint8Array], Row>('SELECT birth, stripe, offset, length FROM signature WHERE id = ?')
      .raw()
    this.#insert = this.#db.transaction((batches) => {
      for (const batch of batches) insertBatch(insert, batch)
    })
    this.#find = this.#db.transaction((ids, rank) => findBatch((id) => find.all(id), ids, rank))
  }

  insert(batches: readonly SignatureBatch[]): void {
    this.#insert.immediate(batches)
  }

  find(ids: Uint8Array, rank: Rank): Places {
    return this.#find(ids, rank)
  }

  close(): void {
    this.#db.close()
  }
}

function insertBatch(insert: Database.Statement, { stripe, records, births }: SignatureBatch): void {
  const rows = Buffer.from(records.buffer, records.byteOffset, records.byteLength)
  for (let ordinal = 0, at = 0; at < rows.length; ordinal++, at += RECORD_BYTES) {
    const birth = births ? Number(births[ordinal]) : birthNumber(stripe, ordinal)
    const id = rows.subarray(at, at + ID_BYTES)
    insert.run(id, birth, stripe, rows.readUInt32LE(at + 32), rows.readUInt32LE(at + 36))
  }
}

function findBatch(find: (id: Uint8Array) => Row[], ids: Uint8Array, rank: Rank): Places {
  const bytes = Buffer.from(ids.buffer, ids.byteOffset, ids.byteLength)
  const count = bytes.length / ID_BYTES
  const births = new Float64Array(count)
  const stripes = new Float64Array(count)
  const offsets = new Uint32Array(count)
  const lengths = new Uint32Array(count)
  for (let i = 0; i < count; i++) {
    let best = -1
    for (const [birth, stripe, offset, length] of find(bytes.subarray(i * ID_BYTES, (i + 1) * ID_BYTES))) {
      const value = rank(stripe)
      if (value <= best) continue
      best = value
      births[i] = birth
      stripes[i] = stripe
      offsets[i] = offset
      lengths[i] = length
    }
  }
  return { births, stripes, offsets, lengths }
}
