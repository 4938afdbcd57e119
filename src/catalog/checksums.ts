/**
 * A CRC-32 for each row of the catalog, in a table beside it: a flipped bit in a row is noticed by whoever reads it, and a row
 * that is gone by whoever compares the two (`audit.ts`). Triggers keep them, so no statement that writes has to; views named
 * `sound_<table>` give only rows that match, and throw at the first that does not. Triggers and views are a connection's
 * own (TEMP): what writes without them, as a repair by hand would, is noticed as well. A damaged row is not changed either: a
 * new checksum would make it right.
 */
import { crc32 } from 'node:zlib'
import type Database from 'better-sqlite3'
import { STRIPE_WIDTH } from './types.js'

export const CHECKSUM_SCHEMA = `
CREATE TABLE checksum (kind TEXT NOT NULL, key ANY NOT NULL, crc INTEGER NOT NULL, PRIMARY KEY (kind, key)) STRICT, WITHOUT ROWID;
`

type Key = (row: string) => string

const column =
  (name: string): Key =>
  (row) =>
    `${row}.${name}`
const ofShard: Key = (row) => `${row}.stripe * ${STRIPE_WIDTH} + ${row}.position`
const joined =
  (...names: string[]): Key =>
  (row) =>
    names.map((name) => `${row}.${name}`).join(` || '/' || `)

/** Tables whose rows have a checksum, and under which key. Not `event`: people read it, and nothing follows from it. */
export const COVERED: Readonly<Record<string, Key>> = {
  host: column('n'),
  run: column('n'),
  lease: column('lease'),
  stripe: column('stripe'),
  shard: ofShard,
  evidence: ofShard,
  complaint: joined('stripe', 'by'),
  record: column('stripe'),
  snapshot: column('n'),
  token: column('id'),
  document: joined('kind', 'name'),
  delivery: joined('host', 'kind', 'name'),
  volume: joined('appliance', 'volume'),
  checkpoint: column('n'),
  cosignature: joined('n', 'witness'),
  listed: joined('appliance', 'snapshot'),
  young: column('n'),
  segment: column('n'),
}

/** Tables that never give a number twice; SQLite keeps the last one where no trigger sees it. */
const NUMBERED = ['young']

export const columnsOf = (db: Database.Database, table: string): string[] =>
  db
    .prepare<[string], { name: string }>('SELECT name FROM pragma_table_info(?)')
    .all(table)
    .map(({ name }) => name)

/** Over the values of a row, in the order of its columns. Pure. */
export function rowChecksum(values: readonly unknown[]): number {
  const blobs: Buffer[] = []
  const plain = values.map((value) => {
    if (!Buffer.isBuffer(value)) return value
    blobs.push(value)
    return { bytes: value.length }
  })
  return blobs.reduce((crc, blob) => crc32(blob, crc), crc32(JSON.stringify(plain)))
}

/** Gives the connection `row_checksum(...)`, and the views and triggers; `damaged` throws what a reader of a bad row meets. */
export function useChecksums(db: Database.Database, damaged: (table: string) => never): void {
  defineChecksum(db)
  db.pragma('recursive_triggers = ON') // Else REPLACE deletes rows unseen.
  db.function('require_sound', { varargs: true }, (table, expected, ...values) => {
    if (rowChecksum(values) !== expected) damaged(String(table))
    return 1
  })
  for (const [table, key] of Object.entries(COVERED)) db.exec(triggersAndView(table, key, columnsOf(db, table)))
  for (const table of NUMBERED) {
    db.exec(`CREATE TEMP TRIGGER ${table}_numbered AFTER INSERT ON main.${table} BEGIN
      INSERT INTO checksum VALUES ('number', '${table}', NEW.${KEY_OF[table]})
        ON CONFLICT (kind, key) DO UPDATE SET crc = max(crc, excluded.crc); END;`)
  }
}

const KEY_OF: Record<string, string> = { young: 'n' }

export function defineChecksum(db: Database.Database): void {
  db.function('row_checksum', { varargs: true, deterministic: true }, (...values) => rowChecksum(values))
}

function triggersAndView(table: string, key: Key, columns: readonly string[]): string {
  const values = (row: string) => columns.map((name) => `${row}."${name}"`).join(', ')
  const remove = `DELETE FROM checksum WHERE kind = '${table}' AND key = ${key('OLD')};`
  const add = `INSERT OR REPLACE INTO checksum VALUES ('${table}', ${key('NEW')}, row_checksum(${values('NEW')}));`
  const kept = (row: string) => `(SELECT crc FROM checksum WHERE kind = '${table}' AND key = ${key(row)})`
  return `
    CREATE TEMP TRIGGER ${table}_updating BEFORE UPDATE ON main.${table}
      BEGIN SELECT require_sound('${table}', ${kept('OLD')}, ${values('OLD')}); END;
    CREATE TEMP TRIGGER ${table}_inserted AFTER INSERT ON main.${table} BEGIN ${add} END;
    CREATE TEMP TRIGGER ${table}_updated AFTER UPDATE ON main.${table} BEGIN ${remove} ${add} END;
    CREATE TEMP TRIGGER ${table}_deleted AFTER DELETE ON main.${table} BEGIN ${remove} END;
    CREATE TEMP VIEW sound_${table} AS SELECT * FROM main.${table} AS t
      WHERE require_sound('${table}', ${kept('t')}, ${values('t')});`
}

/** Makes all checksums anew. */
export function sumAll(db: Database.Database): void {
  db.exec('DELETE FROM checksum')
  for (const [table, key] of Object.entries(COVERED)) {
    const values = columnsOf(db, table).map((name) => `t."${name}"`)
    db.exec(
      `INSERT INTO checksum SELECT '${table}', ${key('t')}, row_checksum(${values.join(', ')}) FROM ${table} AS t`,
    )
  }
  db.exec(`INSERT INTO checksum SELECT 'number', name, seq FROM sqlite_sequence`)
  const keep = db.prepare('INSERT INTO checksum VALUES (?, ?, ?)')
  keep.run('schema', 'all', schemaChecksum(db))
  keep.run('schema', 'format', Number(db.pragma('user_version', { simple: true })))
}

/**
 * What is wrong with what SQLite itself keeps: the tables' definitions, the format, the last numbers given. All of one moment:
 * the daemon writes on while another process looks.
 */
export function findSchemaFlaw(db: Database.Database): string | undefined {
  const { kept, schema, given } = db.transaction(() => readSchema(db))()
  if (kept.get('schema all') !== schema) return 'the definitions of its tables have changed'
  const wrong = NUMBERED.find((table) => given.get(table) !== kept.get(`number ${table}`))
  return wrong && `the last number given in the table ${wrong} has changed`
}

function readSchema(db: Database.Database) {
  const kept = new Map(
    db
      .prepare<[], [string, string, number]>(`SELECT kind, key, crc FROM checksum WHERE kind IN ('schema', 'number')`)
      .raw()
      .all()
      .map(([kind, key, value]) => [`${kind} ${key}`, value]),
  )
  const numbers = db.prepare<[], { name: string; seq: number }>('SELECT name, seq FROM sqlite_sequence').all()
  const given = new Map(numbers.map(({ name, seq }) => [name, seq]))
  return { kept, given, schema: schemaChecksum(db) }
}

/** The format as it was noted when the catalog was made, beside SQLite's own note of it; undefined where it was not. */
export function notedFormat(db: Database.Database): number | undefined {
  const has = db.prepare(`SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'checksum'`).get()
  return has === undefined
    ? undefined
    : db.prepare<[], number>(`SELECT crc FROM checksum WHERE kind = 'schema' AND key = 'format'`).pluck().get()
}

function schemaChecksum(db: Database.Database): number {
  const all = db.prepare<[], [string, string, string, string]>(
    'SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name',
  )
  return rowChecksum(all.raw().all().flat())
}
