/**
 * The signature repository in sorted files (docs/formats/segment.md), with the newest rows in the catalog's database.
 *
 * Rows go to the table `young` first, in the transaction that commits their stripe, and are held in memory. When there
 * are enough of them they are written, sorted, into a segment file, and segments of like size are merged into a larger
 * one. A file counts from the transaction that lists it in `segment`, and no longer from the one that strikes it out:
 * a crash at any moment leaves files that are not listed, which the next start removes.
 */
import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type Database from 'better-sqlite3'
import { hasCode, type ImagerError, reason } from '../base/errors.js'
import { FILTER_BYTES, YOUNG_ROWS } from '../base/limits.js'
import { type Hits, SignatureIndex, type SignatureIndexHandle, signatureRows } from '../native.js'
import type { FoundLocations, Rank, SignatureBatch, SignatureRepository } from './repository.js'
import { ID_BYTES } from './rows.js'

/** `why` the file at `path` is damaged, as an error that says what to do. */
export type DamageError = (why: string, path: string) => ImagerError

export interface SegmentOptions {
  /** Rows in memory before they become a segment. */
  youngRows?: number
  /** Memory of all filters together. */
  filterBytes?: number
}

interface Listed {
  n: number
  rows: number
}

/** Segments of like size that are merged: 10^8 rows lie in some 15 segments, and each was written three or four times. */
const FAN_IN = 8
/** EIO, as the addon says it. Of other failures, as too many open files, the file is innocent. */
const BAD_SECTOR = /\(os error 5\)/
/** Of one merge; each is read through 1 MiB. */
const MERGED_AT_ONCE = 64

export const segmentFolder = (folder: string): string => join(folder, 'signatures')

export class SegmentRepository implements SignatureRepository {
  readonly #db: Database.Database
  readonly #folder: string
  readonly #index: SignatureIndexHandle
  readonly #youngRows: number
  readonly #keep: Database.Statement<[Uint8Array]>
  readonly #later: Database.Statement<[number], number>
  readonly #rows: Database.Statement<[number], Buffer>
  readonly #counts: Database.Statement<[number], [listed: number, later: number]>
  readonly #trusted: Database.Statement
  readonly #damaged: DamageError
  readonly #list: Database.Statement<[], Listed>
  #segments: Listed[] = []
  /** What the index holds of `young`: all up to this number, so many rows. */
  #through = 0
  #held = 0
  /** The database's version that the index reflects; own commits do not change it. */
  #version: unknown
  #isStale = true
  /** What is left out of it; what is not found may be there. */
  readonly #unusable = new Set<number>()
  #damage: ImagerError | undefined
  #compacting: Promise<void> | undefined
  #isClosed = false

  constructor(db: Database.Database, folder: string, damaged: DamageError, options: SegmentOptions = {}) {
    const { youngRows = YOUNG_ROWS, filterBytes = FILTER_BYTES } = options
    this.#db = db
    this.#damaged = damaged
    this.#folder = segmentFolder(folder)
    this.#youngRows = youngRows
    mkdirSync(this.#folder, { recursive: true, mode: 0o700 })
    this.#index = new SignatureIndex(this.#folder, filterBytes)
    this.#keep = db.prepare('INSERT INTO young (rows) VALUES (?)')
    this.#later = db.prepare<[number], number>('SELECT n FROM young WHERE n > ? ORDER BY n').pluck()
    this.#rows = db.prepare<[number], Buffer>('SELECT rows FROM sound_young WHERE n = ?').pluck()
    this.#counts = db
      .prepare<[number], [number, number]>(`SELECT (SELECT count(*) FROM checksum WHERE kind = 'segment'),
        (SELECT count(*) FROM checksum WHERE kind = 'young' AND key > ?)`)
      .raw()
    this.#trusted = db.prepare('SELECT 1 FROM young JOIN segment LIMIT 0')
    this.#list = db.prepare('SELECT n, rows FROM sound_segment ORDER BY n')
    this.#refresh()
    if (!this.#damage) this.#removeUnlisted()
  }

  insert(batches: readonly SignatureBatch[]): void {
    for (const { stripe, records, births } of batches) this.#keep.run(signatureRows(stripe, records, births))
    this.#isStale = true
  }

  async settle(): Promise<void> {
    this.#refresh()
    if (this.#held < this.#youngRows || this.#damage) return
    this.#compacting ??= this.#compact().finally(() => {
      this.#compacting = undefined
    })
    // Its failure matters to nobody until there is too much to hold; the next commit tries again.
    if (this.#held < 2 * this.#youngRows) this.#compacting.catch(() => {})
    else await this.#compacting
  }

  async find(ids: Uint8Array, rank: Rank): Promise<FoundLocations> {
    this.#refresh()
    // What is in memory is believed as long as the tables that it came from are.
    this.#trusted.all()
    const found = await this.#find(ids)
    const { indexes, births, stripes, offsets, lengths } = found
    const count = ids.length / ID_BYTES
    const best = new Int8Array(count).fill(-1)
    const locations = {
      births: new BigUint64Array(count),
      stripes: new Float64Array(count),
      offsets: new Uint32Array(count),
      lengths: new Uint32Array(count),
    }
    for (let i = 0; i < indexes.length; i++) {
      const at = indexes[i] as number
      const value = rank(stripes[i] as number, at)
      if (value <= (best[at] as number)) continue
      best[at] = value
      locations.births[at] = births[i] as bigint
      locations.stripes[at] = stripes[i] as number
      locations.offsets[at] = offsets[i] as number
      locations.lengths[at] = lengths[i] as number
    }
    if (this.#damage && best.includes(-1)) throw this.#damage
    return locations
  }

  /** From all segments that can be read; the others are left out from then on. */
  async #find(ids: Uint8Array): Promise<Hits> {
    for (;;) {
      try {
        return await this.#index.find(ids)
      } catch (error) {
        if (!hasCode(error, 'CORRUPT', 'IO') || !(await this.#leaveOutUnreadable(ids))) throw error
        this.#use(this.#segments)
      }
    }
  }

  /** Asks each segment alone. True if one cannot answer that could till now. */
  async #leaveOutUnreadable(ids: Uint8Array): Promise<boolean> {
    const before = this.#unusable.size
    for (const { n } of this.#segments) {
      const alone = new SignatureIndex(this.#folder, 0)
      try {
        alone.useSegments([n])
        await alone.find(ids)
      } catch (error) {
        this.#leaveOut(n, error)
      }
    }
    return this.#unusable.size > before
  }

  close(): void {
    this.#isClosed = true
    this.#index.stop()
  }

  /** Takes in what was committed since, here or by another process. */
  #refresh(): void {
    for (;;) {
      const version = this.#db.pragma('data_version', { simple: true })
      if (!this.#isStale && version === this.#version) return
      try {
        this.#db.transaction(() => this.#read())()
        this.#version = version
        this.#isStale = false
        return
      } catch (error) {
        // Another process may have merged away what was just listed; then the list has changed as well.
        if (this.#db.pragma('data_version', { simple: true }) !== version) continue
        if (!hasCode(error, 'STATE_DAMAGED')) throw error
        this.#damage ??= error
        this.#version = version
        this.#isStale = false
        return
      }
    }
  }

  /** Rows that another process put into a segment meanwhile stay here as well until the next flush: they are the same rows. */
  #read(): void {
    const [listed, later] = this.#counts.get(this.#through) as [number, number]
    const segments = this.#list.all()
    const numbers = this.#later.all(this.#through)
    if (segments.length !== listed || numbers.length !== later) {
      this.#damage ??= this.#damaged('rows of the tables young or segment are gone', this.#db.name)
    }
    if (segments.length !== this.#segments.length || segments.some(({ n }, i) => n !== this.#segments[i]?.n)) {
      this.#use(segments)
    }
    for (const n of numbers) {
      this.#add(n)
      this.#through = n
    }
  }

  #add(n: number): void {
    try {
      const rows = this.#rows.get(n)
      if (rows) this.#held = this.#index.add(rows)
    } catch (error) {
      if (!hasCode(error, 'STATE_DAMAGED')) throw error
      this.#damage ??= error
    }
  }

  #use(segments: Listed[]): void {
    const numbers = () => segments.map(({ n }) => n).filter((n) => !this.#unusable.has(n))
    try {
      this.#index.useSegments(numbers())
    } catch (error) {
      if (!hasCode(error, 'CORRUPT', 'IO', 'UNSUPPORTED') || !this.#noteUnusable(segments)) throw error
      this.#index.useSegments(numbers())
    }
    this.#segments = segments
  }

  /** Opens each segment alone; those that fail are not used any more. True if there are any. */
  #noteUnusable(segments: readonly Listed[]): boolean {
    const before = this.#unusable.size
    for (const { n } of segments) {
      try {
        new SignatureIndex(this.#folder, 0).useSegments([n])
      } catch (error) {
        this.#leaveOut(n, error)
      }
    }
    return this.#unusable.size > before
  }

  #leaveOut(n: number, error: unknown): void {
    if (hasCode(error, 'IO') && existsSync(this.#path(n)) && !BAD_SECTOR.test(error.message)) throw error
    this.#unusable.add(n)
    this.#damage ??= this.#damaged(reason(error), this.#path(n))
  }

  async #compact(): Promise<void> {
    if (!this.#index.lock()) return
    try {
      this.#refresh()
      await this.#flush()
      for (let due = this.#due(); due.length > 0; due = this.#due()) await this.#merge(due)
    } finally {
      this.#index.unlock()
    }
  }

  #due(): Listed[] {
    return this.#isClosed ? [] : dueMerge(this.#segments, this.#youngRows)
  }

  async #flush(): Promise<void> {
    const through = this.#through
    const n = this.#nextSegment()
    this.#index.freeze()
    this.#held = 0
    try {
      const rows = await this.#index.flush(n)
      if (this.#isClosed) return
      this.#replace([], { n, rows }, through)
    } catch (error) {
      this.#index.thaw()
      throw error
    }
  }

  async #merge(due: readonly Listed[]): Promise<void> {
    const n = this.#nextSegment()
    const numbers = due.map((segment) => segment.n)
    const rows = await this.#index.merge(numbers, n)
    if (this.#isClosed) return
    this.#replace(numbers, { n, rows }, 0)
    for (const number of numbers) rmSync(this.#path(number), { force: true })
  }

  /** The switch: from here on `segment` counts, and neither those `numbers` nor the young rows that it holds. */
  #replace(numbers: readonly number[], segment: Listed, through: number): void {
    const strike = this.#db.prepare('DELETE FROM segment WHERE n = ?')
    const change = this.#db.transaction(() => {
      this.#db.prepare('INSERT INTO segment VALUES (?, ?)').run(segment.n, segment.rows)
      for (const number of numbers) strike.run(number)
      this.#db.prepare('DELETE FROM young WHERE n <= ?').run(through)
    })
    change.immediate()
    this.#use([...this.#segments.filter(({ n }) => !numbers.includes(n)), segment])
  }

  #nextSegment(): number {
    return (this.#segments.at(-1)?.n ?? 0) + 1
  }

  #path(number: number): string {
    return join(this.#folder, `${number}.seg`)
  }

  /** What a crash left. Another process that is at work there removes its own. */
  #removeUnlisted(): void {
    if (!this.#index.lock()) return
    try {
      const listed = new Set(this.#list.all().map(({ n }) => `${n}.seg`))
      for (const name of readdirSync(this.#folder)) if (!listed.has(name)) rmSync(join(this.#folder, name))
    } finally {
      this.#index.unlock()
    }
  }
}

/** The segments of the lowest size class that has `FAN_IN` of them: each class is `FAN_IN` times the one below. Pure. */
export function dueMerge(segments: readonly Listed[], youngRows: number): Listed[] {
  const classes = new Map<number, Listed[]>()
  for (const segment of segments) {
    const sizeClass = Math.max(0, Math.floor(Math.log(segment.rows / youngRows) / Math.log(FAN_IN)))
    classes.set(sizeClass, [...(classes.get(sizeClass) ?? []), segment])
  }
  const full = [...classes].filter(([, members]) => members.length >= FAN_IN).sort(([a], [b]) => a - b)
  return full[0]?.[1].slice(0, MERGED_AT_ONCE) ?? []
}
