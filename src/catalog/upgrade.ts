/**
 * From format 1, which kept the signatures in a database of their own (`signatures.db`), sorted by id. They become
 * segments; only the transaction around this makes those count, so whatever ends it early, the next start begins anew.
 */
import { existsSync, mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { writeSegment } from '../native.js'
import { SIGNATURE_BYTES } from '../signatures/rows.js'
import { segmentFolder } from '../signatures/segments.js'

const OLD = 'signatures.db'
/** Rows of one segment: 29 MB, which are in memory some times over while they are sorted and written. */
const ROWS = 1 << 19

type Row = [id: Buffer, birth: number, stripe: number, offset: number, length: number]

export function upgradeFrom1(db: Database.Database, folder: string): void {
  const path = join(folder, OLD)
  if (!existsSync(path)) return
  const into = segmentFolder(folder)
  mkdirSync(into, { recursive: true, mode: 0o700 })
  const old = new Database(path)
  try {
    const list = db.prepare('INSERT INTO segment (rows) VALUES (?)')
    const all = old.prepare<[], Row>('SELECT id, birth, stripe, offset, length FROM signature ORDER BY id').raw()
    const rows = Buffer.alloc(ROWS * SIGNATURE_BYTES)
    let filled = 0
    const flush = () => {
      if (filled === 0) return
      const number = Number(list.run(filled).lastInsertRowid)
      writeSegment(into, number, rows.subarray(0, filled * SIGNATURE_BYTES))
      filled = 0
    }
    for (const row of all.iterate()) {
      encodeRow(rows, filled * SIGNATURE_BYTES, row)
      filled++
      if (filled === ROWS) flush()
    }
    flush()
  } finally {
    old.close()
  }
}

/** Deletes the signature database of format 1, once the catalog is of a later format. */
export function removeFormat1(folder: string): void {
  for (const ending of ['', '-wal', '-shm']) rmSync(join(folder, OLD + ending), { force: true })
}

function encodeRow(into: Buffer, at: number, [id, birth, stripe, offset, length]: Row): void {
  id.copy(into, at)
  into.writeBigUInt64BE(BigInt(birth), at + 32)
  into.writeBigUInt64BE(BigInt(stripe), at + 40)
  into.writeUInt32BE(offset, at + 48)
  into.writeUInt32BE(length, at + 52)
}
