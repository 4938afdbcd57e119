/**
 * The whole catalog looked through, on a connection of its own and without writing: the structure of the file and its indexes,
 * each row against its checksum, each page of each segment. Takes as long as reading it; the daemon has another process do it.
 */
import { closeSync, existsSync, fstatSync, openSync, readSync } from 'node:fs'
import { join } from 'node:path'
import type Database from 'better-sqlite3'
import { reason } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import { COVERED, columnsOf, defineChecksum, findSchemaFlaw } from './checksums.js'
import { crc32c } from './crc32c.js'
import { Sqlite } from './sqlite.js'
import type { Upkeep } from './upkeep.js'

export interface Finding {
  /** The damaged file. */
  readonly path: string
  readonly why: string
  /** Which of the catalog's is not to be read any more. */
  readonly tables: readonly string[]
}

export interface Audit {
  readonly findings: readonly Finding[]
  /** Stripes whose row in `record` is damaged, and nothing else of it: they can be told by signature. */
  readonly records: readonly number[]
}

const TABLES = [...Object.keys(COVERED), 'event', 'checksum']
/** Damaged rows that are named; more of them are as bad. */
const NAMED = 1_000_000
const PAGE_BYTES = 4096
const FOOTER_BYTES = 64
const ROWS_AT = 8
const READ_PAGES = 256

/** `folder`: where `catalog.db` is. Throws where it cannot be read now, as while another process has it locked. */
export function auditCatalog(folder: string): Audit {
  const path = join(folder, 'catalog.db')
  const db = new Sqlite(path, { readonly: true, fileMustExist: true })
  try {
    defineChecksum(db)
    const flaw = ifReadable(() => findSchemaFlaw(db))
    const findings: Finding[] = flaw ? [{ path, why: flaw, tables: TABLES }] : []
    let records: readonly number[] = []
    for (const table of TABLES) {
      const tables = table === 'checksum' ? Object.keys(COVERED) : [table]
      const rows = ifReadable(() => findStructuralFlaw(db, table) ?? (table in COVERED ? badRows(db, table) : []))
      if (typeof rows === 'string') findings.push({ path, why: rows, tables })
      else if (table === 'record') records = rows.map(Number)
      else if (rows.length > 0) findings.push({ path, why: differ(rows.length, table), tables })
    }
    const rest = findings.length === 0 ? findStructuralFlaw(db) : undefined
    if (rest) findings.push({ path, why: rest, tables: [] })
    return { findings: [...findings, ...badSegments(db, folder)], records }
  } finally {
    db.close()
  }
}

/** What SQLite says of a table and its indexes; of the whole file without `table`. */
function findStructuralFlaw(db: Database.Database, table?: string): string | undefined {
  const check = table === undefined ? 'quick_check(1)' : `integrity_check('${table}')`
  const said = ifReadable(() => db.pragma(check, { simple: true }) as string)
  if (said === 'ok') return undefined
  return `${table === undefined ? 'the file' : `the table ${table}`}: ${String(said).replace(/\s+/g, ' ').slice(0, 200)}`
}

/** What SQLite threw is an answer too, unless it could not look. */
function ifReadable<T>(look: () => T): T | string {
  try {
    return look()
  } catch (error) {
    if (/^SQLITE_(BUSY|LOCKED|NOMEM|CANTOPEN|PROTOCOL)/.test(String((error as { code?: unknown }).code))) throw error
    return reason(error)
  }
}

const differ = (rows: number, table: string) => `${rows} rows of the table ${table} do not match their checksums`

/** Keys of rows that are not as they were written, or are gone. */
const badRows = (db: Database.Database, table: string): unknown[] => [...differing(db, table), ...missing(db, table)]

function differing(db: Database.Database, table: string): unknown[] {
  const key = COVERED[table]?.('t')
  const values = columnsOf(db, table).map((name) => `t."${name}"`)
  const rows = db.prepare(`SELECT ${key} FROM ${table} AS t WHERE row_checksum(${values.join(', ')})
    IS NOT (SELECT crc FROM checksum WHERE kind = '${table}' AND key = ${key}) LIMIT ${NAMED}`)
  return rows.pluck().all()
}

function missing(db: Database.Database, table: string): unknown[] {
  const keys = `SELECT ${COVERED[table]?.('t')} FROM ${table} AS t`
  return db.prepare(`SELECT key FROM checksum WHERE kind = '${table}' EXCEPT ${keys} LIMIT ${NAMED}`).pluck().all()
}

function badSegments(db: Database.Database, folder: string): Finding[] {
  const listed = ifReadable(() => db.prepare<[], { n: number; rows: number }>('SELECT n, rows FROM segment').all())
  if (typeof listed === 'string') return []
  return listed.flatMap(({ n, rows }) => {
    const path = join(folder, 'signatures', `${n}.seg`)
    const why = findSegmentFlaw(path, rows)
    return why === undefined || (!existsSync(path) && isStruckOut(db, n)) ? [] : [{ path, why, tables: [] }]
  })
}

/** By a merge, since it was listed. */
function isStruckOut(db: Database.Database, n: number): boolean {
  return db.prepare('SELECT 1 FROM segment WHERE n = ?').get(n) === undefined
}

/** Footer, what finds the pages, and each page against its checksum: docs/formats/segment.md. */
function findSegmentFlaw(path: string, rows: number): string | undefined {
  if (!existsSync(path)) return 'it is gone'
  const file = openSync(path, 'r')
  try {
    const size = fstatSync(file).size
    const footer = readAt(file, size - FOOTER_BYTES, FOOTER_BYTES)
    if (!footer || !matches(footer)) return 'its footer is damaged'
    const pages = Math.ceil(Number(footer.readBigUInt64LE(ROWS_AT)) / 73)
    if (Number(footer.readBigUInt64LE(ROWS_AT)) !== rows) return 'it holds another number of rows than the catalog says'
    const finder = readAt(file, pages * PAGE_BYTES, size - FOOTER_BYTES - pages * PAGE_BYTES)
    if (!finder || crc32c(finder) !== footer.readUInt32LE(24)) return 'what finds its pages is damaged'
    for (let page = 0; page < pages; page += READ_PAGES) {
      const some = readAt(file, page * PAGE_BYTES, Math.min(READ_PAGES, pages - page) * PAGE_BYTES)
      for (let at = 0; at < (some?.length ?? PAGE_BYTES); at += PAGE_BYTES) {
        if (!some || !matches(some.subarray(at, at + PAGE_BYTES)))
          return `its page at ${page * PAGE_BYTES + at} is damaged`
      }
    }
    return undefined
  } catch (error) {
    return reason(error)
  } finally {
    closeSync(file)
  }
}

/** The last four bytes are the checksum of those before. */
function matches(bytes: Buffer): boolean {
  return crc32c(bytes.subarray(0, -4)) === bytes.readUInt32LE(bytes.length - 4)
}

function readAt(file: number, at: number, length: number): Buffer | undefined {
  if (at < 0 || length < 0) return undefined
  const bytes = Buffer.alloc(length)
  return readSync(file, bytes, 0, length, at) === length ? bytes : undefined
}

/** Has the catalog believe no more than was found whole. `host`: whose it is. */
export function heed(upkeep: Upkeep, audit: Audit, host: Hex): void {
  const { guard } = upkeep
  for (const { path, why, tables } of audit.findings) guard.distrust(guard.damaged(why, path), tables)
  if (audit.records.length > 0 && !guard.trouble) upkeep.forgetLengths(audit.records, host)
}
