import { cpSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import Database from 'better-sqlite3'
import { headerFlaw, logFlaw } from '../../src/catalog/sqlite-files.js'
import { temporaryFolder } from './harness.js'

const FRAME = 24 + 4096
const COMMITS = 12

/** A database whose log holds some commits. */
function withLog(t: ExecutionContext): { folder: string; log: Buffer } {
  const folder = temporaryFolder()
  t.teardown(folder.remove)
  const db = new Database(join(folder.path, 'a.db'))
  t.teardown(() => db.close())
  db.pragma('journal_mode = WAL')
  db.exec('CREATE TABLE a (n INTEGER PRIMARY KEY, b BLOB)')
  for (let n = 0; n < COMMITS; n++) db.prepare('INSERT INTO a VALUES (?, ?)').run(n, Buffer.alloc(3000, n))
  return { folder: folder.path, log: readFileSync(join(folder.path, 'a.db-wal')) }
}

const flipped = (bytes: Buffer, at: number): Buffer => {
  const copy = Buffer.from(bytes)
  copy[at] = (copy[at] as number) ^ 4
  return copy
}

test('a log is whole; a flip before its last commit is a flaw, and SQLite loses what came after it without a word', (t) => {
  const { folder, log } = withLog(t)
  t.is(logFlaw(log), undefined)
  const frames = Math.floor((log.length - 32) / FRAME)
  for (let frame = 0; frame < frames - 6; frame++) {
    for (const at of [0, 9, 17, 24 + 100])
      t.truthy(logFlaw(flipped(log, 32 + frame * FRAME + at)), `frame ${frame}, ${at}`)
  }
  for (const at of [1, 9, 17, 25]) t.truthy(logFlaw(flipped(log, at)), `header, ${at}`)
  const copy = join(folder, 'copy.db')
  cpSync(join(folder, 'a.db'), copy)
  const half = flipped(log, 32 + Math.floor(frames / 2) * FRAME + 500)
  writeFileSync(`${copy}-wal`, half)
  const db = new Database(copy)
  t.true((db.prepare('SELECT count(*) FROM a').pluck().get() as number) < COMMITS)
  db.close()
})

test('a log that ends in the middle of a commit is what a power cut leaves', (t) => {
  const { log } = withLog(t)
  for (const cut of [1, 100, FRAME, FRAME + 1, 2 * FRAME]) t.is(logFlaw(log.subarray(0, log.length - cut)), undefined)
  t.is(logFlaw(flipped(log, log.length - 50)), undefined)
  t.is(logFlaw(Buffer.alloc(0)), undefined)
  t.is(logFlaw(Buffer.concat([log, Buffer.alloc(3 * FRAME)])), undefined)
})

test('each bit of the header that says how to read the file is looked at', (t) => {
  const { folder } = withLog(t)
  const bytes = readFileSync(join(folder, 'a.db')).subarray(0, 100)
  bytes.writeUInt32BE(1, 56)
  t.is(headerFlaw(bytes, 1 << 20), undefined)
  for (const at of [...Array(24).keys(), 56, 57, 58, 59])
    t.truthy(headerFlaw(flipped(bytes, at), 1 << 20), `byte ${at}`)
  t.truthy(headerFlaw(Buffer.alloc(100), 1 << 20))
})
