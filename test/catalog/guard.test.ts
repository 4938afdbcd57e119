import { join } from 'node:path'
import test from 'ava'
import Database from 'better-sqlite3'
import { ImagerError } from '../../src/base/errors.js'
import { AWAY_AFTER_MS } from '../../src/base/limits.js'
import { Guard, tablesOf, whyNotWritten } from '../../src/catalog/guard.js'
import { openDatabase } from '../../src/catalog/schema.js'
import { addPeers, offer, openPlain, TurnedClock, temporaryFolder } from './harness.js'

test('what SQLite says of a disk becomes a reason and something to do', (t) => {
  const why = (code: string) => whyNotWritten(code, '/state/catalog/catalog.db')?.[0] ?? ''
  t.regex(why('SQLITE_FULL'), /no room is left for \/state/)
  t.regex(why('SQLITE_IOERR_SHMSIZE'), /no room/)
  t.regex(why('SQLITE_BUSY'), /locked \/state\/catalog\/catalog\.db/)
  t.regex(why('SQLITE_READONLY_DBMOVED'), /may not be written/)
  t.regex(why('SQLITE_IOERR_FSYNC'), /gives errors/)
  t.is(whyNotWritten('SQLITE_CONSTRAINT_UNIQUE', '/x'), undefined)
})

test('a statement is known by the tables that it names', (t) => {
  t.deepEqual(tablesOf('SELECT a FROM sound_shard AS shard JOIN host ON x = (SELECT 1 FROM main.lease)'), [
    'shard',
    'host',
    'lease',
  ])
  t.deepEqual(tablesOf('INSERT INTO record VALUES (?)'), ['record'])
})

test('what is damaged is not read, nothing is written, and the rest is read', async (t) => {
  const folder = temporaryFolder()
  t.teardown(folder.remove)
  const catalog = openPlain(folder.path)
  t.teardown(() => catalog.close())
  addPeers(catalog, 2)
  const { guard } = catalog.upkeep
  guard.distrust(guard.damaged('a test'), ['snapshot'])
  await t.throwsAsync(catalog.snapshots(), { code: 'STATE_DAMAGED', message: /catalog\.db is damaged: a test/ })
  t.is((await catalog.hosts()).length, 2)
  t.throws(() => catalog.registry.addToken('ab', Buffer.alloc(32), 'peer', 1), { code: 'STATE_DAMAGED' })
  t.regex((await catalog.condition())[0]?.remedy ?? '', /`imager recover .*--state/)
})

test('damage that a call runs into counts at once, so that the line that it says to type works', (t) => {
  const guard = new Guard('/state/catalog/catalog.db', undefined)
  const heard: (string | undefined)[] = []
  guard.watchDamage(() => heard.push(guard.damage?.code))
  const refused = guard.translate(new Database.SqliteError('a constraint failed', 'SQLITE_CONSTRAINT'))
  t.true(refused instanceof Database.SqliteError)
  t.deepEqual(heard, [])
  const meant = guard.translate(new Database.SqliteError('database disk image is malformed', 'SQLITE_CORRUPT'))
  t.like(meant, { code: 'STATE_DAMAGED' })
  t.deepEqual(heard, ['STATE_DAMAGED'])
  t.throws(() => guard.requireWritable(), { code: 'STATE_DAMAGED' })
})

test('a damaged row is not changed: a new checksum would make it right', (t) => {
  const folder = temporaryFolder()
  t.teardown(folder.remove)
  const before = openPlain(folder.path)
  addPeers(before, 2)
  before.close()
  const path = join(folder.path, 'catalog', 'catalog.db')
  const byHand = new Database(path)
  byHand.prepare("UPDATE host SET name = 'pcl' WHERE name = 'pc1'").run()
  byHand.close()
  const catalog = openDatabase(path)
  t.teardown(() => catalog.close())
  t.throws(() => catalog.prepare('UPDATE host SET member = 0').run(), { code: 'STATE_DAMAGED' })
})

test('heartbeats go on in memory while nothing can be written, and are written when it can', async (t) => {
  const folder = temporaryFolder()
  t.teardown(folder.remove)
  const clock = new TurnedClock()
  const catalog = openPlain(folder.path, clock)
  t.teardown(() => catalog.close())
  const [peer = ''] = addPeers(catalog, 1)
  const { upkeep } = catalog
  upkeep.guard.pause(new ImagerError('COORDINATOR_READ_ONLY', { why: 'a test', todo: 'Wait' }))
  clock.time += 3 * AWAY_AFTER_MS
  t.true((await catalog.hosts())[0]?.away)
  t.false(catalog.heartbeat(peer, offer('disk', 5e11)))
  const [row] = await catalog.hosts()
  t.deepEqual([row?.away, row?.freeBytes], [false, 5e11])
  t.throws(() => catalog.registry.record('fleet', peer, 'x'), { code: 'COORDINATOR_READ_ONLY' })
  t.true(upkeep.resume((host, beat) => void catalog.heartbeat(host, beat)))
  t.is(upkeep.guard.trouble, undefined)
  const again = openPlain(folder.path, clock)
  t.teardown(() => again.close())
  t.is((await again.hosts())[0]?.freeBytes, 5e11)
})

test('a write that fails while writes are tried leaves them paused', (t) => {
  const guard = new Guard('/state/catalog/catalog.db', undefined)
  const full = new ImagerError('COORDINATOR_READ_ONLY', { why: 'full', todo: 'Wait' })
  guard.pause(full)
  const fails = () => {
    throw full
  }
  t.false(guard.attempt(fails))
  t.throws(() => guard.requireWritable(), { is: full })
  t.true(guard.attempt(() => {}))
  t.notThrows(() => guard.requireWritable())
})
