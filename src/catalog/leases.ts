/**
 * A lease is the right of one run of one volume to write: a volume has one that is open at most. Only SQL; what may be done
 * with one is decided in `local.ts`.
 */
import type Database from 'better-sqlite3'
import type { ErrorCode } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import { RUN_OPEN_MS, RUN_TRIED_MS } from '../base/limits.js'
import { Statements } from './statements.js'
import type { Stripes } from './stripes.js'
import type { BeginRequest, Begun, LastRun, RunRow } from './types.js'

/** Why a run ended whose host was removed. */
const REMOVED = 'REMOVED' satisfies ErrorCode

/** What a run begins with; `run`: the number of its row. */
type Beginning = Omit<BeginRequest, 'lease' | 'run'> & { run: number }

export interface Lease extends Beginning, Omit<Begun, 'run'> {
  /** `fenced`: it came to nothing, by a newer run of its volume or, with a `failure`, as it said itself. */
  state: 'open' | 'finished' | 'fenced'
  started: number
  ended: number | null
  failure: string | null
}

export class Leases {
  readonly #statements: Statements
  readonly #stripes: Stripes

  constructor(db: Database.Database, stripes: Stripes) {
    this.#statements = new Statements(db)
    this.#stripes = stripes
  }

  find(lease: Hex): Lease | undefined {
    return this.#statements.prepare<[Hex], Lease>('SELECT * FROM sound_lease WHERE lease = ?').get(lease)
  }

  /**
   * Opens a lease, and fences (ends) the one of that volume that is open. Its sequence number is above all earlier ones
   * of the volume, also above those of runs that came to nothing. `line`: who had the appliance's place before, and itself: what
   * they stored is what it goes on with.
   */
  begin(lease: Hex, snapshot: Hex, request: Beginning, line: readonly Hex[], now: number): Omit<Begun, 'run'> {
    const { appliance, volume, source, label, run } = request
    const fenced = this.#statements
      .prepare<[number, Hex, Hex], { lease: Hex }>(
        `UPDATE lease SET state = 'fenced', ended = ? WHERE appliance = ? AND volume = ? AND state = 'open' RETURNING lease`,
      )
      .all(now, appliance, volume)
    for (const old of fenced) this.#stripes.dropOpen(old.lease)
    const parent =
      this.#statements
        .prepare<[string, Hex], { id: Hex; sequence: number }>(
          `SELECT id, sequence FROM sound_snapshot WHERE appliance IN (SELECT value FROM json_each(?)) AND volume = ?
          ORDER BY sequence DESC LIMIT 1`,
        )
        .get(JSON.stringify(line), volume) ?? null
    const last = this.#statements
      .prepare<[Hex, Hex], number | null>('SELECT max(sequence) FROM sound_lease WHERE appliance = ? AND volume = ?')
      .pluck()
      .get(appliance, volume)
    const sequence = Math.max(last ?? 0, parent?.sequence ?? 0) + 1
    const begun = { lease, snapshot, sequence, parent: parent?.id ?? null }
    this.#statements
      .prepare(`INSERT INTO lease (lease, run, appliance, volume, source, label, snapshot, sequence, parent, started, state)
        VALUES (@lease, @run, @appliance, @volume, @source, @label, @snapshot, @sequence, @parent, @now, 'open')`)
      .run({ ...begun, run, appliance, volume, source, label, now })
    return begun
  }

  /** The last run of a volume that is over. */
  lastRun(appliance: Hex, volume: Hex, now: number): (LastRun & { source: string }) | undefined {
    // Only the newest can be open: a `begin` ends the one before.
    const newest = this.#statements
      .prepare<[Hex, Hex], Lease>(
        'SELECT * FROM sound_lease WHERE appliance = ? AND volume = ? ORDER BY sequence DESC LIMIT 2',
      )
      .all(appliance, volume)
    const last = newest.find((lease) => lease.state !== 'open' || now - lease.started > RUN_OPEN_MS)
    if (!last) return undefined
    const { started, ended, source, state } = last
    const finished = state === 'finished'
    return { started, ended, failure: finished ? null : (last.failure ?? 'LEASE_ENDED'), finished, source }
  }

  /** The same of all volumes, or of an appliance's. */
  runs(now: number, appliance?: Hex): RunRow[] {
    const volumes = this.#statements
      .prepare<[{ appliance: Hex | null }], Pick<RunRow, 'appliance' | 'applianceName' | 'volume'> & { kept: 0 | 1 }>(
        `SELECT DISTINCT appliance, volume, coalesce(host.name, substr(appliance, 1, 8)) AS applianceName,
        EXISTS (SELECT 1 FROM sound_snapshot WHERE appliance = lease.appliance AND volume = lease.volume) AS kept
        FROM sound_lease AS lease LEFT JOIN sound_host AS host ON host.host = appliance WHERE @appliance IS NULL OR appliance = @appliance`,
      )
      .all({ appliance: appliance ?? null })
    const runs = volumes.flatMap(({ kept, ...one }) => {
      const run = this.lastRun(one.appliance, one.volume, now)
      return run ? [{ ...one, ...run, kept: kept === 1 }] : []
    })
    const wanted = runs.filter((run) => run.kept || now - (run.ended ?? run.started) <= RUN_TRIED_MS)
    return withoutForerunners(wanted).sort((a, b) => a.started - b.started)
  }

  /** Its runs are those of who took its place; one that is open comes to nothing. */
  inherit(former: Hex, heir: Hex, now: number): void {
    const open = this.#statements
      .prepare<[number, Hex], { lease: Hex }>(
        `UPDATE lease SET state = 'fenced', ended = ?, failure = 'PLACE_TAKEN' WHERE appliance = ? AND state = 'open' RETURNING lease`,
      )
      .all(now, former)
    for (const { lease } of open) this.#stripes.dropOpen(lease)
    this.#statements.prepare('UPDATE lease SET appliance = ? WHERE appliance = ?').run(heir, former)
  }

  abandon(lease: Hex, failure: string, now: number): void {
    this.#statements
      .prepare(`UPDATE lease SET state = 'fenced', ended = ?, failure = ? WHERE lease = ?`)
      .run(now, failure, lease)
    this.#stripes.dropOpen(lease)
  }

  /** The host was removed: none of its runs comes to anything. */
  expel(appliance: Hex, now: number): void {
    const open = this.#statements.prepare<[Hex], Hex>(
      `SELECT lease FROM sound_lease WHERE appliance = ? AND state = 'open'`,
    )
    for (const lease of open.pluck().all(appliance)) this.abandon(lease, REMOVED, now)
  }

  end(lease: Hex, now: number): void {
    this.#statements.prepare(`UPDATE lease SET state = 'finished', ended = ? WHERE lease = ?`).run(now, lease)
    this.#stripes.dropOpen(lease)
  }
}

/**
 * A run that failed before it knew its disk is of a volume that only its path names. Once a later run of that path got further,
 * that one tells. A volume that has snapshots is one of its own. Pure.
 */
export function withoutForerunners(runs: readonly RunRow[]): RunRow[] {
  const path = ({ appliance, source }: RunRow) => `${appliance} ${source}`
  const newest = new Map<string, number>()
  for (const run of runs) newest.set(path(run), Math.max(run.started, newest.get(path(run)) ?? 0))
  return runs.filter((run) => run.kept || run.started === newest.get(path(run)))
}
