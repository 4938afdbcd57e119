/**
 * The database of a coordinator's state folder, `catalog.db`: the records, from which everything is answered, and what
 * of the signature repository is in no segment yet. Write-ahead log, every commit synced. `user_version` is the format: one of
 * another is refused, never touched.
 */
import { chmodSync, closeSync, existsSync, openSync, readFileSync, readSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import type Database from 'better-sqlite3'
import { hasCode, ImagerError } from '../base/errors.js'
import { SignatureIndex } from '../native.js'
import { CHAIN_SCHEMA } from './chain.js'
import { CHECKSUM_SCHEMA, defineChecksum, findSchemaFlaw, notedFormat, sumAll, useChecksums } from './checksums.js'
import { BUSY_MS, Guard, type GuardedDatabase, guarded } from './guard.js'
import { Sqlite } from './sqlite.js'
import { HEADER_BYTES, headerFlaw, logFlaw } from './sqlite-files.js'

/** Until 0.2.0 is released a catalog of another build is not read: `imager recover` makes it anew. */
export const FORMAT = 1

const CACHE_KIB = 128 * 1024
/**
 * Pages of 4 KiB in the write-ahead log before SQLite copies them into the database. With 64 MiB a page that changed
 * several times is copied once.
 */
const CHECKPOINT_PAGES = 16_384
/**
 * Shards name their host by `host.n`, so a host that was expelled stays as a row (`member` = 0); stripes hold the number of
 * their run (`run.n`, `runs.ts`). Ids that people meet are text, those that come in thousands are blobs.
 *
 * A shard without a row in `evidence` is where its stripe's commit put it: with a `receipt` its host says so, without one it was
 * only seen there. What is known beyond that has a row; `by` is who found out. `volume` has what a person decided of one; the row without a name is the fleet's. A host's
 * `suspect` says why its store is not believed; `arrived` is this catalog's time of a `finish`. `holders` of a stripe are the
 * hosts of its good shards, and `unsigned` those of them whose word for it is not here, so that a snapshot's figure takes one row a stripe.
 * A receipt in `shard` is of the `store` that its host has. `delivery` is which version of a document a peer
 * took, or refused and why; `count` is how often an event was met within a minute. `record`: how long the records of a stripe
 * are, u32 LE each. `complaint`: who found that a stripe does not hold what it is said to; `by` is empty for who looks after the
 * fleet. `rows` of `young` are as segments have them (docs/formats/segment.md); what is no `segment` here is none.
 */
const SCHEMA = `
CREATE TABLE host (
  n INTEGER PRIMARY KEY, host TEXT NOT NULL UNIQUE, sealing TEXT NOT NULL, name TEXT NOT NULL, role TEXT NOT NULL,
  domain TEXT NOT NULL, addresses TEXT NOT NULL, member INTEGER NOT NULL DEFAULT 1, admitted INTEGER NOT NULL,
  lastSeen INTEGER NOT NULL DEFAULT 0, seenMs INTEGER NOT NULL DEFAULT 0, freeBytes INTEGER NOT NULL DEFAULT 0,
  usedBytes INTEGER NOT NULL DEFAULT 0, capacityBytes INTEGER NOT NULL DEFAULT 0, storage TEXT NOT NULL DEFAULT '',
  clockSkewMs INTEGER, suspect TEXT NOT NULL DEFAULT '',
  store TEXT NOT NULL DEFAULT '', storeSequence INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE run (n INTEGER PRIMARY KEY, name BLOB NOT NULL UNIQUE) STRICT;
CREATE TABLE lease (
  lease TEXT PRIMARY KEY, run INTEGER NOT NULL REFERENCES run, appliance TEXT NOT NULL, volume TEXT NOT NULL,
  source TEXT NOT NULL, label TEXT NOT NULL, snapshot TEXT NOT NULL, sequence INTEGER NOT NULL, parent TEXT,
  started INTEGER NOT NULL, state TEXT NOT NULL CHECK (state IN ('open', 'finished', 'fenced')), ended INTEGER, failure TEXT
) STRICT;
CREATE INDEX leaseOfVolume ON lease (appliance, volume, sequence);
CREATE TABLE stripe (
  stripe INTEGER PRIMARY KEY, k INTEGER NOT NULL, m INTEGER NOT NULL, packBytes INTEGER NOT NULL, writer TEXT NOT NULL,
  lease TEXT, committed INTEGER NOT NULL DEFAULT 0, survives INTEGER NOT NULL DEFAULT -1, holders TEXT NOT NULL DEFAULT '',
  unsigned TEXT NOT NULL DEFAULT '', proved INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX weakStripe ON stripe (stripe) WHERE committed = 1 AND survives < m;
CREATE INDEX openStripe ON stripe (lease) WHERE committed = 0;
CREATE TABLE shard (
  stripe INTEGER NOT NULL REFERENCES stripe ON DELETE CASCADE, position INTEGER NOT NULL,
  host INTEGER NOT NULL REFERENCES host, shard BLOB NOT NULL, root BLOB, receipt BLOB,
  PRIMARY KEY (stripe, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX shardOfHost ON shard (host, shard);
CREATE INDEX unreceipted ON shard (host) WHERE receipt IS NULL;
CREATE TABLE evidence (
  stripe INTEGER NOT NULL REFERENCES stripe ON DELETE CASCADE, position INTEGER NOT NULL,
  fact TEXT NOT NULL CHECK (fact IN ('present', 'proved', 'missing', 'corrupt', 'stale', 'wrong length')),
  time INTEGER NOT NULL, by TEXT NOT NULL,
  PRIMARY KEY (stripe, position)
) STRICT, WITHOUT ROWID;
CREATE TABLE complaint (
  stripe INTEGER NOT NULL REFERENCES stripe ON DELETE CASCADE, by TEXT NOT NULL, time INTEGER NOT NULL,
  PRIMARY KEY (stripe, by)
) STRICT, WITHOUT ROWID;
CREATE TABLE record (stripe INTEGER PRIMARY KEY REFERENCES stripe ON DELETE CASCADE, lengths BLOB NOT NULL) STRICT;
CREATE TABLE snapshot (
  n INTEGER PRIMARY KEY, id TEXT NOT NULL, appliance TEXT NOT NULL, volume TEXT NOT NULL, source TEXT NOT NULL,
  label TEXT NOT NULL, sequence INTEGER NOT NULL, parent TEXT, time INTEGER NOT NULL, arrived INTEGER NOT NULL,
  head BLOB NOT NULL, stripes BLOB NOT NULL, summary TEXT NOT NULL, figure TEXT, UNIQUE (appliance, id)
) STRICT;
CREATE INDEX snapshotOfVolume ON snapshot (appliance, volume, sequence);
CREATE TABLE volume (
  appliance TEXT NOT NULL, volume TEXT NOT NULL, tolerate INTEGER, maxAgeMs INTEGER, reached INTEGER NOT NULL DEFAULT 0,
  retired INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (appliance, volume)
) STRICT, WITHOUT ROWID;
CREATE TABLE token (
  id TEXT PRIMARY KEY, voucher BLOB NOT NULL, role TEXT NOT NULL, expires INTEGER NOT NULL, spentBy TEXT
) STRICT;
CREATE TABLE document (
  kind TEXT NOT NULL, name TEXT NOT NULL, sequence INTEGER NOT NULL, bytes BLOB NOT NULL, PRIMARY KEY (kind, name)
) STRICT;
CREATE TABLE delivery (
  host TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, version TEXT NOT NULL, due INTEGER NOT NULL, refused TEXT,
  PRIMARY KEY (host, kind, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE event (
  n INTEGER PRIMARY KEY, time INTEGER NOT NULL, kind TEXT NOT NULL, host TEXT NOT NULL, sentence TEXT NOT NULL,
  count INTEGER NOT NULL DEFAULT 1
) STRICT;
CREATE INDEX eventOfKind ON event (kind);
CREATE INDEX eventSaid ON event (kind, sentence);
CREATE TABLE young (n INTEGER PRIMARY KEY AUTOINCREMENT, rows BLOB NOT NULL) STRICT;
CREATE TABLE segment (n INTEGER PRIMARY KEY, rows INTEGER NOT NULL) STRICT;
`

/**
 * Opens or creates it, readable by its owner only. Where the disk has no room for what SQLite shares between processes, it is
 * opened for this one alone, and for reading. Throws STATE_DAMAGED, COORDINATOR_READ_ONLY, UNSUPPORTED; `peer` is for the line
 * to type in the first.
 */
export function openDatabase(path: string, peer?: string, waitMs = BUSY_MS): GuardedDatabase {
  const guard = new Guard(path, peer)
  requireWhole(guard)
  try {
    return connect(guard, false, waitMs)
  } catch (error) {
    if (!hasCode(error, 'COORDINATOR_READ_ONLY') || !existsSync(path)) throw error
    try {
      return connect(guard, true, 0)
    } catch {
      throw error
    }
  }
}

/** As far as SQLite would not notice. */
function requireWhole(guard: Guard): void {
  const { path } = guard
  if (!existsSync(path) || statSync(path).size === 0) return
  const header = Buffer.alloc(HEADER_BYTES)
  const file = openSync(path, 'r')
  try {
    readSync(file, header, 0, HEADER_BYTES, 0)
  } finally {
    closeSync(file)
  }
  const flaw = headerFlaw(header, statSync(path).size)
  if (flaw) throw guard.damaged(flaw)
  requireWholeLog(guard)
}

/** Nobody else has it open, or he looked at it, and writes to it. */
function requireWholeLog(guard: Guard): void {
  const log = `${guard.path}-wal`
  const lock = lockCatalog(dirname(guard.path))
  if (!lock) return
  try {
    const flaw = existsSync(log) ? logFlaw(readFileSync(log)) : undefined
    if (flaw) throw guard.damaged(flaw, log)
  } finally {
    lock.release()
  }
}

/** For a coordinator that writes, or a recovery that makes the catalog anew: one at a time. Undefined while another has it. */
export function lockCatalog(folder: string): { release(): void } | undefined {
  const index = new SignatureIndex(folder, 0)
  return index.lock() ? { release: () => index.unlock() } : undefined
}

function connect(guard: Guard, alone: boolean, waitMs: number): GuardedDatabase {
  const { path } = guard
  let db: Database.Database | undefined
  try {
    const isNew = !existsSync(path)
    db = new Sqlite(path, { timeout: waitMs })
    if (isNew) chmodSync(path, 0o600)
    if (alone) db.pragma('locking_mode = EXCLUSIVE')
    db.pragma('journal_mode = WAL')
    db.pragma('synchronous = FULL')
    db.pragma('foreign_keys = ON')
    db.pragma('temp_store = MEMORY')
    db.pragma(`cache_size = -${CACHE_KIB}`)
    db.pragma(`wal_autocheckpoint = ${CHECKPOINT_PAGES}`)
    defineChecksum(db)
    prepareFormat(db, guard)
    useChecksums(db, (table) => {
      const error = guard.damaged(`a row of the table ${table} does not match its checksum`)
      // Without the lengths of its records a stripe is asked by signature: nothing is lost.
      if (table !== 'record') guard.distrust(error, [])
      throw error
    })
    guard.isAlone = alone
    return guarded(db, guard)
  } catch (error) {
    db?.close()
    throw guard.translate(error)
  }
}

/** The format is noted twice: a number that changed by itself must not have an upgrade run, or a whole catalog refused. */
function prepareFormat(db: Database.Database, guard: Guard): void {
  const format = Number(db.pragma('user_version', { simple: true }))
  const noted = notedFormat(db)
  if (noted !== undefined && noted !== format) throw guard.damaged(`its format is noted as ${noted} and as ${format}`)
  if (format === FORMAT) {
    const flaw = noted === undefined ? 'the table checksum is gone' : findSchemaFlaw(db)
    if (flaw) throw guard.damaged(flaw)
    return
  }
  if (format !== 0) {
    throw new ImagerError('UNSUPPORTED', { what: `The catalog ${guard.path} has format ${format}` })
  }
  if (db.prepare('SELECT 1 FROM sqlite_schema').get() !== undefined) throw guard.damaged('its format is noted as 0')
  db.transaction(() => create(db)).immediate()
}

function create(db: Database.Database): void {
  // Another process may have been faster.
  if (Number(db.pragma('user_version', { simple: true })) === FORMAT) return
  db.exec(SCHEMA)
  db.exec(CHAIN_SCHEMA)
  db.exec(CHECKSUM_SCHEMA)
  db.pragma(`user_version = ${FORMAT}`)
  sumAll(db)
}
