/**
 * What was found out about shards after their stripe's commit, by `check`, restores, mounts and heartbeats. A shard without
 * a row is where the commit put it, `receipted` where its host signed that, else `placed`. A bad fact takes the shard out of every figure (`survives`, lookup, status); it goes when
 * the shard was seen whole again. Only SQL and the rule which word counts against which.
 */
import type Database from 'better-sqlite3'
import type { Hex } from '../base/ids.js'
import type { Stock } from './stock.js'
import { isGood } from './stripes.js'
import type { Turned } from './tidings.js'
import type { Finding } from './types.js'

/** Found by a heartbeat: the host's store is not the one in which the shard was placed. */
const STALE = 'stale'

interface Known {
  position: number
  host: Hex
  shard: Buffer
  writer: Hex
  fact: Finding['fact'] | null
  by: Hex | null
}

export interface Learnt {
  /** Of which something counts that was not known. */
  readonly stripes: ReadonlySet<number>
  /** Shards that count from now on, or do not any more. */
  readonly turned: readonly Turned[]
}

export class Evidence {
  readonly #stock: Stock
  readonly #known: Database.Statement<[number, Buffer], Known>
  readonly #void: Database.Statement<[number, number]>
  readonly #put: Database.Statement<[number, number, string, number, Hex]>
  readonly #drop: Database.Statement<[number, number]>
  readonly #doubt: Database.Statement<[{ host: Hex; now: number }]>
  readonly #believe: Database.Statement<[Hex]>
  readonly #of: Database.Statement<[Hex], number>

  constructor(db: Database.Database, stock: Stock) {
    this.#stock = stock
    this.#known = db.prepare(`SELECT position, host.host AS host, shard, writer, fact, by FROM sound_shard AS shard
      JOIN sound_host AS host ON host.n = shard.host JOIN sound_stripe USING (stripe)
      LEFT JOIN sound_evidence USING (stripe, position) WHERE stripe = ? AND shard = ?`)
    this.#void = db.prepare('UPDATE shard SET receipt = NULL WHERE stripe = ? AND position = ?')
    this.#put = db.prepare('INSERT OR REPLACE INTO evidence VALUES (?, ?, ?, ?, ?)')
    this.#drop = db.prepare('DELETE FROM evidence WHERE stripe = ? AND position = ?')
    this.#doubt = db.prepare(`INSERT INTO evidence SELECT stripe, position, '${STALE}', @now, @host
      FROM sound_shard AS shard JOIN sound_host AS host ON host.n = shard.host JOIN sound_stripe USING (stripe)
      WHERE host.host = @host AND committed
      ON CONFLICT DO UPDATE SET fact = '${STALE}', time = excluded.time, by = excluded.by WHERE fact = 'proved'`)
    this.#believe = db.prepare(`DELETE FROM evidence WHERE fact = '${STALE}' AND by = ?`)
    this.#of = db
      .prepare<[Hex], number>(`SELECT DISTINCT stripe FROM sound_shard AS shard
        JOIN sound_host AS host ON host.n = shard.host JOIN sound_stripe USING (stripe) WHERE host.host = ? AND committed`)
      .pluck()
  }

  /**
   * Of a shard that has moved since nothing is learnt. Anybody may say that a shard is bad; that
   * it is good again counts only from who found it bad, its stripe's writer, or one who is `trusted`.
   */
  learn(findings: readonly Finding[], by: Hex, trusted: boolean, now: number): Learnt {
    const stripes = new Set<number>()
    const turned: Turned[] = []
    for (const one of findings) {
      const learnt = this.#learn(one, by, trusted, now)
      if (learnt) stripes.add(one.stripe)
      turned.push(...(learnt ?? []))
    }
    return { stripes, turned }
  }

  /** What turned; undefined where the fact does not count. */
  #learn({ stripe, shard, fact }: Finding, by: Hex, trusted: boolean, now: number): Turned[] | undefined {
    const known = this.#known.get(stripe, Buffer.from(shard, 'hex'))
    if (!known) return undefined
    const { position } = known
    const wasGood = isGood(known.fact)
    if (fact !== 'present' && fact !== 'proved') {
      this.#put.run(stripe, position, fact, now, by)
      this.#expect(known, fact)
      // Where it comes back, it is to be read before it counts as it did.
      if (trusted && fact === 'missing') this.#void.run(stripe, position)
      // Of a store that was doubted it is said what it lacks.
      return wasGood || known.fact === STALE ? [{ host: known.host, to: 'bad', fact }] : []
    }
    if (!wasGood && !trusted && by !== known.by && by !== known.writer) return undefined
    // Of bytes that were wrong, only reading them again says more.
    if (fact === 'present' && (wasGood || known.fact === 'corrupt')) return undefined
    if (fact === 'proved') this.#put.run(stripe, position, fact, now, by)
    else this.#drop.run(stripe, position)
    this.#expect(known, fact)
    return wasGood ? [] : [{ host: known.host, to: 'good', fact }]
  }

  /** All but what is missing is expected in its host's store. */
  #expect({ host, shard, fact: before }: Known, now: Finding['fact']): void {
    if (before !== 'missing' && now === 'missing') this.#stock.change(host, shard, -1)
    if (before === 'missing' && now !== 'missing') this.#stock.change(host, shard, 1)
  }

  /** All that the host holds is `stale` from now on. Gives the stripes that it holds a shard of. */
  doubt(host: Hex, now: number): number[] {
    this.#doubt.run({ host, now })
    return this.#of.all(host)
  }

  /** Takes `doubt` back. */
  believe(host: Hex): number[] {
    this.#believe.run(host)
    return this.#of.all(host)
  }
}
