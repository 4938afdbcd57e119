/** What a damaged catalog knows and no peer does, carried over into one that is made anew: as far as it matches its checksums. */
import type Database from 'better-sqlite3'
import { COVERED, columnsOf, defineChecksum } from './checksums.js'
import { Sqlite } from './sqlite.js'

/** What people decided. Invitations are of the term that ends. */
const CARRIED = ['volume']

type Row = Record<string, unknown>

/** `path`: of the damaged one. */
export function carryOver(path: string, into: Database.Database): void {
  let from: Database.Database | undefined
  try {
    from = new Sqlite(path, { readonly: true, fileMustExist: true })
    defineChecksum(from)
    for (const table of CARRIED) for (const row of soundRows(from, table)) insert(into, table, row)
  } catch (error) {
    // Whatever is wrong with it: it is damaged, and this was an attempt.
    if (!(error instanceof Sqlite.SqliteError)) throw error
  } finally {
    from?.close()
  }
}

function soundRows(db: Database.Database, table: string): Row[] {
  const values = columnsOf(db, table).map((name) => `t."${name}"`)
  try {
    const rows = db.prepare<[], Row>(`SELECT t.* FROM ${table} AS t WHERE row_checksum(${values.join(', ')})
      IS (SELECT crc FROM checksum WHERE kind = '${table}' AND key = ${COVERED[table]?.('t')})`)
    return rows.all()
  } catch (error) {
    if (error instanceof Sqlite.SqliteError) return []
    throw error
  }
}

function insert(db: Database.Database, table: string, row: Row): void {
  const names = columnsOf(db, table).filter((name) => name in row)
  const values = names.map((name) => `@${name}`)
  db.prepare(`INSERT OR IGNORE INTO ${table} (${names.join(', ')}) VALUES (${values.join(', ')})`).run(row)
}
