/**
 * Shards as a recovery finds them, host by host, in a database file of their own so that memory does not grow with the
 * fleet; read back stripe by stripe. What is found says itself where it belongs, under its appliance's key: two shards
 * are of one stripe only where all of that agrees.
 */
import { rmSync } from 'node:fs'
import type Database from 'better-sqlite3'
import { fromHex, type Hex, toHex } from '../../base/ids.js'
import { Sqlite } from '../../catalog/sqlite.js'
import type { ShardRow, StripeRow } from '../../catalog/types.js'

export interface FoundShard extends Omit<StripeRow, 'shards'>, ShardRow {
  writer: Hex
}

export interface FoundStripe extends StripeRow {
  writer: Hex
}

/** It is made anew at each recovery: nothing in it must survive a crash. */
const SCHEMA = `
PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;
CREATE TABLE host (n INTEGER PRIMARY KEY, host TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE shard (
  stripe INTEGER NOT NULL, writer INTEGER NOT NULL, k INTEGER NOT NULL, m INTEGER NOT NULL, packBytes INTEGER NOT NULL,
  position INTEGER NOT NULL, host INTEGER NOT NULL, shard BLOB NOT NULL, root BLOB NOT NULL,
  PRIMARY KEY (stripe, writer, k, m, packBytes, position)
) STRICT, WITHOUT ROWID;
`

type Stored = Omit<FoundShard, 'shard' | 'root'> & { shard: Buffer; root: Buffer }

export class FoundShards {
  readonly #db: Database.Database
  readonly #path: string

  /** Replaces whatever lies at `path`. */
  constructor(path: string) {
    rmSync(path, { force: true })
    this.#path = path
    this.#db = new Sqlite(path)
    this.#db.exec(SCHEMA)
  }

  /** Of copies of one shard the first stays. */
  add(shards: readonly FoundShard[]): void {
    const host = this.#db.prepare('INSERT OR IGNORE INTO host (host) VALUES (?)')
    const shard = this.#db.prepare(`INSERT OR IGNORE INTO shard VALUES (@stripe,
      (SELECT n FROM host WHERE host = @writer), @k, @m, @packBytes, @index, (SELECT n FROM host WHERE host = @host),
      @id, @rootBytes)`)
    this.#db.transaction(() => {
      for (const one of shards) {
        for (const name of [one.writer, one.host]) host.run(name)
        shard.run({ ...one, id: fromHex(one.shard), rootBytes: fromHex(one.root) })
      }
    })()
  }

  get totalPackBytes(): number {
    const sum = this.#db.prepare<[], number | null>(
      'SELECT sum(packBytes) FROM (SELECT DISTINCT stripe, writer, k, m, packBytes FROM shard)',
    )
    return sum.pluck().get() ?? 0
  }

  /** Ascending. Where two claim one number, both come, one after the other. */
  *stripes(): Generator<FoundStripe> {
    const rows = this.#db
      .prepare<[], Stored>(`SELECT stripe, writer.host AS writer, k, m, packBytes, position AS "index",
        holder.host AS host, shard, root FROM shard JOIN host AS writer ON writer.n = shard.writer
        JOIN host AS holder ON holder.n = shard.host ORDER BY stripe, shard.writer, k, m, packBytes, position`)
      .iterate()
    let open: FoundStripe | undefined
    for (const { writer, stripe, k, m, packBytes, index, host, shard, root } of rows) {
      const shape = { writer, stripe, k, m, packBytes }
      if (!open || !isSame(open, shape)) {
        if (open) yield open
        open = { ...shape, shards: [] }
      }
      open.shards.push({ index, host, shard: toHex(shard), root: toHex(root) })
    }
    if (open) yield open
  }

  /** Nothing of it stays. */
  close(): void {
    this.#db.close()
    rmSync(this.#path, { force: true })
  }
}

function isSame(a: Omit<FoundStripe, 'shards'>, b: Omit<FoundStripe, 'shards'>): boolean {
  return a.stripe === b.stripe && a.writer === b.writer && a.k === b.k && a.m === b.m && a.packBytes === b.packBytes
}
