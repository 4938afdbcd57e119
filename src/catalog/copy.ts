/** A consistent copy of a catalog for the host to which the coordinator moves, made while the catalog stays open. */
import { chmodSync, linkSync, mkdirSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type Database from 'better-sqlite3'
import { ImagerError } from '../base/errors.js'
import { segmentFolder } from '../signatures/segments.js'
import { Sqlite } from './sqlite.js'

export interface CopiedFile {
  /** Below the catalog's folder: `catalog.db`, or `signatures/<n>.seg`. */
  readonly name: string
  readonly bytes: number
}

export const COPIED_NAME = /^(?:catalog\.db|signatures\/\d{1,16}\.seg)$/

/** From `folder` into `to`, which is made anew. Segments never change: they are the same files. Throws IO. */
export async function copyCatalog(db: Database.Database, folder: string, to: string): Promise<CopiedFile[]> {
  rmSync(to, { recursive: true, force: true })
  mkdirSync(segmentFolder(to), { recursive: true, mode: 0o700 })
  const path = join(to, 'catalog.db')
  await db.backup(path)
  chmodSync(path, 0o600)
  const segments = listedIn(path).map((n) => join('signatures', `${n}.seg`))
  for (const name of segments) linkSegment(join(folder, name), join(to, name))
  return ['catalog.db', ...segments].map((name) => ({ name, bytes: statSync(join(to, name)).size }))
}

function listedIn(path: string): number[] {
  const db = new Sqlite(path)
  try {
    // As one file: without a log beside it.
    db.pragma('journal_mode = DELETE')
    return db.prepare<[], number>('SELECT n FROM segment ORDER BY n').pluck().all()
  } finally {
    db.close()
  }
}

function linkSegment(from: string, to: string): void {
  try {
    linkSync(from, to)
  } catch (cause) {
    throw new ImagerError('IO', { what: `The catalog changed while it was copied: ${from} is gone` }, { cause })
  }
}
