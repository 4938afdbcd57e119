/**
 * The snapshots that are visible, and the list of stripes that each needs. Only SQL; a row is written in the transaction that
 * ends a run (`finish` in `local.ts`), or by a recovery.
 */
import type Database from 'better-sqlite3'
import { hasCode, ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import type { Line } from '../keys/replacement.js'
import type { EntryRow } from './entry.js'
import { inOrder } from './order.js'
import type { OrderedOf } from './ordered.js'
import { outlookOf, stateOf } from './state.js'
import { Statements } from './statements.js'
import type { Figure, Stripes } from './stripes.js'
import type { SnapshotRow, SnapshotSummary } from './types.js'

export interface NewSnapshot
  extends Omit<
    SnapshotRow,
    'applianceName' | 'takenBy' | 'survives' | 'receipted' | 'target' | 'cosigned' | 'state' | 'at' | 'now' | 'ordered'
  > {
  head: Uint8Array
  stripes: readonly number[]
}

interface StoredSnapshot extends Omit<NewSnapshot, 'summary' | 'stripes' | 'head'> {
  n: number
  applianceName: string
  takenBy?: { host: Hex; name: string }
  head: Buffer
  stripes: Buffer
  summary: string
  /** JSON of a `Figure`; null: something was found out since. */
  figure: string | null
}

/** What of the fleet a snapshot's state depends on besides its stripes. */
export interface Present {
  readonly now: number
  /** `host.n` of hosts that are away, and their keys. */
  readonly away: ReadonlyMap<number, Hex>
  /** By `host.n`: its failure domain. */
  readonly domains: ReadonlyMap<number, string>
  /** Who took whose place. */
  readonly line: Line
  readonly members: { name(host: Hex): string }
  /** What a person decided of the volume: hosts that may be missing; null: what each snapshot was made for. */
  tolerate(appliance: Hex, volume: Hex): number | null
  /** Are the appliance's keys on enough peers? */
  keysHeld(appliance: Hex): boolean
  /** Have enough witnesses signed a list that it is on? */
  cosigned(appliance: Hex, snapshot: Hex): boolean
  /** What admins ordered of it. */
  readonly ordered: OrderedOf | undefined
}

export class Snapshots {
  readonly #db: Database.Database
  readonly #statements: Statements
  readonly #stripes: Stripes

  constructor(db: Database.Database, stripes: Stripes) {
    this.#db = db
    this.#statements = new Statements(db)
    this.#stripes = stripes
  }

  /**
   * Adds it, or replaces the same one of its appliance, whose arrival stays: another appliance's of that id is another snapshot.
   * `arrived` is 0 where it is read back.
   */
  add(s: NewSnapshot): void {
    this.#statements
      .prepare(`INSERT OR REPLACE INTO snapshot (id, appliance, volume, source, label, sequence, parent, time, arrived, head,
        stripes, summary) VALUES (@id, @appliance, @volume, @source, @label, @sequence, @parent, @time,
        max(@arrived, coalesce((SELECT arrived FROM snapshot WHERE id = @id AND appliance = @appliance), 0)), @head, @packed, @summary)`)
      .run({ ...s, summary: JSON.stringify(s.summary), packed: encodeStripes(s.stripes) })
  }

  /**
   * Newest last (`inOrder`); with `prefix`, those whose id begins with it; with `appliance`, its own only. What a host took whose
   * place another has is that one's.
   */
  list(present: Present, appliance: Hex | undefined, prefix = ''): (SnapshotRow & { head: Buffer })[] {
    const rows = this.#statements
      .prepare<[{ line: string | null; prefix: string }], StoredSnapshot>(
        `SELECT snapshot.*, coalesce(host.name, substr(appliance, 1, 8)) AS applianceName
        FROM sound_snapshot AS snapshot LEFT JOIN sound_host AS host ON host.host = appliance
        WHERE (@line IS NULL OR appliance IN (SELECT value FROM json_each(@line))) AND substr(id, 1, length(@prefix)) = @prefix`,
      )
      .all({ line: appliance === undefined ? null : JSON.stringify(present.line.of(appliance)), prefix })
    const inherited = rows.map((row) => inheritedBy(row, present))
    const figured = inOrder(inherited, present.now).map((row) => ({ row, figure: this.#figureOf(row) }))
    this.#keepFigures(figured.filter(({ row }) => !row.figure).map(({ row: { n }, figure }) => ({ n, figure })))
    return figured.map(({ row, figure }) => toSnapshot(row, figure, present))
  }

  /** With `line`, of these hosts only. Undefined where there is none, or two appliances have one of that id. */
  stripesOf(id: Hex, line: readonly Hex[] | undefined): number[] | undefined {
    const rows = this.#statements
      .prepare<[{ id: Hex; line: string | null }], Buffer>(
        'SELECT stripes FROM sound_snapshot WHERE id = @id AND (@line IS NULL OR appliance IN (SELECT value FROM json_each(@line)))',
      )
      .pluck()
      .all({ id, line: line === undefined ? null : JSON.stringify(line) })
    return rows.length === 1 ? decodeStripes(rows[0] as Buffer) : undefined
  }

  /** What a coordinator that was set back takes for this one again (`entry.ts`); its stripes as rows have them. */
  entry(id: Hex): Omit<EntryRow, 'runs'> | undefined {
    const row = this.#statements
      .prepare<[Hex], Omit<EntryRow, 'summary' | 'runs'> & { summary: string }>(
        `SELECT id, appliance, volume, source, label, sequence, parent, time, arrived, head, stripes, summary
        FROM sound_snapshot WHERE id = ?`,
      )
      .get(id)
    return row && { ...row, summary: JSON.parse(row.summary) as SnapshotSummary }
  }

  /** Drops what was stored of all snapshots' figures, because something was found out: they are made anew when asked for. */
  forgetFigures(): void {
    this.#statements.prepare('UPDATE snapshot SET figure = NULL WHERE figure IS NOT NULL').run()
  }

  #figureOf({ figure, stripes }: StoredSnapshot): Figure {
    return figure ? (JSON.parse(figure) as Figure) : this.#stripes.figure(decodeStripes(stripes))
  }

  /** All in one commit. It only saves work: where nothing can be written, reading goes on. */
  #keepFigures(figures: readonly { n: number; figure: Figure }[]): void {
    if (figures.length === 0) return
    const keep = this.#statements.prepare('UPDATE snapshot SET figure = ? WHERE n = ?')
    try {
      this.#db.transaction(() => {
        for (const { n, figure } of figures) keep.run(JSON.stringify(figure), n)
      })()
    } catch (error) {
      if (!hasCode(error, 'COORDINATOR_READ_ONLY', 'STATE_DAMAGED')) throw error
    }
  }
}

function toSnapshot(
  { n: _n, stripes: _stripes, figure: _figure, ...row }: StoredSnapshot,
  figure: Figure,
  present: Present,
): SnapshotRow & { head: Buffer } {
  const summary = JSON.parse(row.summary) as SnapshotSummary
  const { appliance, volume, arrived, takenBy } = row
  const writer = takenBy?.host ?? appliance
  const target = present.tolerate(appliance, volume) ?? summary.tolerate
  const [since, cosigned] = [arrived || row.time, present.cosigned(writer, row.id)]
  const { now, domains } = present
  const standing = { target, since, keysHeld: present.keysHeld(writer), cosigned, now, domains }
  const ordered = present.ordered?.({ appliance: writer, snapshot: row.id })
  const state = stateOf(figure, standing)
  return { ...row, ...state, now: outlookOf(figure, present.away), summary, ...(ordered && { ordered }) }
}

/** As its heir has it, where its appliance's place was taken. */
function inheritedBy<R extends Pick<StoredSnapshot, 'appliance' | 'applianceName' | 'takenBy'>>(
  row: R,
  { line, members }: Present,
): R {
  const { appliance: host, applianceName } = row
  if (!line.isFormer(host)) return row
  const heir = line.heirOf(host)
  return { ...row, appliance: heir, applianceName: members.name(heir), takenBy: { host, name: applianceName } }
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
