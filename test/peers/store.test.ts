import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { lacksMounts, testWhere } from '../machine.js'
import { folder, idOf, makeShard, makeShards, openStore, shardId } from './peer.js'

const fill = (bytes: number, value: number) => Buffer.alloc(bytes, value)
const pathOf = (root: string, shard: string) => join(root, 'shards', shard.slice(0, 2), `${shard}.shard`)

test('what was put is there, also after opening again', async (t) => {
  const root = folder(t)
  const shard = shardId(1)
  const bytes = makeShard(shard, fill(200_000, 7))
  const store = await openStore(root)
  t.is((await store.put(shard, bytes)).outcome, 'stored')
  t.deepEqual(readFileSync(pathOf(root, shard)), bytes)
  t.deepEqual(readdirSync(join(root, 'incoming')), [])
  const again = await openStore(root)
  t.deepEqual(await again.read(shard), bytes)
  t.deepEqual(await again.read(shard, [4096, 4100]), fill(4, 7))
  t.is((await again.free()).usedBytes, bytes.length)
})

test('a shard is written once; the same bytes again are welcome', async (t) => {
  const root = folder(t)
  const store = await openStore(root)
  const shard = shardId(2)
  const bytes = makeShard(shard, fill(1000, 1))
  await store.put(shard, bytes)
  t.is((await store.put(shard, bytes)).outcome, 'present')
  await t.throwsAsync(store.put(shard, makeShard(shard, fill(1000, 2))), {
    code: 'HOST_REFUSED',
    message: /other bytes/,
  })
  t.deepEqual(await store.read(shard), bytes)
  t.is((await store.free()).usedBytes, bytes.length)
})

test('a stripe has one meaning on a peer: another of its name is refused, whatever its index', async (t) => {
  const root = folder(t)
  const store = await openStore(root)
  const [held, twin] = [1, 2].map((value) => makeShards(9, [fill(70_000, value), fill(70_000, value + 10)]))
  const alone = makeShards(9, [fill(70_000, 1)])[0] as Buffer
  await store.put(idOf(9, 1), held?.[1] as Buffer)
  const refused = { code: 'HOST_REFUSED', message: /of another stripe of the same name/ } as const
  for (const one of [store, await openStore(root)]) {
    await t.throwsAsync(one.put(idOf(9, 0), twin?.[0] as Buffer), refused)
    await t.throwsAsync(one.put(idOf(9, 0), alone), refused, 'of another scheme')
    await t.throwsAsync(one.put(idOf(9, 1), twin?.[1] as Buffer), { code: 'HOST_REFUSED', message: /other bytes/ })
  }
  t.is((await store.put(idOf(9, 0), held?.[0] as Buffer)).outcome, 'stored')
  t.deepEqual(readdirSync(join(root, 'incoming')), [])
})

test('of two twins at the same moment one is stored', async (t) => {
  const store = await openStore(folder(t))
  const [one, two] = [1, 2].map((value) => makeShards(9, [fill(70_000, value), fill(70_000, value + 10)]))
  const both = [store.put(idOf(9, 0), one?.[0] as Buffer), store.put(idOf(9, 1), two?.[1] as Buffer)]
  const outcomes = await Promise.allSettled(both)
  t.deepEqual(outcomes.map(({ status }) => status).sort(), ['fulfilled', 'rejected'])
})

test('what the disk does not give back as it was written is not kept, and not acknowledged', async (t) => {
  const root = folder(t)
  const store = await openStore(root)
  const shard = shardId(8)
  const bytes = makeShard(shard, fill(200_000, 1))
  const harms: [string, (path: string) => void][] = [
    ['cut short', (path) => truncateSync(path, 100_000)],
    [
      'a bit changed',
      (path) => writeFileSync(path, Buffer.from(bytes.map((byte, at) => (at === 150_000 ? byte ^ 1 : byte)))),
    ],
    ['gone', (path) => rmSync(path)],
  ]
  for (const [what, harm] of harms) {
    const put = store.receive(shard, bytes.length, async (path) => {
      writeFileSync(path, bytes)
      harm(path)
      return store.readBack(path)
    })
    await t.throwsAsync(put, { code: 'IO', message: /does not hold what it wrote/ }, what)
    t.false(await store.holds(shard), what)
    t.deepEqual(readdirSync(join(root, 'incoming')), [], what)
  }
  t.is((await store.free()).usedBytes, 0)
  const first = await store.put(shard, bytes)
  const second = await store.put(shardId(9), makeShard(shardId(9), fill(10, 1)))
  t.true(second.sequence > first.sequence)
  t.is((await (await openStore(root)).put(shardId(10), makeShard(shardId(10), fill(10, 1)))).store, first.store)
})

test('a held shard that rotted is replaced', async (t) => {
  const root = folder(t)
  const store = await openStore(root)
  const shard = shardId(3)
  const bytes = makeShard(shard, fill(100_000, 1))
  await store.put(shard, bytes)
  const rotten = Buffer.from(bytes)
  rotten[50_000] = 0xff
  writeFileSync(pathOf(root, shard), rotten)
  t.is((await store.put(shard, bytes)).outcome, 'stored')
  t.deepEqual(await store.read(shard), bytes)
  truncateSync(pathOf(root, shard), 0)
  const again = await openStore(root)
  t.is((await again.put(shard, bytes)).outcome, 'stored')
  t.is((await again.free()).usedBytes, bytes.length)
})

test('many writers of one shard: one stores it', async (t) => {
  const store = await openStore(folder(t))
  const shard = shardId(4)
  const [one, two] = [makeShard(shard, fill(5000, 1)), makeShard(shard, fill(5000, 2))]
  const outcomes = await Promise.allSettled([store.put(shard, one), store.put(shard, two), store.put(shard, one)])
  const words = outcomes.map((outcome) => (outcome.status === 'fulfilled' ? outcome.value.outcome : 'refused'))
  // Whoever was written first is there.
  t.true(['stored refused present', 'present refused stored', 'refused stored refused'].includes(words.join(' ')))
})

test('reading what is not there, and past the end', async (t) => {
  const root = folder(t)
  const store = await openStore(root)
  await t.throwsAsync(store.read(shardId(5)), { code: 'SHARD_MISSING' })
  await store.put(shardId(5), makeShard(shardId(5), fill(10, 1)))
  await t.throwsAsync(store.read(shardId(5), [4096, 5000]), { code: 'SHARD_CORRUPT' })
  await t.throwsAsync(store.read(shardId(5), [0, 64 << 20]), { code: 'PROTOCOL' })
  for (const name of ['', '..', '../../etc/passwd', 'A'.repeat(32), `${shardId(1)}\0`, `${'0'.repeat(30)}/x`]) {
    await t.throwsAsync(store.put(name, fill(1, 1)), { code: 'PROTOCOL' }, name)
    await t.throwsAsync(store.read(name), { code: 'PROTOCOL' }, name)
    await t.throwsAsync(store.document('head', name), { code: 'PROTOCOL' }, name)
  }
})

test('leftovers of a crash are removed, and foreign files left alone', async (t) => {
  const root = folder(t)
  mkdirSync(join(root, 'incoming'))
  writeFileSync(join(root, 'incoming', '17'), fill(1000, 1))
  const first = await openStore(root)
  t.deepEqual(readdirSync(join(root, 'incoming')), [])
  await first.put(shardId(6), makeShard(shardId(6), fill(1, 1)))
  writeFileSync(join(root, 'shards', '00', 'notes.txt'), 'mine')
  const store = await openStore(root)
  t.deepEqual(
    (await store.inventory('', 10)).shards.map((row) => row.shard),
    [shardId(6)],
  )
  t.is((await store.free()).usedBytes, 4097)
  t.true(existsSync(join(root, 'shards', '00', 'notes.txt')))
})

test('the quota holds, also against writers at the same moment', async (t) => {
  const root = folder(t)
  const store = await openStore(root, { maxBytes: 3 * 5096 })
  const outcomes = await Promise.allSettled(
    Array.from({ length: 10 }, (_, index) => store.put(shardId(index), makeShard(shardId(index), fill(1000, index)))),
  )
  const stored = outcomes.flatMap((outcome, index) => (outcome.status === 'fulfilled' ? [index] : []))
  t.is(stored.length, 3)
  t.like(await store.free(), { usedBytes: 3 * 5096, freeBytes: 0, capacityBytes: 3 * 5096 })
  await t.throwsAsync(store.put(shardId(77), makeShard(shardId(77), fill(1000, 1))), { code: 'HOST_FULL' })
  t.deepEqual(readdirSync(join(root, 'incoming')), [])
  // What is there stays welcome.
  const held = stored[0] ?? 0
  t.is((await store.put(shardId(held), makeShard(shardId(held), fill(1000, held)))).outcome, 'present')
})

test("the owner's floor holds; documents still fit", async (t) => {
  const store = await openStore(folder(t), { keepFree: Number.MAX_SAFE_INTEGER })
  t.like(await store.free(), { freeBytes: 0, usedBytes: 0, capacityBytes: 0 })
  await t.throwsAsync(store.put(shardId(1), makeShard(shardId(1), fill(1, 1))), { code: 'HOST_FULL' })
  await store.putDocument('head', shardId(1), fill(10, 1), () => {})
  t.is((await store.free()).usedBytes, 10)
})

testWhere(lacksMounts())('a full disk leaves nothing behind', async (t) => {
  const root = folder(t)
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=2m', 'tmpfs', root])
  t.teardown(() => execFileSync('umount', [root]))
  const store = await openStore(root)
  // Larger than the floor's arithmetic sees: the file system itself refuses.
  const big = makeShard(shardId(1), fill(1 << 20, 1))
  await store.put(shardId(1), big)
  writeFileSync(join(root, 'other'), fill(600_000, 1))
  const before = (await store.free()).usedBytes
  await t.throwsAsync(
    store.putDocument('key', '0'.repeat(64), big, () => {}),
    { code: 'HOST_FULL', message: /ENOSPC/ },
  )
  await t.throwsAsync(store.put(shardId(2), makeShard(shardId(2), fill(1 << 20, 1))), { code: 'HOST_FULL' })
  t.deepEqual(readdirSync(join(root, 'incoming')), [])
  t.deepEqual(await store.documents('key'), [])
  t.is((await store.free()).usedBytes, before)
  t.deepEqual(await store.read(shardId(1)), big)
})

test('the inventory goes on where a page ended', async (t) => {
  const store = await openStore(folder(t))
  const ids = ['00', '00', '01', '7f', 'ff', 'ff'].map((prefix, index) => `${prefix}${String(index).padStart(30, '0')}`)
  for (const id of ids) await store.put(id, makeShard(id, fill(10, 1)))
  for (const limit of [1, 2, 3, 6, 100]) {
    const seen: string[] = []
    let after: string | null = ''
    while (after !== null) {
      const page: Awaited<ReturnType<typeof store.inventory>> = await store.inventory(after, limit)
      t.true(page.shards.length <= limit)
      t.true(page.shards.every((row) => row.bytes === 4106))
      seen.push(...page.shards.map((row) => row.shard))
      after = page.next
    }
    t.deepEqual(seen, ids)
  }
})

test('stores on one file system say so', async (t) => {
  const [one, two] = [await openStore(folder(t)), await openStore(folder(t))]
  t.is((await one.free()).storage, (await two.free()).storage)
})

test('a store where no folder can be is refused by name', async (t) => {
  const file = join(folder(t), 'file')
  writeFileSync(file, '')
  await t.throwsAsync(openStore(file), { code: 'SYSTEM', message: /The store .*file cannot be opened/ })
})
