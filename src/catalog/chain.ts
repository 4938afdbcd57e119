/**
 * The coordinator's own chain of checkpoints, and which heads each of them was the first to list. Only SQL; what is signed, and
 * what follows from what witnesses hold, is decided in `coordinator/chain.ts`. `n` counts the links as they came here, and goes
 * on where the chain was exchanged for a newer one.
 */
import type Database from 'better-sqlite3'
import type { Hex } from '../base/ids.js'
import { LINKS } from '../base/limits.js'
import type { Checkpoint } from '../keys/checkpoint.js'
import { encodeHeadId, type HeadId } from '../keys/head-set.js'
import { Statements } from './statements.js'

export const CHAIN_SCHEMA = `
CREATE TABLE checkpoint (n INTEGER PRIMARY KEY, hash TEXT NOT NULL, bytes BLOB NOT NULL, quorum INTEGER NOT NULL DEFAULT 0) STRICT;
CREATE TABLE cosignature (
  n INTEGER NOT NULL REFERENCES checkpoint ON DELETE CASCADE, witness TEXT NOT NULL, bytes BLOB NOT NULL,
  PRIMARY KEY (n, witness)
) STRICT, WITHOUT ROWID;
CREATE TABLE listed (
  appliance TEXT NOT NULL, snapshot TEXT NOT NULL, n INTEGER NOT NULL, PRIMARY KEY (appliance, snapshot)
) STRICT, WITHOUT ROWID;
CREATE INDEX listedBy ON listed (n);
`

export interface StoredLink {
  readonly n: number
  readonly hash: Hex
  readonly bytes: Buffer
  /** A quorum of witnesses has cosigned it. */
  readonly quorum: 0 | 1
}

/** Heads that no checkpoint lists yet. */
const UNLISTED = 0

export class ChainStore {
  readonly #statements: Statements
  /** All snapshots up to this `snapshot.n` are listed. */
  #through = 0

  constructor(db: Database.Database) {
    this.#statements = new Statements(db)
  }

  tip(): StoredLink | undefined {
    return this.#statements.prepare<[], StoredLink>('SELECT * FROM sound_checkpoint ORDER BY n DESC LIMIT 1').get()
  }

  /** The last one that a quorum cosigned. */
  cosigned(): StoredLink | undefined {
    return this.#statements
      .prepare<[], StoredLink>('SELECT * FROM sound_checkpoint WHERE quorum = 1 ORDER BY n DESC LIMIT 1')
      .get()
  }

  /** Those after `n`, oldest first. */
  links(n = 0): StoredLink[] {
    return this.#statements
      .prepare<[number], StoredLink>('SELECT * FROM sound_checkpoint WHERE n > ? ORDER BY n')
      .all(n)
  }

  /** The next link. What no checkpoint listed is listed by this one. */
  append({ hash, bytes }: Pick<Checkpoint, 'hash' | 'bytes'>): void {
    const n = this.#insert(hash, bytes)
    this.#statements
      .prepare(`INSERT OR REPLACE INTO listed
      SELECT appliance, id, ${UNLISTED} FROM snapshot WHERE n > ? AND NOT EXISTS
      (SELECT 1 FROM listed WHERE listed.appliance = snapshot.appliance AND listed.snapshot = id)`)
      .run(this.#through)
    this.#statements.prepare(`UPDATE listed SET n = ? WHERE n = ${UNLISTED}`).run(n)
    this.#prune(n)
  }

  /** These links, oldest first, take the place of all. `listed` are the heads of the last of them. */
  exchange(links: readonly Pick<Checkpoint, 'hash' | 'bytes'>[], listed: readonly HeadId[]): void {
    const last = (this.tip()?.n ?? 0) + links.length
    for (const { hash, bytes } of links) this.#insert(hash, bytes)
    this.#statements.prepare('DELETE FROM checkpoint WHERE n <= ?').run(last - links.length)
    this.#statements.prepare(`UPDATE listed SET n = ${UNLISTED}`).run()
    this.#list(listed, last)
  }

  /** Heads that somebody knows of: the next checkpoint lists them. */
  find(ids: readonly HeadId[]): void {
    const known = this.#statements.prepare(`INSERT OR IGNORE INTO listed VALUES (?, ?, ${UNLISTED})`)
    for (const { appliance, snapshot } of ids) known.run(appliance, snapshot)
  }

  /** What the tip lists, and with `n` only what came after that link; back to back. */
  heads(n = 0): Buffer {
    return encode(
      this.#statements
        .prepare<[number], HeadId>('SELECT appliance, snapshot FROM sound_listed WHERE n > ? ORDER BY n')
        .all(n),
    )
  }

  /** What the next checkpoint is to list and the tip does not. */
  unlisted(): Buffer {
    const found = this.#statements
      .prepare<[], HeadId>(`SELECT appliance, snapshot FROM sound_listed WHERE n = ${UNLISTED}`)
      .all()
    const finished = this.#statements
      .prepare<
        [number],
        HeadId & { n: number }
      >(`SELECT n, appliance, id AS snapshot FROM snapshot WHERE n > ? AND NOT EXISTS
        (SELECT 1 FROM listed WHERE listed.appliance = snapshot.appliance AND listed.snapshot = id)`)
      .all(this.#through)
    if (finished.length === 0) this.#through = this.#newest()
    return encode([...found, ...finished])
  }

  /** Heads that were listed, and of which nothing is known here but the name. */
  missing(): HeadId[] {
    return this.#statements
      .prepare<[], HeadId>(`SELECT appliance, snapshot FROM sound_listed AS listed WHERE NOT EXISTS
        (SELECT 1 FROM snapshot WHERE id = listed.snapshot AND snapshot.appliance = listed.appliance)`)
      .all()
  }

  /** Is it listed by that link, or one before? */
  isListed({ appliance, snapshot }: HeadId, n: number): boolean {
    const row = this.#statements
      .prepare<[Hex, Hex, number], number>(
        `SELECT 1 FROM sound_listed WHERE appliance = ? AND snapshot = ? AND n > ${UNLISTED} AND n <= ?`,
      )
      .pluck()
    return row.get(appliance, snapshot, n) !== undefined
  }

  keepCosignature(n: number, witness: Hex, bytes: Uint8Array): void {
    this.#statements
      .prepare(`INSERT OR REPLACE INTO cosignature SELECT n, ?, ? FROM checkpoint WHERE n = ?`)
      .run(witness, bytes, n)
  }

  noteQuorum(n: number): void {
    this.#statements.prepare('UPDATE checkpoint SET quorum = 1 WHERE n = ? AND quorum = 0').run(n)
    this.#statements
      .prepare(`DELETE FROM cosignature WHERE n < ? AND n <
        (SELECT max(n) FROM cosignature AS other WHERE other.witness = cosignature.witness)`)
      .run(n)
  }

  cosignatures(n: number): Map<Hex, Buffer> {
    const rows = this.#statements
      .prepare<[number], { witness: Hex; bytes: Buffer }>('SELECT witness, bytes FROM sound_cosignature WHERE n = ?')
      .all(n)
    return new Map(rows.map(({ witness, bytes }) => [witness, bytes]))
  }

  /** The last link that each witness is known to have cosigned. */
  positions(): Map<Hex, number> {
    const rows = this.#statements
      .prepare<[], { witness: Hex; n: number }>('SELECT witness, max(n) AS n FROM sound_cosignature GROUP BY witness')
      .all()
    return new Map(rows.map(({ witness, n }) => [witness, n]))
  }

  #newest(): number {
    return this.#statements.prepare<[], number | null>('SELECT max(n) FROM snapshot').pluck().get() ?? 0
  }

  #insert(hash: Hex, bytes: Buffer): number {
    const n = (this.tip()?.n ?? 0) + 1
    this.#statements.prepare('INSERT INTO checkpoint (n, hash, bytes) VALUES (?, ?, ?)').run(n, hash, bytes)
    return n
  }

  #list(ids: readonly HeadId[], n: number): void {
    const list = this.#statements.prepare('INSERT OR REPLACE INTO listed VALUES (?, ?, ?)')
    for (const { appliance, snapshot } of ids) list.run(appliance, snapshot, n)
  }

  /** The last ones stay, and the last that a quorum cosigned: it stands in for those before. */
  #prune(n: number): void {
    const oldest = Math.min(n - LINKS + 1, this.cosigned()?.n ?? n)
    this.#statements.prepare('DELETE FROM checkpoint WHERE n < ?').run(oldest)
  }
}

function encode(ids: readonly HeadId[]): Buffer {
  return Buffer.concat(ids.map(encodeHeadId))
}
