/**
 * Between the catalog and SQLite: each failure of the database becomes one of ours, that names the file and what to do, and
 * what cannot be trusted or written is not tried again. A table in which damage was found is not read any more; with any
 * damage, or while the disk takes nothing, nothing is written.
 */
import { dirname } from 'node:path'
import type Database from 'better-sqlite3'
import { hasCode, ImagerError, reason } from '../base/errors.js'
import { stateDamaged } from '../keys/damage.js'
import type { Condition } from './types.js'

export type GuardedDatabase = Database.Database & { readonly guard: Guard }

/** How long SQLite waits for another process's lock; while nothing can be written it does not wait. */
export const BUSY_MS = 5_000

export class Guard {
  readonly #tables = new Set<string>()
  #damage: ImagerError | undefined
  #paused: ImagerError | undefined
  #trial = false
  #onDamage: () => void = () => {}
  /** Opened for this process alone: when there is room again, it is to be opened anew. */
  isAlone = false
  #waitAtMost: (ms: number) => void = () => {}

  /** `peer`: address of one, for the line to type. */
  constructor(
    readonly path: string,
    readonly peer: string | undefined,
  ) {}

  /** Why nothing is written; undefined while all is well. */
  get trouble(): ImagerError | undefined {
    return this.#damage ?? this.#paused
  }

  get damage(): ImagerError | undefined {
    return this.#damage
  }

  /** From now on nothing is written, and `tables` are not read. */
  distrust(error: ImagerError, tables: readonly string[]): void {
    this.#damage ??= error
    for (const table of tables) this.#tables.add(table)
    this.#onDamage()
  }

  /** Nothing is written from now on; for a file that is not the database. */
  doubt(why: string, path: string): ImagerError {
    const error = this.damaged(why, path)
    this.distrust(error, [])
    return error
  }

  damaged(why: string, path = this.path): ImagerError {
    return stateDamaged(path, why, dirname(dirname(this.path)), this.peer)
  }

  /** Has writes fail at once, and nothing wait for a lock, until a write in `attempt` succeeds. */
  pause(error: ImagerError): void {
    this.#paused ??= error
    this.#waitAtMost(0)
  }

  /** Calls `heard` when damage is found, or was. */
  watchDamage(heard: () => void): void {
    this.#onDamage = heard
    if (this.#damage) heard()
  }

  /** `wait` sets how long the connection waits for a lock. */
  steer(wait: (ms: number) => void): void {
    this.#waitAtMost = wait
    if (this.#paused) wait(0)
  }

  /** Runs a write although writes are paused. If it succeeds they go on. */
  attempt(write: () => void): boolean {
    if (this.#damage) return false
    this.#trial = true
    try {
      write()
      this.#paused = undefined
      this.#waitAtMost(BUSY_MS)
    } catch (error) {
      if (!hasCode(error, 'COORDINATOR_READ_ONLY')) throw error
      this.#paused = error
    } finally {
      this.#trial = false
    }
    return this.#paused === undefined
  }

  requireReadable(tables: readonly string[]): void {
    if (this.#damage && tables.some((table) => this.#tables.has(table))) throw this.#damage
  }

  requireWritable(): void {
    const trouble = this.trouble
    if (trouble && !this.#trial) throw trouble
  }

  /**
   * What SQLite threw, as what it means. Where there was no room, or a lock, what comes after it is paused. Damage that a call
   * ran into counts at once: what that call says to type must work, and not only once all has been looked through.
   */
  translate(error: unknown): unknown {
    const meant = fromSqlite(error, this)
    if (hasCode(meant, 'COORDINATOR_READ_ONLY')) this.pause(meant)
    else if (sqliteCode(error) !== undefined && hasCode(meant, 'STATE_DAMAGED')) this.distrust(meant, [])
    return meant
  }
}

/** What people are told of it. */
export function conditionOf(trouble: ImagerError): Condition {
  const code = trouble.code === 'STATE_DAMAGED' ? trouble.code : 'COORDINATOR_READ_ONLY'
  return { code, sentence: trouble.message, remedy: trouble.remedy }
}

const DAMAGED = ['SQLITE_CORRUPT', 'SQLITE_NOTADB', 'SQLITE_FORMAT', 'SQLITE_IOERR_SHORT_READ', 'SQLITE_ERROR']

/** Our own SQL is right: where SQLite knows no such table or column, the file says otherwise than it was written. */
function fromSqlite(error: unknown, guard: Guard): unknown {
  const code = sqliteCode(error)
  if (code === undefined) return error
  if (DAMAGED.some((start) => code.startsWith(start))) return guard.damaged(reason(error))
  const [why, todo] = whyNotWritten(code, guard.path) ?? []
  if (why === undefined || todo === undefined) return error
  return new ImagerError('COORDINATOR_READ_ONLY', { why, todo }, { cause: error })
}

/** Pure. */
export function whyNotWritten(code: string, path: string): [why: string, todo: string] | undefined {
  const folder = dirname(dirname(path))
  if (/^SQLITE_(FULL|IOERR_SHMSIZE|IOERR_SHMOPEN|IOERR_WRITE)/.test(code)) {
    return [`no room is left for ${folder} (${code})`, `Free some space there; it goes on by itself`]
  }
  if (/^SQLITE_(BUSY|LOCKED)/.test(code)) {
    return [
      `another process has locked ${path}`,
      `Find it with \`fuser ${path}\`; once it lets go, it goes on by itself`,
    ]
  }
  if (/^SQLITE_(READONLY|PERM|AUTH|CANTOPEN)/.test(code)) {
    return [
      `${path} may not be written (${code})`,
      `Is ${folder} mounted read-only, or another user's? It goes on by itself`,
    ]
  }
  if (!/^SQLITE_(IOERR|PROTOCOL|NOMEM)/.test(code)) return undefined
  return [`the disk under ${path} gives errors (${code})`, `Look at that disk; the system log may say more`]
}

function sqliteCode(error: unknown): string | undefined {
  const code = error instanceof Error && error.name === 'SqliteError' ? (error as { code?: unknown }).code : undefined
  return typeof code === 'string' ? code : undefined
}

/** Tables that a statement names, without `sound_`. Pure. */
export function tablesOf(sql: string): string[] {
  return [...sql.matchAll(/\b(?:FROM|JOIN|INTO|UPDATE)\s+(?:main\.)?(?:sound_)?(\w+)/gi)].map(
    (match) => match[1] as string,
  )
}

/** The same connection; what it prepares and runs goes through the guard from now on. */
export function guarded(db: Database.Database, guard: Guard): GuardedDatabase {
  const inner = { prepare: db.prepare.bind(db), transaction: db.transaction.bind(db), pragma: db.pragma.bind(db) }
  guard.steer((ms) => inner.pragma(`busy_timeout = ${ms}`))
  const attempt = <T>(work: () => T): T => {
    try {
      return work()
    } catch (error) {
      throw guard.translate(error)
    }
  }
  const guardedPrepare = (sql: string) => {
    const isWrite = !/^\s*SELECT\b/i.test(sql)
    const tables = tablesOf(sql)
    const before = () => (isWrite ? guard.requireWritable() : guard.requireReadable(tables))
    const statement = attempt(() => inner.prepare(sql))
    return guardStatement(statement, before, attempt)
  }
  const guardedTransaction = (work: (...args: unknown[]) => unknown) => {
    const made = inner.transaction(work)
    const wrap =
      (run: (...args: unknown[]) => unknown, isWrite: boolean) =>
      (...args: unknown[]) => {
        if (isWrite && !db.inTransaction) guard.requireWritable()
        return attempt(() => run(...args))
      }
    const outer = wrap(made, false)
    return Object.assign(outer, {
      default: outer,
      deferred: wrap(made.deferred, false),
      immediate: wrap(made.immediate, true),
      exclusive: wrap(made.exclusive, true),
    })
  }
  const pragma = (text: string, options?: Database.PragmaOptions) => attempt(() => inner.pragma(text, options))
  return Object.assign(db, {
    guard,
    pragma,
    prepare: guardedPrepare,
    transaction: guardedTransaction,
  }) as GuardedDatabase
}

function guardStatement(
  statement: Database.Statement,
  before: () => void,
  attempt: <T>(work: () => T) => T,
): Database.Statement {
  const { run, get, all, iterate } = statement
  const wrap =
    <A extends unknown[], R>(inner: (...args: A) => R) =>
    (...args: A): R => {
      before()
      return attempt(() => inner.apply(statement, args))
    }
  const rows = function* (...args: unknown[]) {
    before()
    const cursor = attempt(() => iterate.apply(statement, args))
    try {
      for (let next = attempt(() => cursor.next()); !next.done; next = attempt(() => cursor.next())) yield next.value
    } finally {
      cursor.return?.()
    }
  }
  return Object.assign(statement, { run: wrap(run), get: wrap(get), all: wrap(all), iterate: rows })
}
