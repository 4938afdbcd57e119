import { cpSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { StoreSequence } from '../../src/peers/sequence.js'
import { folder } from './peer.js'

test('a store keeps its id and goes on counting; no number is given out twice', async (t) => {
  const at = folder(t)
  const one = await StoreSequence.open(at)
  t.deepEqual(await Promise.all([one.raise(), one.raise(), one.raise()]), [1, 2, 3])
  const two = await StoreSequence.open(at)
  t.is(two.id, one.id)
  t.is(await two.raise(), 4)
  t.is(two.current, 4)
  t.not((await StoreSequence.open(folder(t))).id, one.id)
})

test('a write that was cut short leaves the number before; a folder that was put back shows an older one', async (t) => {
  const at = folder(t)
  const store = await StoreSequence.open(at)
  await store.raise()
  const before = readFileSync(join(at, 'store'))
  await store.raise()
  const after = readFileSync(join(at, 'store'))
  const written = before.findIndex((byte, index) => byte !== after[index]) < 4096 ? 0 : 4096
  const torn = Buffer.from(after)
  torn.fill(0xee, written + 30, written + 64)
  writeFileSync(join(at, 'store'), torn)
  t.like(await StoreSequence.open(at), { id: store.id, current: 1 })
  const copy = folder(t)
  cpSync(at, copy, { recursive: true })
  const again = await StoreSequence.open(at)
  await again.raise()
  t.true((await StoreSequence.open(copy)).current < again.current)
})

test('without what can be read of it a store is another one; without its file it says nothing', async (t) => {
  const at = folder(t)
  const store = await StoreSequence.open(at)
  truncateSync(join(at, 'store'), 10)
  t.not((await StoreSequence.open(at)).id, store.id)
  rmSync(join(at, 'store'))
  await t.throwsAsync(store.raise(), { code: 'IO' })
  t.is(store.current, 0)
})
