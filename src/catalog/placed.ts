/**
 * How many bytes of good shards each host was given, in its row of the master file: a host whose store says that it holds
 * less has lost some, or is another store. Kept with each commit, as counting them reads every shard's row.
 */
import type Database from 'better-sqlite3'
import type { Hex } from '../base/ids.js'
import { shardFileBytes } from '../native.js'

type Shape = Readonly<{ packBytes: number; k: number }>

export class Placed {
  readonly #add: Database.Statement<[number, Hex]>
  readonly #clear: Database.Statement<[Hex | null]>
  readonly #count: Database.Statement<[Hex | null]>
  /** What is written at the end of `together`. */
  #sums: Map<Hex, number> | undefined

  constructor(db: Database.Database) {
    db.function('fileBytes', { deterministic: true }, (packBytes, k) => shardFileBytes(Number(packBytes), Number(k)))
    this.#add = db.prepare('UPDATE host SET placedBytes = placedBytes + ? WHERE host = ?')
    this.#clear = db.prepare('UPDATE host SET placedBytes = 0 WHERE host = coalesce(?, host)')
    this.#count = db.prepare(`UPDATE host SET placedBytes = held.bytes FROM
      (SELECT shard.host AS n, sum(fileBytes(packBytes, k)) AS bytes FROM shard JOIN stripe USING (stripe)
        LEFT JOIN evidence USING (stripe, position) WHERE committed AND coalesce(fact, 'proved') = 'proved' GROUP BY n) AS held
      WHERE host.n = held.n AND host.host = coalesce(?, host.host)`)
  }

  /** Good shards of a stripe are on these hosts, one each. */
  add(hosts: readonly Hex[], { packBytes, k }: Shape): void {
    for (const host of hosts) this.#change(host, shardFileBytes(packBytes, k))
  }

  /** They are not, any more. */
  take(hosts: readonly Hex[], { packBytes, k }: Shape): void {
    for (const host of hosts) this.#change(host, -shardFileBytes(packBytes, k))
  }

  /** Many stripes in one transaction: each host's row is written once. */
  together(work: () => void): void {
    const sums = new Map<Hex, number>()
    this.#sums = sums
    try {
      work()
    } finally {
      this.#sums = undefined
    }
    for (const [host, bytes] of sums) this.#add.run(bytes, host)
  }

  #change(host: Hex, bytes: number): void {
    if (this.#sums) this.#sums.set(host, (this.#sums.get(host) ?? 0) + bytes)
    else this.#add.run(bytes, host)
  }

  /** The host's, or everybody's. Reads all shards' rows: some seconds for ten million. */
  count(host: Hex | null): void {
    this.#clear.run(host)
    this.#count.run(host)
  }
}
