/**
 * Shards as a recovery finds them, host by host, in a database file of their own so that memory does not grow with the
 * fleet; read back stripe by stripe. What is found says itself where it belongs, signed by its writer: two shards are of one
 * stripe only where all of that agrees.
 */
import { rmSync } from 'node:fs'
import type Database from 'better-sqlite3'
import type { Hex } from '../../base/ids.js'
import { Sqlite } from '../../catalog/sqlite.js'
import type { StripeRow } from '../../catalog/types.js'
import type { StripeFacts } from '../../native.js'
import { type RunsHandle, shardOf, stripeOf } from '../../stripes/names.js'

export interface FoundShard {
  readonly facts: StripeFacts
  readonly index: number
  readonly host: Hex
}

export interface FoundStripe extends StripeRow {
  readonly facts: StripeFacts
}

/** It is made anew at each recovery: nothing in it must survive a crash. */
const SCHEMA = `
PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;
CREATE TABLE host (n INTEGER PRIMARY KEY, host TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE descriptor (n INTEGER PRIMARY KEY, stripe INTEGER NOT NULL, packBytes INTEGER NOT NULL, facts TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE shard (
  descriptor INTEGER NOT NULL, position INTEGER NOT NULL, host INTEGER NOT NULL, PRIMARY KEY (descriptor, position)
) STRICT, WITHOUT ROWID;
`

interface Stored {
  n: number
  stripe: number
  facts: string
  position: number
  host: Hex
}

export class FoundShards {
  readonly #db: Database.Database
  readonly #path: string
  readonly #names: RunsHandle

  /** Replaces whatever lies at `path`. `names` learns the runs that are found. */
  constructor(path: string, names: RunsHandle) {
    rmSync(path, { force: true })
    this.#path = path
    this.#names = names
    this.#db = new Sqlite(path)
    this.#db.exec(SCHEMA)
  }

  /** Of copies of one shard the first stays. */
  add(shards: readonly FoundShard[]): void {
    const addHost = this.#db.prepare('INSERT OR IGNORE INTO host (host) VALUES (?)')
    const describe = this.#db.prepare('INSERT OR IGNORE INTO descriptor (stripe, packBytes, facts) VALUES (?, ?, ?)')
    const add = this.#db.prepare(`INSERT OR IGNORE INTO shard VALUES ((SELECT n FROM descriptor WHERE facts = ?), ?,
      (SELECT n FROM host WHERE host = ?))`)
    this.#db.transaction(() => {
      for (const { facts, index, host } of shards) {
        const text = JSON.stringify({ ...facts, run: facts.run.toString('hex') })
        addHost.run(host)
        describe.run(stripeOf(this.#names.number(facts.run), facts.number), facts.packBytes, text)
        add.run(text, index, host)
      }
    })()
  }

  get totalPackBytes(): number {
    return this.#db.prepare<[], number | null>('SELECT sum(packBytes) FROM descriptor').pluck().get() ?? 0
  }

  /** Ascending. Where one was described in two ways, both come, one after the other. */
  *stripes(): Generator<FoundStripe> {
    const rows = this.#db
      .prepare<[], Stored>(`SELECT descriptor.n AS n, stripe, facts, position, host.host AS host FROM descriptor
        JOIN shard ON shard.descriptor = descriptor.n JOIN host ON host.n = shard.host
        ORDER BY stripe, descriptor.n, position`)
      .iterate()
    let open: (FoundStripe & { n: number }) | undefined
    for (const { n, stripe, facts: text, position, host } of rows) {
      if (open?.n !== n) {
        if (open) yield open
        open = { n, ...rowOf(stripe, text) }
      }
      const { facts } = open
      const shard = shardOf(facts.run, facts.number, position)
      open.shards.push({ index: position, host, shard, root: facts.roots[position] as Hex })
    }
    if (open) yield open
  }

  /** Nothing of it stays. */
  close(): void {
    this.#db.close()
    rmSync(this.#path, { force: true })
  }
}

function rowOf(stripe: number, text: string): FoundStripe {
  const { run, ...rest } = JSON.parse(text) as StripeFacts & { run: string }
  const { k, m, packBytes } = rest
  return { facts: { ...rest, run: Buffer.from(run, 'hex') }, stripe, k, m, packBytes, shards: [] }
}
