/**
 * The snapshots that are visible, and the list of stripes that each needs. Only SQL; a row is written in the transaction that
 * ends a run (`finish` in `local.ts`), or by a recovery.
 */
import type Database from 'better-sqlite3'
import { ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import { Statements } from './statements.js'
import type { Stripes } from './stripes.js'
import type { Finished, SnapshotRow, SnapshotSummary } from './types.js'

export interface NewSnapshot extends Omit<SnapshotRow, 'applianceName' | 'survives' | 'state'> {
  head: Uint8Array
  stripes: readonly number[]
}

/** Defaults for fields that summaries written by earlier versions lack. */
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

export class Snapshots {
  readonly #statements: Statements
  readonly #stripes: Stripes

  constructor(db: Database.Database, stripes: Stripes) {
    this.#statements = new Statements(db)
    this.#stripes = stripes
  }

  /** Adds it, or replaces the same one; a snapshot of another appliance is never replaced. */
  add(s: NewSnapshot): void {
    const known = this.stripesOf(s.id)
    if (known && known.appliance !== s.appliance) {
      throw new ImagerError('FORGED', { what: `Snapshot ${s.id} belongs to another appliance` })
    }
    this.#statements
      .prepare(`INSERT OR REPLACE INTO snapshot (id, appliance, volume, source, label, sequence, parent, time, head,
        stripes, summary) VALUES (@id, @appliance, @volume, @source, @label, @sequence, @parent, @time, @head,
        @packed, @summary)`)
      .run({ ...s, summary: JSON.stringify(s.summary), packed: encodeStripes(s.stripes) })
  }

  /** Newest last; with `prefix`, those whose id begins with it; with `appliance`, its own only. */
  list(appliance: Hex | undefined, prefix = ''): (SnapshotRow & { head: Buffer })[] {
    const rows = this.#statements
      .prepare<[{ appliance: Hex | null; prefix: string }], StoredSnapshot>(
        `SELECT snapshot.*, coalesce(host.name, substr(appliance, 1, 8)) AS applianceName
        FROM snapshot LEFT JOIN host ON host.host = appliance
        WHERE (@appliance IS NULL OR appliance = @appliance) AND substr(id, 1, length(@prefix)) = @prefix
        ORDER BY time, snapshot.n`,
      )
      .all({ appliance: appliance ?? null, prefix })
    return rows.map((row) => this.#toSnapshot(row))
  }

  stripesOf(id: Hex): { appliance: Hex; stripes: number[] } | undefined {
    const row = this.#statements
      .prepare<[Hex], { appliance: Hex; stripes: Buffer }>('SELECT appliance, stripes FROM snapshot WHERE id = ?')
      .get(id)
    return row && { appliance: row.appliance, stripes: decodeStripes(row.stripes) }
  }

  /**
   * Drops the stored `survives` and `state` of all snapshots, because stripes became known: they are computed anew when
   * they are asked for.
   */
  forgetFigures(): void {
    this.#statements.prepare('UPDATE snapshot SET survives = NULL WHERE survives IS NOT NULL').run()
  }

  #toSnapshot({ n, stripes, summary, survives, state, ...row }: StoredSnapshot): SnapshotRow & { head: Buffer } {
    const known = survives !== null && state !== null
    const figure = known ? { survives, state } : this.#stripes.figure(decodeStripes(stripes))
    if (!known) {
      this.#statements
        .prepare('UPDATE snapshot SET survives = ?, state = ? WHERE n = ?')
        .run(figure.survives, figure.state, n)
    }
    return { ...row, ...figure, summary: { ...ABSENT, ...(JSON.parse(summary) as SnapshotSummary) } }
  }
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
