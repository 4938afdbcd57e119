/**
 * What a coordinator does for its own catalog, beside answering: go on while nothing can be written, and come back; leave out what
 * an audit found damaged; take over what a damaged one knew.
 */
import { statfsSync } from 'node:fs'
import { dirname } from 'node:path'
import { hasCode } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import { MiB } from '../base/units.js'
import type { SegmentOptions } from '../signatures/segments.js'
import { carryOver } from './carry.js'
import { type CopiedFile, copyCatalog } from './copy.js'
import { conditionOf, type Guard, type GuardedDatabase } from './guard.js'
import type { Heartbeat, HostCatalogue } from './hosts.js'
import type { Registry } from './registry.js'
import type { Stripes } from './stripes.js'
import type { Condition } from './types.js'

/** What a short run writes to the log. */
const ROOM_BYTES = MiB

export interface OpenOptions extends SegmentOptions {
  /** How long another process's lock is waited for. */
  waitMs?: number
}

export interface UpkeepParts {
  readonly db: GuardedDatabase
  readonly stripes: Stripes
  readonly members: HostCatalogue
  readonly registry: Registry
}

export class Upkeep {
  /** What was found damaged, and whether anything can be written. */
  readonly guard: Guard
  readonly #parts: UpkeepParts

  constructor(parts: UpkeepParts) {
    this.guard = parts.db.guard
    this.#parts = parts
  }

  /** Why the catalog cannot be written, or not be believed. */
  conditions(): Condition[] {
    const { trouble } = this.guard
    return trouble ? [conditionOf(trouble)] : []
  }

  /** Writes a heartbeat by `write`; while that is not possible it is kept in memory. False then. */
  keepBeat(host: Hex, beat: Heartbeat, write: () => boolean): boolean {
    try {
      return write()
    } catch (error) {
      if (!hasCode(error, 'COORDINATOR_READ_ONLY', 'STATE_DAMAGED')) throw error
      this.#parts.members.remember(host, beat)
      return false
    }
  }

  /** Is there room for more than the next heartbeat? Else writing would end and begin every few seconds. */
  hasRoom(): boolean {
    const { bavail, bsize } = statfsSync(dirname(this.guard.path))
    return bavail * bsize >= ROOM_BYTES
  }

  /** Tries whether the catalog can be written again, and writes the heartbeats that came meanwhile, each by `heartbeat`. */
  resume(heartbeat: (host: Hex, beat: Heartbeat) => void): boolean {
    const { registry, members } = this.#parts
    return this.guard.attempt(() => {
      this.#write(() => registry.touch())
      for (const [host, beat] of members.takeRemembered()) heartbeat(host, beat)
    })
  }

  /** A consistent copy of the whole catalog, as the next coordinator gets it, in a folder of its own. */
  copyTo(folder: string): Promise<CopiedFile[]> {
    return copyCatalog(this.#parts.db, dirname(this.guard.path), folder)
  }

  /** Of the damaged catalog at `path`, what no peer knows. */
  carryOver(path: string): void {
    this.#write(() => carryOver(path, this.#parts.db))
  }

  /** Nothing is durable until `settle`: for a catalog that is made anew if the power goes before. A sync for each write would take longer. */
  hurry(): void {
    this.#parts.db.pragma('synchronous = OFF')
  }

  /** Everything is durable, and each write from now on. */
  settle(): void {
    this.#parts.db.pragma('synchronous = FULL')
    this.#parts.db.pragma('wal_checkpoint(TRUNCATE)')
  }

  /** Their rows are damaged: they are told by signature from now on, as those of stripes of before format 3. */
  forgetLengths(stripes: readonly number[], host: Hex): void {
    this.#write(() => {
      for (const stripe of stripes) this.#parts.stripes.keepLengths(stripe, undefined)
      const what = `The lengths of ${stripes.length} stripes were damaged in ${this.guard.path}`
      this.#parts.registry.record(
        'fleet',
        host,
        `${what}: they are looked up by signature from now on. Look at that disk`,
      )
    })
  }

  #write(work: () => void): void {
    this.#parts.db.transaction(work).immediate()
  }
}
