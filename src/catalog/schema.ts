/**
 * The two database files of a coordinator's state folder: `catalog.db` (the records, from which everything is answered)
 * and `signatures.db` (the signature repository, which can be rebuilt from stripes). Write-ahead log, every commit
 * synced. `user_version` is the format: a newer one is refused, never touched.
 */
import { chmodSync, existsSync } from 'node:fs'
import Database from 'better-sqlite3'
import { ImagerError, reason } from '../base/errors.js'

export const FORMAT = 1

/** Not mapped into memory: that measured no faster, and a bad disk would end the process instead of one request. */
const CACHE_KIB = 128 * 1024
/** Inserted keys are random, so every commit dirties as many pages as it has rows; a log of 64 MiB lets them meet before they are written back (measured: 1.7 times the inserts of the default 4 MiB). */
const CHECKPOINT_PAGES = 16_384
/** `recover` and a daemon may meet on one folder. */
const BUSY_MS = 5_000

/**
 * Shards name their host by `host.n`, so a host that was expelled stays as a row (`member` = 0). Ids that people meet are
 * text, those that come in thousands are blobs.
 */
export const RECORDS_SCHEMA = `
CREATE TABLE host (
  n INTEGER PRIMARY KEY, host TEXT NOT NULL UNIQUE, sealing TEXT NOT NULL, name TEXT NOT NULL, role TEXT NOT NULL,
  domain TEXT NOT NULL, addresses TEXT NOT NULL, member INTEGER NOT NULL DEFAULT 1, admitted INTEGER NOT NULL, lastSeen INTEGER NOT NULL DEFAULT 0,
  seenMs INTEGER NOT NULL DEFAULT 0, freeBytes INTEGER NOT NULL DEFAULT 0, usedBytes INTEGER NOT NULL DEFAULT 0,
  capacityBytes INTEGER NOT NULL DEFAULT 0, storage TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE TABLE lease (
  lease TEXT PRIMARY KEY, appliance TEXT NOT NULL, volume TEXT NOT NULL, source TEXT NOT NULL, label TEXT NOT NULL,
  snapshot TEXT NOT NULL, sequence INTEGER NOT NULL, parent TEXT, started INTEGER NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('open', 'finished', 'fenced'))
) STRICT;
CREATE INDEX leaseOfVolume ON lease (appliance, volume, sequence);
CREATE TABLE stripe (
  stripe INTEGER PRIMARY KEY AUTOINCREMENT, k INTEGER NOT NULL, m INTEGER NOT NULL, packBytes INTEGER NOT NULL,
  writer TEXT NOT NULL, lease TEXT, committed INTEGER NOT NULL DEFAULT 0, survives INTEGER NOT NULL DEFAULT -1,
  complete INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX openStripe ON stripe (lease) WHERE committed = 0;
CREATE TABLE shard (
  stripe INTEGER NOT NULL REFERENCES stripe ON DELETE CASCADE, position INTEGER NOT NULL,
  host INTEGER NOT NULL REFERENCES host, shard BLOB NOT NULL, root BLOB,
  PRIMARY KEY (stripe, position)
) STRICT, WITHOUT ROWID;
CREATE TABLE snapshot (
  n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, appliance TEXT NOT NULL, volume TEXT NOT NULL, source TEXT NOT NULL,
  label TEXT NOT NULL, sequence INTEGER NOT NULL, parent TEXT, time INTEGER NOT NULL, head BLOB NOT NULL,
  stripes BLOB NOT NULL, summary TEXT NOT NULL, survives INTEGER, state TEXT
) STRICT;
CREATE INDEX snapshotOfVolume ON snapshot (appliance, volume, sequence);
CREATE TABLE token (
  id TEXT PRIMARY KEY, secret BLOB NOT NULL, role TEXT NOT NULL, expires INTEGER NOT NULL, spentBy TEXT
) STRICT;
CREATE TABLE document (
  kind TEXT NOT NULL, name TEXT NOT NULL, sequence INTEGER NOT NULL, bytes BLOB NOT NULL, PRIMARY KEY (kind, name)
) STRICT;
CREATE TABLE event (n INTEGER PRIMARY KEY, time INTEGER NOT NULL, kind TEXT NOT NULL, host TEXT NOT NULL, sentence TEXT NOT NULL) STRICT;
`

/** Several live places of one id are allowed; readers take any. */
export const REPOSITORY_SCHEMA = `
CREATE TABLE signature (
  id BLOB NOT NULL, birth INTEGER NOT NULL, stripe INTEGER NOT NULL, offset INTEGER NOT NULL, length INTEGER NOT NULL,
  PRIMARY KEY (id, birth, stripe)
) STRICT, WITHOUT ROWID;
`

/** Opens or creates one of the two files, readable by its owner only. */
export function openDatabase(path: string, schema: string): Database.Database {
  let db: Database.Database | undefined
  try {
    const isNew = !existsSync(path)
    db = new Database(path, { timeout: BUSY_MS })
    if (isNew) chmodSync(path, 0o600)
    db.pragma('journal_mode = WAL')
    db.pragma('synchronous = FULL')
    db.pragma('foreign_keys = ON')
    db.pragma(`cache_size = -${CACHE_KIB}`)
    db.pragma(`wal_autocheckpoint = ${CHECKPOINT_PAGES}`)
    prepareFormat(db, path, schema)
    return db
  } catch (cause) {
    db?.close()
    if (cause instanceof ImagerError) throw cause
    const code = cause instanceof Database.SqliteError ? cause.code : ''
    const damaged = code === 'SQLITE_NOTADB' || code.startsWith('SQLITE_CORRUPT')
    throw new ImagerError(damaged ? 'CORRUPT' : 'IO', { what: `The catalog ${path}: ${reason(cause)}` }, { cause })
  }
}

function prepareFormat(db: Database.Database, path: string, schema: string): void {
  const create = db.transaction(() => {
    const format = db.pragma('user_version', { simple: true })
    if (format === FORMAT) return
    if (format !== 0) throw new ImagerError('UNSUPPORTED', { what: `The catalog ${path} has format ${String(format)}` })
    db.exec(schema)
    db.pragma(`user_version = ${FORMAT}`)
  })
  create.immediate()
}
