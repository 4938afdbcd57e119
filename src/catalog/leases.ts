/**
 * A lease is the right of one run of one volume to write: a volume has one that is open at most. Only SQL; what may be done
 * with one is decided in `local.ts`.
 */
import type Database from 'better-sqlite3'
import type { Hex } from '../base/ids.js'
import { Statements } from './statements.js'
import type { Stripes } from './stripes.js'
import type { BeginRequest, Begun } from './types.js'

export interface Lease extends BeginRequest, Begun {
  state: 'open' | 'finished' | 'fenced'
}

export class Leases {
  readonly #statements: Statements
  readonly #stripes: Stripes

  constructor(db: Database.Database, stripes: Stripes) {
    this.#statements = new Statements(db)
    this.#stripes = stripes
  }

  find(lease: Hex): Lease | undefined {
    return this.#statements.prepare<[Hex], Lease>('SELECT * FROM lease WHERE lease = ?').get(lease)
  }

  /**
   * Opens a lease, and fences (ends) the one of that volume that is open. Its sequence number is above all earlier ones
   * of the volume, also above those of runs that came to nothing.
   */
  begin(lease: Hex, snapshot: Hex, request: BeginRequest, now: number): Begun {
    const { appliance, volume, source, label } = request
    const fenced = this.#statements
      .prepare<[Hex, Hex], { lease: Hex }>(
        `UPDATE lease SET state = 'fenced' WHERE appliance = ? AND volume = ? AND state = 'open' RETURNING lease`,
      )
      .all(appliance, volume)
    for (const old of fenced) this.#stripes.dropOpen(old.lease)
    const parent =
      this.#statements
        .prepare<[Hex, Hex], { id: Hex; sequence: number }>(
          'SELECT id, sequence FROM snapshot WHERE appliance = ? AND volume = ? ORDER BY sequence DESC LIMIT 1',
        )
        .get(appliance, volume) ?? null
    const last = this.#statements
      .prepare<[Hex, Hex], number | null>('SELECT max(sequence) FROM lease WHERE appliance = ? AND volume = ?')
      .pluck()
      .get(appliance, volume)
    const sequence = Math.max(last ?? 0, parent?.sequence ?? 0) + 1
    const begun = { lease, snapshot, sequence, parent: parent?.id ?? null }
    this.#statements
      .prepare(`INSERT INTO lease (lease, appliance, volume, source, label, snapshot, sequence, parent, started, state)
        VALUES (@lease, @appliance, @volume, @source, @label, @snapshot, @sequence, @parent, @now, 'open')`)
      .run({ ...begun, appliance, volume, source, label, now })
    return begun
  }

  end(lease: Hex, now: number): void {
    this.#statements.prepare(`UPDATE lease SET state = 'finished', ended = ? WHERE lease = ?`).run(now, lease)
    this.#stripes.dropOpen(lease)
  }
}
