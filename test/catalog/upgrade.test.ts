import { copyFileSync, existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test, { type ExecutionContext } from 'ava'
import Database from 'better-sqlite3'
import { FORMAT } from '../../src/catalog/schema.js'
import { addPeers, held, hex, idOf, openPlain, placement, recordsOf, temporaryFolder } from './harness.js'

/**
 * Written by the code of format 1: stripe 1 holds `block 0` to `block 299`, stripe 2 `block 7` and `block 1000`; stripe 3
 * is open.
 */
const FIXTURE = fileURLToPath(new URL('../../../fixtures/catalog-v1/', import.meta.url))
const LEASE = 'cfa5a09528a2adb098eda88d3b28747c'

function old(t: ExecutionContext, files = ['catalog.db', 'signatures.db']): string {
  const folder = temporaryFolder()
  t.teardown(folder.remove)
  mkdirSync(join(folder.path, 'catalog', 'signatures'), { recursive: true })
  for (const name of files) copyFileSync(FIXTURE + name, join(folder.path, 'catalog', name))
  return folder.path
}

async function check(t: ExecutionContext, folder: string): Promise<void> {
  const catalog = openPlain(folder)
  t.teardown(() => catalog.close())
  const words = [...Array.from({ length: 300 }, (_, i) => `block ${i}`), 'block 1000', 'block 1001']
  const { stripes, offsets, lengths } = await catalog.locate(Buffer.concat(words.map(idOf)))
  t.deepEqual([stripes[0], offsets[299], lengths[299]], [1n, 29_900, 90])
  t.deepEqual([...stripes.subarray(300)], [2n, 0n])
  const births = await catalog.lookup(LEASE, idOf('block 299'), 1)
  t.is(births[0], 65_536n + 299n)
  t.is((await catalog.stripes([1, 2, 3])).length, 2)
}

/** The stripe's number. */
async function commitOne(folder: string, id: Buffer): Promise<number> {
  const catalog = openPlain(folder)
  try {
    const peers = addPeers(catalog, 2)
    const { lease } = await catalog.begin({ appliance: hex(32), volume: hex(16), source: '/dev/sdb', label: '' })
    const request = placement(1, 1, peers)
    const { stripe } = await catalog.place(lease, request)
    const { k, m, packBytes } = request
    await catalog.commit(lease, { stripe, k, m, packBytes, records: recordsOf(id), shards: held(request) })
    return stripe
  } finally {
    catalog.close()
  }
}

test('a catalog of format 1 opens, finds what it held, and is of the new format then', async (t) => {
  const folder = old(t)
  await check(t, folder)
  t.false(readdirSync(join(folder, 'catalog')).some((name) => name.startsWith('signatures.db')))
  const db = new Database(join(folder, 'catalog', 'catalog.db'))
  t.is(db.pragma('user_version', { simple: true }), FORMAT)
  db.close()
  await check(t, folder)
})

/** As format 3 was. */
function removeFormat4(db: Database.Database): void {
  db.exec(`DROP TABLE evidence; DROP TABLE volume;
    ALTER TABLE lease DROP COLUMN ended; ALTER TABLE lease DROP COLUMN failure; ALTER TABLE snapshot DROP COLUMN arrived;
    ALTER TABLE host DROP COLUMN clockSkewMs; ALTER TABLE host DROP COLUMN suspect`)
}

test('a catalog of format 2 opens; the records of what it held are told by signature only', async (t) => {
  const folder = temporaryFolder()
  t.teardown(folder.remove)
  await commitOne(folder.path, idOf('old'))
  const db = new Database(join(folder.path, 'catalog', 'catalog.db'))
  removeFormat4(db)
  db.exec('DROP TABLE record')
  db.pragma('user_version = 2')
  db.close()
  const stripe = await commitOne(folder.path, idOf('new'))
  const catalog = openPlain(folder.path)
  t.teardown(() => catalog.close())
  t.deepEqual(await catalog.records([stripe - 1, stripe]), [new Uint32Array(), Uint32Array.of(90)])
  t.deepEqual((await catalog.locate(Buffer.concat([idOf('old'), idOf('new')]))).lengths, Uint32Array.of(90, 90))
})

test('a catalog of format 3 opens with what it held, and is of the new format then', async (t) => {
  const folder = temporaryFolder()
  t.teardown(folder.remove)
  const stripe = await commitOne(folder.path, idOf('old'))
  const path = join(folder.path, 'catalog', 'catalog.db')
  const db = new Database(path)
  removeFormat4(db)
  db.pragma('user_version = 3')
  db.close()
  const catalog = openPlain(folder.path)
  t.deepEqual(await catalog.records([stripe]), [Uint32Array.of(90)])
  catalog.close()
  const again = new Database(path)
  t.is(again.pragma('user_version', { simple: true }), FORMAT)
  again.close()
})

test('an upgrade that was cut short before or after its transaction is finished by the next start', async (t) => {
  const before = old(t)
  writeFileSync(join(before, 'catalog', 'signatures', '1.seg'), 'half a segment')
  await check(t, before)

  const after = old(t)
  await check(t, after)
  copyFileSync(`${FIXTURE}signatures.db`, join(after, 'catalog', 'signatures.db'))
  await check(t, after)
  t.false(existsSync(join(after, 'catalog', 'signatures.db')))
})
