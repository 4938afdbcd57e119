/** What a peer keeps as a reference bitmap: only what its head says, and only what it can put together itself. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { BITMAP_CHAIN } from '../../src/base/limits.js'
import { encodeDelta } from '../../src/keys/bitmap.js'
import { signHead } from '../../src/keys/head.js'
import { hash, Secret } from '../../src/native.js'
import { fleet, hostOf } from '../keys/fleet.js'
import { RUN, shardId, startPeer } from './peer.js'

const version = (index: number, bytes = 3000) =>
  Buffer.concat([Buffer.from('IMRF\x01\0\0\0'), Buffer.alloc(bytes, 7), Buffer.of(index)])

async function stand(t: ExecutionContext) {
  const peer = await startPeer(t)
  const client = peer.client(peer.fleet.appliance)
  const appliance = hostOf(peer.fleet.appliance)
  const nameOf = (index: number) => appliance + shardId(index)
  const putHead = (index: number, whole = version(index)) => {
    const shards = [{ index: 0, host: hostOf(peer.fleet.peer) }]
    const figures = { number: 1, ordinal: 0, k: 1, m: 0, packBytes: 4096, offset: 0, length: 100 }
    const root = { key: 'AAAA', ...RUN, ...figures, shards }
    const facts = {
      fleet,
      appliance,
      volume: shardId(9),
      sequence: index,
      snapshot: shardId(index),
      parent: null,
      time: 5,
    }
    const head = signHead(
      { ...facts, root, references: hash(whole).toString('hex') },
      peer.fleet.appliance,
      Secret.random(),
    )
    return client.sendDocument('head', nameOf(index), head)
  }
  const put = (index: number, bytes: Buffer) => client.sendDocument('bitmap', nameOf(index), bytes)
  const held = (index: number) => client.fetchDocument('bitmap', nameOf(index))
  return { peer, client, nameOf, putHead, put, held }
}

test("whole, or as what changed since one that is held; only its head's", async (t) => {
  const { putHead, put, held } = await stand(t)
  await t.throwsAsync(put(1, version(1)), { code: 'HOST_REFUSED', message: /no head/ })
  await putHead(1)
  await t.throwsAsync(put(1, version(2)), { code: 'FORGED' })
  await t.throwsAsync(put(1, Buffer.from('noise')), { code: 'CORRUPT' })
  await put(1, version(1))
  await put(1, version(1))
  t.deepEqual(await held(1), version(1))

  await putHead(2)
  const delta = encodeDelta(shardId(1), version(1), version(2))
  await t.throwsAsync(put(2, encodeDelta(shardId(7), version(1), version(2))), { code: 'WHOLE_NEEDED' })
  await t.throwsAsync(put(2, encodeDelta(shardId(1), version(1), version(3))), { code: 'WHOLE_NEEDED' })
  t.is(await held(2), undefined)
  await put(2, delta)
  t.deepEqual(await held(2), delta)
  await put(2, version(2))
  t.deepEqual(await held(2), delta, 'another form of it is as good')
  await put(2, version(3))
  t.deepEqual(await held(2), delta, 'what is right stays')
})

test('a damaged one gives way, and one that builds on it is wanted whole', async (t) => {
  const { peer, nameOf, putHead, put, held } = await stand(t)
  for (const index of [1, 2]) await putHead(index)
  await put(1, version(1))
  writeFileSync(
    join(peer.folder, 'documents', 'bitmap', nameOf(1)),
    Buffer.concat([version(1).subarray(0, 100), Buffer.alloc(2909, 8)]),
  )
  await t.throwsAsync(put(2, encodeDelta(shardId(1), version(1), version(2))), { code: 'WHOLE_NEEDED' })
  await put(2, version(2))
  await put(1, version(1))
  t.deepEqual(await held(1), version(1))
})

test('a chain has an end', async (t) => {
  const { putHead, put } = await stand(t)
  for (let index = 0; index < BITMAP_CHAIN; index++) {
    await putHead(index + 1)
    const before = version(index)
    await put(index + 1, index === 0 ? version(1) : encodeDelta(shardId(index), before, version(index + 1)))
  }
  const next = BITMAP_CHAIN + 1
  await putHead(next)
  await t.throwsAsync(put(next, encodeDelta(shardId(BITMAP_CHAIN), version(BITMAP_CHAIN), version(next))), {
    code: 'WHOLE_NEEDED',
  })
  await put(next, version(next))
})

test('large ones pass, larger ones do not, and none is listed', async (t) => {
  const { putHead, put, held, client } = await stand(t)
  const large = version(1, 3 << 20)
  await putHead(1, large)
  await put(1, large)
  t.true((await held(1))?.equals(large))
  await t.throwsAsync(put(1, Buffer.alloc((15 << 20) + 1)))
  await t.throwsAsync(client.connection.request('GET', '/v1/documents/bitmap?after=', { maxBytes: 1000 }), {
    code: 'PROTOCOL',
  })
})
