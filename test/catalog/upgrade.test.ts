import { copyFileSync, existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test, { type ExecutionContext } from 'ava'
import Database from 'better-sqlite3'
import { FORMAT } from '../../src/catalog/schema.js'
import { shardFileBytes } from '../../src/native.js'
import { addPeers, held, hex, idOf, openPlain, placement, recordsOf, temporaryFolder } from './harness.js'

/**
 * Written by the code of format 1: stripe 1 holds `block 0` to `block 299`, stripe 2 `block 7` and `block 1000`; stripe 3
 * is open.
 */
const FIXTURE = fileURLToPath(new URL('../../../fixtures/catalog-v1/', import.meta.url))
const LEASE = 'cfa5a09528a2adb098eda88d3b28747c'

/** Written by the code of format 3: a snapshot of stripes 1 (4+2, `block 0` to `block 2`) and 2 (2+1 without its parity). */
const FIXTURE_3 = fileURLToPath(new URL('../../../fixtures/catalog-v3/catalog.db', import.meta.url))

function format3(t: ExecutionContext): string {
  const folder = temporaryFolder()
  t.teardown(folder.remove)
  mkdirSync(join(folder.path, 'catalog', 'signatures'), { recursive: true })
  copyFileSync(FIXTURE_3, join(folder.path, 'catalog', 'catalog.db'))
  return folder.path
}

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

test('a catalog of format 2 opens; the records of what it held are told by signature only', async (t) => {
  const folder = format3(t)
  const db = new Database(join(folder, 'catalog', 'catalog.db'))
  db.exec('DROP TABLE record')
  db.pragma('user_version = 2')
  db.close()
  const stripe = await commitOne(folder, idOf('new'))
  const catalog = openPlain(folder)
  t.teardown(() => catalog.close())
  t.deepEqual(await catalog.records([1, 2, stripe]), [new Uint32Array(), new Uint32Array(), Uint32Array.of(90)])
  const ids = Buffer.concat([idOf('block 0'), idOf('new')])
  t.deepEqual((await catalog.locate(ids)).lengths, Uint32Array.of(90, 90))
})

test('a catalog of format 3 opens; what follows from its shards is worked out from them', async (t) => {
  const folder = format3(t)
  const path = join(folder, 'catalog', 'catalog.db')
  const catalog = openPlain(folder)
  const [row] = await catalog.snapshots()
  t.like(row, {
    id: 'c54230c03f0e0fb4de014d63611fca11',
    survives: 0,
    target: 1,
    state: 'sealed',
    at: 1_800_000_000_000,
  })
  t.deepEqual(await catalog.records([1, 2]), [Uint32Array.of(90, 90, 90), new Uint32Array()])
  catalog.close()
  const db = new Database(path)
  t.teardown(() => db.close())
  t.is(db.pragma('user_version', { simple: true }), FORMAT)
  const placed = db.prepare<[], number>('SELECT placedBytes FROM host ORDER BY n').pluck().all()
  const [of42, of21] = [shardFileBytes(100_000, 4), shardFileBytes(100_000, 2)]
  t.deepEqual(placed, [of42 + of21, of42 + of21, of42, of42, of42, of42])
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
