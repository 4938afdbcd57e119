/**
 * One run of a disk at a time on this host. Who runs holds a lock on a file in the state folder, which the kernel lets go with the
 * process, however that ends. Node has no such lock, so it is SQLite's, on a database that stays empty; beside it stands who holds it.
 */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type Database from 'better-sqlite3'
import * as v from 'valibot'
import { ImagerError, reason } from '../../base/errors.js'
import { isAlive, markProcess } from '../../base/process-mark.js'
import { formatTime } from '../../base/units.js'
import { Sqlite } from '../../catalog/sqlite.js'
import { Meter } from '../progress.js'
import type { PipelineParts } from './pipeline.js'

const FOLDER = 'runs'
const POLL_MS = 500

const Holder = v.object({ pid: v.number(), started: v.string(), boot: v.string(), since: v.number() })
type Holder = v.InferOutput<typeof Holder>

export interface LockOptions {
  /** As errors call it. */
  readonly source: string
  /** Until the other run ends, instead of BUSY. */
  readonly wait: boolean
}

type LockParts = Pick<PipelineParts, 'home' | 'clock' | 'report' | 'signal'>

export class RunLocks {
  readonly #options: LockOptions
  readonly #parts: LockParts
  readonly #held = new Map<string, Database.Database>()

  constructor(options: LockOptions, parts: LockParts) {
    this.#options = options
    this.#parts = parts
  }

  /** Throws BUSY, or waits. */
  async hold(name: string): Promise<void> {
    const { clock, report, signal } = this.#parts
    const { source, wait } = this.#options
    const meter = new Meter('waiting', 0, clock, report)
    while (!this.tryHold(name)) {
      const who = describe(this.#holder(name))
      if (!wait) throw new ImagerError('BUSY', { source, who })
      meter.wait(`waiting for the run that goes on (${who})`)
      await sleep(POLL_MS, undefined, { signal }).catch(() => signal.throwIfAborted())
    }
  }

  /** False where another process holds it. */
  tryHold(name: string): boolean {
    if (this.#held.has(name)) return true
    const path = this.#path(name, 'lock')
    let db: Database.Database | undefined
    try {
      mkdirSync(join(this.#parts.home.state, FOLDER), { recursive: true, mode: 0o700 })
      writeFileSync(path, '', { flag: 'a', mode: 0o600 })
      db = new Sqlite(path, { timeout: 0 })
      db.exec('BEGIN EXCLUSIVE')
    } catch (cause) {
      db?.close()
      if (cause instanceof Sqlite.SqliteError && cause.code === 'SQLITE_BUSY') return false
      throw new ImagerError('SYSTEM', { what: `The lock ${path}: ${reason(cause)}` }, { cause })
    }
    this.#held.set(name, db)
    this.#sign(name)
    return true
  }

  close(): void {
    for (const [name, db] of this.#held) {
      rmSync(this.#path(name, 'json'), { force: true })
      db.close()
    }
    this.#held.clear()
  }

  #path(name: string, ending: string): string {
    return join(this.#parts.home.state, FOLDER, `${name}.${ending}`)
  }

  /** For people: on a full disk the lock holds without it. */
  #sign(name: string): void {
    const holder = { ...markProcess(process.pid), since: this.#parts.clock.now() }
    try {
      writeFileSync(this.#path(name, 'json'), JSON.stringify(holder), { mode: 0o600 })
    } catch {}
  }

  /** Undefined where the one that stands there is gone: who holds it has not signed yet. */
  #holder(name: string): Holder | undefined {
    try {
      const holder = v.parse(Holder, JSON.parse(readFileSync(this.#path(name, 'json'), 'utf8')))
      return isAlive(holder) ? holder : undefined
    } catch {
      return undefined
    }
  }
}

function describe(holder: Holder | undefined): string {
  if (!holder) return 'it began this very moment'
  return `process ${holder.pid}, since ${formatTime(holder.since, 'seconds')}`
}
