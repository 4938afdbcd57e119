/**
 * What each host's store should hold, in buckets (`stripes/buckets.ts`), against what it says that it holds: where they differ it is to be
 * listed, bucket by bucket. In memory, 3 KiB a host, made of the shards' rows when it is first asked for, and changed with them.
 */
import type Database from 'better-sqlite3'
import type { Hex } from '../base/ids.js'
import { shardFileBytes } from '../native.js'
import { Buckets } from '../stripes/buckets.js'
import type { StoreState } from './stores.js'
import type { Fact } from './types.js'

export interface ExpectedShard {
  readonly stripe: number
  readonly shard: Buffer
  readonly lengthBytes: number
  readonly fact: Fact | null
}

/** Buckets to be listed, with how many shards the host says are in each. */
export type Differing = ReadonlyMap<number, number>

export class Stock {
  readonly #db: Database.Database
  #own: Map<Hex, Buckets> | undefined
  /** Of the database that `#own` reflects; own commits do not change it. */
  #version: unknown
  /** What was listed and is in no committed stripe: runs that go on, or came to nothing. */
  readonly #extra = new Map<Hex, Buckets>()
  readonly #differing = new Map<Hex, Differing>()
  readonly #wanted = new Set<Hex>()

  constructor(db: Database.Database) {
    this.#db = db
  }

  /** A good or doubtful shard is in the catalog from now on, or not any more: all but missing ones are expected. */
  change(host: Hex, shard: Uint8Array, by: 1 | -1): void {
    if (this.#own) this.#of(host).change(shard, by)
  }

  /** A transaction was taken back, or many rows changed at once. */
  forget(): void {
    this.#own = undefined
  }

  /** True where the host holds what it should; else its buckets are wanted, or, where they came, are to be listed. */
  hear(host: Hex, { shards, buckets }: StoreState): boolean {
    const expected = this.#expectedOf(host)
    this.#wanted.delete(host)
    if (shards === expected.root) {
      this.#differing.delete(host)
      return true
    }
    if (!buckets) {
      this.#wanted.add(host)
      return false
    }
    const said = Buckets.decode(Buffer.from(buckets, 'base64'))
    const differing = said.differing(expected)
    this.#differing.set(host, new Map(differing.map((bucket) => [bucket, said.count(bucket)])))
    return differing.length === 0
  }

  /** Is the host to say its buckets? */
  wants(host: Hex): boolean {
    return this.#wanted.has(host)
  }

  /** What is to be listed, once: it is said again with the next heartbeat as long as it differs. */
  takeDiffering(): Map<Hex, Differing> {
    const taken = new Map([...this.#differing].filter(([, buckets]) => buckets.size > 0))
    this.#differing.clear()
    return taken
  }

  /** What should be there, missing ones too, to be read before the host is asked. */
  expected(host: Hex, bucket: number): ExpectedShard[] {
    const first = Buffer.from([bucket])
    const next = bucket === 255 ? Buffer.alloc(17, 0xff) : Buffer.from([bucket + 1])
    return this.#db
      .prepare<[Hex, Buffer, Buffer], Omit<ExpectedShard, 'lengthBytes'> & { packBytes: number; k: number }>(
        `SELECT shard.stripe AS stripe, shard, packBytes, k, fact FROM shard JOIN stripe USING (stripe)
        LEFT JOIN evidence USING (stripe, position)
        WHERE shard.host = (SELECT n FROM host WHERE host = ?) AND shard >= ? AND shard < ? AND committed`,
      )
      .all(host, first, next)
      .map(({ packBytes, k, ...row }) => ({ ...row, lengthBytes: shardFileBytes(packBytes, k) }))
  }

  /** What else was listed there. */
  noteExtra(host: Hex, bucket: number, shards: readonly Buffer[]): void {
    const extra = this.#extra.get(host) ?? new Buckets()
    this.#extra.set(host, extra)
    extra.clear(bucket)
    for (const shard of shards) extra.change(shard, 1)
  }

  #expectedOf(host: Hex): Buckets {
    const extra = this.#extra.get(host)
    this.#refresh()
    return extra ? this.#of(host).plus(extra) : this.#of(host)
  }

  #of(host: Hex): Buckets {
    this.#own ??= this.#count()
    const own = this.#own
    const known = own.get(host) ?? new Buckets()
    own.set(host, known)
    return known
  }

  /** Another process, a command on this host, may have found something out. */
  #refresh(): void {
    const version = this.#db.pragma('data_version', { simple: true })
    if (version !== this.#version) this.forget()
    this.#version = version
  }

  #count(): Map<Hex, Buckets> {
    const numbers = this.#db.prepare<[], { n: number; host: Hex }>('SELECT n, host FROM host').all()
    const own = new Map(numbers.map(({ n }) => [n, new Buckets()]))
    const rows = this.#db
      .prepare<[], [number, Buffer]>(
        `SELECT shard.host, shard FROM shard JOIN stripe USING (stripe) LEFT JOIN evidence USING (stripe, position)
        WHERE committed AND (fact IS NULL OR fact != 'missing')`,
      )
      .raw()
    for (const [n, shard] of rows.iterate()) own.get(n)?.change(shard, 1)
    return new Map(numbers.map(({ n, host }) => [host, own.get(n) as Buckets]))
  }
}
