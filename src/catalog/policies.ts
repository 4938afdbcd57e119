/**
 * What a person decided of a volume or of the whole fleet, and the most that a volume's snapshots were made for: that is the
 * target of its next one, so that PCs that are off for a night do not lower it unseen. Only SQL.
 */
import type Database from 'better-sqlite3'
import type { Hex } from '../base/ids.js'
import { type Line, NO_LINE } from '../keys/replacement.js'
import type { Policy, VolumePolicy } from './types.js'

interface Stored extends Policy {
  reached: number
  retired: 0 | 1
}

export interface VolumeId {
  readonly appliance: Hex
  readonly volume: Hex
}

/** All that a person decided and a statement says (keys/policy.ts). */
export interface Decided {
  readonly rules: Policy
  readonly volumes: readonly (VolumeId & Policy)[]
}

/** The row without a name. */
const FLEET: VolumeId = { appliance: '', volume: '' }
const NOTHING: Stored = { tolerate: null, maxAgeMs: null, reached: 0, retired: 0 }

export class Policies {
  readonly #db: Database.Database
  readonly #line: () => Line
  readonly #row: Database.Statement<[Hex, Hex], Stored>

  /** `line`: who took whose place. */
  constructor(db: Database.Database, line: () => Line = () => NO_LINE) {
    this.#db = db
    this.#line = line
    this.#row = db.prepare(
      'SELECT tolerate, maxAgeMs, reached, retired FROM sound_volume WHERE appliance = ? AND volume = ?',
    )
  }

  /** What was decided of it, or of that of a host whose place its appliance took; the fleet's where nothing was. */
  of(id: VolumeId): Stored {
    const own = this.#stored(id)
    const decided = [own, ...this.#former(id).map((one) => this.#stored(one)), this.#stored(FLEET)]
    const first = (key: keyof Policy) => decided.map((row) => row[key]).find((value) => value !== null) ?? null
    return { ...own, tolerate: first('tolerate'), maxAgeMs: first('maxAgeMs') }
  }

  /** The same volume of hosts whose place its appliance took, the latest first. */
  #former({ appliance, volume }: VolumeId): VolumeId[] {
    const line = this.#line()
    const former = line.isFormer(appliance) ? [] : line.of(appliance).filter((host) => host !== appliance)
    return former.reverse().map((host) => ({ appliance: host, volume }))
  }

  fleet(): Policy {
    const { tolerate, maxAgeMs } = this.#stored(FLEET)
    return { tolerate, maxAgeMs }
  }

  decided(): Decided {
    const volumes = this.#db
      .prepare<[], VolumeId & Policy>(
        `SELECT appliance, volume, tolerate, maxAgeMs FROM sound_volume
        WHERE appliance <> '' AND (tolerate IS NOT NULL OR maxAgeMs IS NOT NULL) ORDER BY appliance, volume`,
      )
      .all()
    return { rules: this.fleet(), volumes }
  }

  /** These, and nothing else, are decided from now on. */
  adopt({ rules, volumes }: Decided): void {
    this.#decide(null, this.#changed(this.fleet(), rules))
    const before = this.decided().volumes
    const isListed = (id: VolumeId) =>
      volumes.some(({ appliance, volume }) => appliance === id.appliance && volume === id.volume)
    for (const row of before)
      if (!isListed(row)) this.#decide(row, this.#changed(row, { tolerate: null, maxAgeMs: null }))
    for (const row of volumes) this.#decide(row, this.#changed(this.#stored(row), row))
  }

  /** Volumes that have a snapshot, with the source that the newest of them names; of a host whose place was taken, its heir's. */
  volumes(line: Line, members: { name(host: Hex): string }): VolumePolicy[] {
    const rows = this.#db
      .prepare<[], VolumeId & { source: string; applianceName: string; n: number }>(
        `SELECT appliance, volume, source, coalesce(host.name, substr(appliance, 1, 8)) AS applianceName, max(snapshot.n) AS n
        FROM sound_snapshot AS snapshot LEFT JOIN sound_host AS host ON host.host = appliance GROUP BY appliance, volume ORDER BY applianceName, source`,
      )
      .all()
    const heirs = rows.map((row) => {
      const heir = line.heirOf(row.appliance)
      return heir === row.appliance ? row : { ...row, appliance: heir, applianceName: members.name(heir) }
    })
    const newest = new Map<string, (typeof rows)[number]>()
    for (const row of heirs) {
      const key = `${row.appliance}/${row.volume}`
      if (row.n > (newest.get(key)?.n ?? 0)) newest.set(key, row)
    }
    return [...newest.values()].map(({ n: _n, ...row }) => {
      const { tolerate, maxAgeMs, reached, retired } = this.of(row)
      return { ...row, tolerate, maxAgeMs, target: tolerate ?? reached, retired: retired === 1 }
    })
  }

  /** Of the fleet without `id`. A number of hosts that a person names, or leaves to imager, ends what was reached before. */
  set(id: VolumeId | null, policy: Partial<Policy>): void {
    this.#decide(id, policy)
    // What was decided of it under a former host would stand beside that.
    const over = {
      ...(policy.tolerate !== undefined && { tolerate: null }),
      ...(policy.maxAgeMs !== undefined && { maxAgeMs: null }),
    }
    for (const one of id ? this.#former(id) : []) if (this.#stored(one) !== NOTHING) this.#decide(one, over)
  }

  #decide(id: VolumeId | null, { tolerate, maxAgeMs }: Partial<Policy>): void {
    const { appliance, volume } = id ?? FLEET
    const row = this.#stored({ appliance, volume })
    const kept = {
      tolerate: tolerate === undefined ? row.tolerate : tolerate,
      reached: tolerate === undefined ? row.reached : 0,
    }
    this.#write({ appliance, volume }, { ...row, ...kept, maxAgeMs: maxAgeMs === undefined ? row.maxAgeMs : maxAgeMs })
  }

  /** A snapshot was made for so many; only one for which a person named the number lowers it. */
  reach(id: VolumeId, tolerate: number, asked: boolean): void {
    const row = this.#stored(id)
    const reached = asked ? tolerate : Math.max(row.reached, tolerate)
    if (reached !== row.reached) this.#write(id, { ...row, reached })
  }

  /** What its volumes reached, and whether they are retired, holds for who took its place. What a person decided is signed, and stays. */
  inherit(former: Hex, heir: Hex): void {
    const rows = this.#db
      .prepare<[Hex], { volume: Hex }>('SELECT volume FROM sound_volume WHERE appliance = ?')
      .all(former)
    for (const { volume } of rows) {
      const { reached, retired } = this.#stored({ appliance: former, volume })
      const own = this.#stored({ appliance: heir, volume })
      this.#write({ appliance: heir, volume }, { ...own, reached: Math.max(own.reached, reached), retired })
    }
  }

  retire(id: VolumeId, retired: boolean): void {
    this.#write(id, { ...this.#stored(id), retired: retired ? 1 : 0 })
  }

  #stored({ appliance, volume }: VolumeId): Stored {
    return this.#row.get(appliance, volume) ?? NOTHING
  }

  /** What stays as it was does not end what was reached. */
  #changed(before: Policy, { tolerate, maxAgeMs }: Policy): Partial<Policy> {
    return { maxAgeMs, ...(tolerate === before.tolerate ? {} : { tolerate }) }
  }

  #write(id: VolumeId, row: Stored): void {
    this.#db
      .prepare(`INSERT INTO volume (appliance, volume, tolerate, maxAgeMs, reached, retired)
        VALUES (@appliance, @volume, @tolerate, @maxAgeMs, @reached, @retired) ON CONFLICT DO UPDATE SET
        tolerate = excluded.tolerate, maxAgeMs = excluded.maxAgeMs, reached = excluded.reached, retired = excluded.retired`)
      .run({ ...id, ...row })
  }
}
