/**
 * The runs of snapshots, by the numbers that the database has for them and by those of this process: rows keep the first kind,
 * whoever asks the catalog meets the second. What a row's number stands for never changes: rows of `run` only grow.
 */
import type Database from 'better-sqlite3'
import { ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import { Runs } from '../native.js'
import { partsOfRunName, Renumbering, type RunsHandle, runOf } from '../stripes/names.js'

export class StoredRuns {
  /** As this process numbers them, all that have a row among them: births in pages, and what the catalog is asked and answers. */
  readonly here: RunsHandle = new Runs()
  readonly #newer: Database.Statement<[number], { n: number; name: Buffer }>
  readonly #add: Database.Statement<[Buffer]>
  /** The rows, as far as they were read. */
  #rows: RunsHandle = new Runs()
  #toHere = new Renumbering(this.#rows, this.here, 'learn')

  constructor(db: Database.Database) {
    this.#newer = db.prepare('SELECT n, name FROM sound_run WHERE n > ? ORDER BY n')
    this.#add = db.prepare('INSERT INTO run (name) VALUES (?)')
  }

  /** Reads what others have written since. */
  refresh(): void {
    for (const { n, name } of this.#newer.all(this.#rows.count)) this.#take(name, n)
  }

  /** A transaction was taken back: its numbers may be given to others. */
  forget(): void {
    this.#rows = new Runs()
    this.#toHere = new Renumbering(this.#rows, this.here, 'learn')
  }

  /** A stripe of a row, as it is called here. */
  toHere(stripe: number): number {
    if (runOf(stripe) > this.#rows.count) this.refresh()
    return this.#toHere.stripe(stripe)
  }

  /** Births of rows. Throws CORRUPT for one of a run that has no row. */
  birthsToHere(births: BigUint64Array): BigUint64Array {
    this.refresh()
    return this.here.translate(births, this.#rows)
  }

  /** A stripe as rows have it; 0 where none is of its run. */
  toRow(stripe: number): number {
    return this.toRows([stripe])[0] as number
  }

  toRows(stripes: readonly number[], from = this.here): number[] {
    this.refresh()
    const renumbering = new Renumbering(from, this.#rows, 'none')
    return stripes.map((stripe) => renumbering.stripe(stripe))
  }

  /** The number in rows of a run that begins. In a transaction. Throws PROTOCOL where there was one of that name. */
  add(name: Buffer): number {
    this.refresh()
    if (this.#rows.find(name) === null) return this.keep(name)
    throw new ImagerError('PROTOCOL', { what: 'a run that is known already: it draws a name of its own' })
  }

  /** The number in rows of a run, which gets a row where it has none. In a transaction. */
  keep(name: Buffer): number {
    this.refresh()
    const known = this.#rows.find(name)
    if (known !== null) return known
    return this.#take(name, Number(this.#add.run(name).lastInsertRowid))
  }

  /** The same of all runs that stripes are of. */
  keepAll(stripes: readonly number[], from = this.here): void {
    for (const run of new Set(stripes.map(runOf))) {
      const name = from.name(run)
      if (name) this.keep(name)
    }
  }

  /** Births of any run, as rows have them. In a transaction. */
  keepBirths(births: BigUint64Array): BigUint64Array {
    this.keepAll(Array.from(births, (birth) => Number(birth >> 16n)))
    return this.#rows.translate(births, this.here)
  }

  /** Whose run it is, and which. */
  name(n: number): Buffer {
    this.refresh()
    const name = this.#rows.name(n)
    if (!name) throw new ImagerError('PROTOCOL', { what: `run ${n} has no name` })
    return name
  }

  /** Whether a stripe, as rows have it, is of a run of one of these hosts. */
  writtenBy(writers: readonly Hex[]): (stripe: number) => boolean {
    const known = new Map<number, boolean>()
    return (stripe) => {
      const run = runOf(stripe)
      const isTheirs = known.get(run) ?? writers.includes(partsOfRunName(this.name(run)).writer)
      known.set(run, isTheirs)
      return isTheirs
    }
  }

  #take(name: Buffer, n: number): number {
    this.here.number(name)
    if (this.#rows.number(name) === n) return n
    throw new ImagerError('CORRUPT', { what: `The catalog's run ${n} has another number than its row` })
  }
}
