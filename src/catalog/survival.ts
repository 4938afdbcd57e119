/**
 * How many hosts each committed stripe may lose, by its number, in memory: every known block of a lookup asks for that. It is
 * copied from the database when it is first asked for, a part of the numbers at a time.
 *
 * Invariant: nothing is copied within a transaction that may be taken back, and what one wrote is copied anew.
 */
import type Database from 'better-sqlite3'

/** Stripes of a run follow each other, and most runs have few. */
const PART = 128
/** Parts in memory at most, one byte a stripe: 16 MiB. When it is full all are dropped. */
const PARTS = 131_072

export class Survival {
  readonly #db: Database.Database
  readonly #some: Database.Statement<[number, number], { stripe: number; survives: number }>
  readonly #parts = new Map<number, Int8Array>()
  /** The database's version that the parts reflect; own commits do not change it. */
  #version: unknown

  constructor(db: Database.Database) {
    this.#db = db
    this.#some = db.prepare('SELECT stripe, survives FROM sound_stripe WHERE stripe >= ? AND stripe < ? AND committed')
  }

  /** -1 also where it is not committed. */
  of(stripe: number): number {
    const number = Math.floor(stripe / PART)
    const part = this.#parts.get(number) ?? this.#copy(number)
    return part[stripe % PART] as number
  }

  /** Drops all parts if another process has written to the database since. */
  refresh(): void {
    const version = this.#db.pragma('data_version', { simple: true })
    if (version !== this.#version) this.#parts.clear()
    this.#version = version
  }

  /** Drops the part of a stripe that is being written. */
  forget(stripe: number): void {
    this.#parts.delete(Math.floor(stripe / PART))
  }

  #copy(number: number): Int8Array {
    const first = number * PART
    const part = new Int8Array(PART).fill(-1)
    for (const { stripe, survives } of this.#some.all(first, first + PART)) part[stripe - first] = survives
    if (this.#db.inTransaction) return part
    if (this.#parts.size >= PARTS) this.#parts.clear()
    this.#parts.set(number, part)
    return part
  }
}
