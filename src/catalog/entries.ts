/** Snapshots as they leave the catalog and come back (`entry.ts`), and shards that are found of stripes that it knows. */
import type Database from 'better-sqlite3'
import { ImagerError } from '../base/errors.js'
import type { HeadId } from '../keys/head-set.js'
import { Runs } from '../native.js'
import { decodeRuns, encodeRuns, Renumbering } from '../stripes/names.js'
import type { EntryRow } from './entry.js'
import type { Policies } from './policies.js'
import type { StoredRuns } from './runs.js'
import { decodeStripes, encodeStripes, type Snapshots } from './snapshots.js'
import type { Stripes } from './stripes.js'
import type { StripeRow } from './types.js'

export interface EntriesParts {
  readonly db: Database.Database
  readonly runs: StoredRuns
  readonly stripes: Stripes
  readonly snapshots: Snapshots
  readonly decisions: Policies
}

export class Entries {
  readonly #parts: EntriesParts

  constructor(parts: EntriesParts) {
    this.#parts = parts
  }

  /** A snapshot's row, for the witnesses to keep; undefined where nothing is known of it. */
  of({ appliance, snapshot }: HeadId): EntryRow | undefined {
    const { snapshots, runs } = this.#parts
    const row = snapshots.entry(snapshot)
    if (row?.appliance !== appliance) return undefined
    const named = new Runs()
    const renumbering = new Renumbering(runs.here, named, 'learn')
    const stripes = decodeStripes(row.stripes).map((one) => renumbering.stripe(runs.toHere(one)))
    return { ...row, runs: encodeRuns(named), stripes: encodeStripes(stripes.sort(ascending)) }
  }

  /** As it was before this catalog was set back; its stripes may come later. Throws CORRUPT. */
  import({ runs: names, stripes, ...row }: EntryRow): void {
    const { runs, snapshots, decisions } = this.#parts
    const named = decodeRuns(names)
    const referenced = decodeStripes(stripes)
    this.#write(() => {
      if (named) runs.keepAll(referenced, named)
      const rows = named ? runs.toRows(referenced, named) : [0]
      if (rows.includes(0)) throw new ImagerError('CORRUPT', { what: 'A catalog entry names its runs wrongly' })
      snapshots.add({ ...row, stripes: rows.sort(ascending) })
      decisions.reach(row, row.summary.tolerate, false)
    })
  }

  /** What a peer that was away holds of a stripe that is known. One of another shape is another stripe, and left out. */
  importShards({ stripe, k, m, packBytes, shards }: StripeRow): void {
    const { runs, stripes, snapshots } = this.#parts
    const row = runs.toRow(stripe)
    const known = stripes.find(row)
    if (known?.k !== k || known.m !== m || known.packBytes !== packBytes) return
    this.#write(() => {
      stripes.addShards(row, shards)
      snapshots.forgetFigures()
    })
  }

  /** As `Catalog.records`, of all stripes that can be read: what a recovery has found has no better place. */
  records(numbers: readonly number[]): Uint32Array[] {
    const { runs, stripes } = this.#parts
    return runs.toRows(numbers).map((row) => stripes.lengths(row, undefined, 0))
  }

  /** A transaction that was taken back takes its numbers of runs along. */
  #write(work: () => void): void {
    try {
      this.#parts.db.transaction(work).immediate()
    } catch (error) {
      this.#parts.runs.forget()
      this.#parts.stripes.stock.forget()
      throw error
    }
  }
}

const ascending = (a: number, b: number): number => a - b
