/** What every ShardTransport does, to a real peer and to a rogue. Run by data-transport.test.ts and https-transport.test.ts. */
import type { TestFn } from 'ava'
import { Secret } from '../../src/native.js'
import { hostOf, otherFleet } from '../keys/fleet.js'
import { makeShard, shardId, startPeer, throwsOneOf, transportTo, type Way } from './peer.js'
import { rogueConformance } from './rogue-conformance.js'

/** Of 4 MiB, a shard's most. */
const large = (shard: string) => makeShard(shard, Buffer.alloc(4 << 20, 'imager'))

export function conformance(test: TestFn, way: Way): void {
  carrying(test, way)
  ranges(test, way)
  granting(test, way)
  reading(test, way)
  rogueConformance(test, way)
}

function carrying(test: TestFn, way: Way): void {
  test(`a shard goes there and comes back, whole and in ranges (${way})`, async (t) => {
    const peer = await startPeer(t, {}, way)
    const shard = shardId(1)
    const bytes = large(shard)
    await peer.send(shard, bytes)
    const client = peer.client(peer.fleet.appliance)
    t.true((await client.fetchBody(shard)).take().equals(bytes))
    for (const [start, end] of [
      [0, 1],
      [4096, 5000],
      [4096, bytes.length],
      [bytes.length - 1, bytes.length],
    ] as const) {
      t.true((await client.fetchBody(shard, [start, end])).take().equals(bytes.subarray(start, end)))
    }
    await t.throwsAsync(client.fetchBody(shard, [4096, bytes.length + 1]), { code: 'SHARD_CORRUPT' })
    await t.throwsAsync(client.fetchBody(shardId(2)), { code: 'SHARD_MISSING', message: /pc-1/ })
    t.deepEqual(await client.fetchInventory(), { shards: [{ shard, bytes: bytes.length }], next: null })
    const state = await client.fetchState()
    t.is(state.usedBytes, bytes.length)
    t.is(state.capacityBytes, state.usedBytes + state.freeBytes)
  })

  test(`shards of every length go and come whole, many at once (${way})`, async (t) => {
    const peer = await startPeer(t, {}, way)
    const shards = transportTo(t, way, peer)
    const lengths = [1, 4095, 65_535, 65_536, 65_537, 1 << 20, 4 << 20]
    const work = Array.from({ length: 21 }, async (_, index) => {
      const shard = shardId(index)
      const file = makeShard(shard, Buffer.alloc(lengths[index % lengths.length] ?? 0, index + 1))
      await shards.put(shard, Uint8Array.from(file), peer.grant(shard, file.length))
      const whole = await shards.fetch(shard, undefined)
      t.is(whole.length, file.length)
      t.true(whole.take().equals(file))
      t.true((await shards.fetch(shard, [9, 4000])).take().equals(file.subarray(9, 4000)))
    })
    await Promise.all(work)
  })

  test(`a call that was given up leaves nothing to the next one (${way})`, async (t) => {
    const peer = await startPeer(t, {}, way)
    const [one, two] = [large(shardId(1)), makeShard(shardId(2), Buffer.alloc(100_000, 2))]
    await peer.send(shardId(1), one)
    await peer.send(shardId(2), two)
    const shards = transportTo(t, way, peer)
    for (let turn = 0; turn < 12; turn++) {
      const stop = new AbortController()
      const given = shards.fetch(shardId(1), undefined, { signal: stop.signal })
      setTimeout(() => stop.abort(), turn)
      await given.then(
        (body) => t.true(body.take().equals(one)),
        (error: { code?: string }) => t.is(error.code, 'INTERRUPTED'),
      )
      t.true((await shards.fetch(shardId(2), undefined)).take().equals(two))
    }
  })
}

function ranges(test: TestFn, way: Way): void {
  test(`an empty range and one past the end are refused, and the next question is answered (${way})`, async (t) => {
    const peer = await startPeer(t, {}, way)
    const shard = shardId(1)
    const bytes = makeShard(shard, Buffer.alloc(1000, 1))
    await peer.send(shard, bytes)
    const shards = transportTo(t, way, peer)
    const wrong: [codes: string, start: number, end: number][] = [
      ['PROTOCOL', 0, 0],
      ['PROTOCOL', 9, 9],
      ['PROTOCOL', 9, 5],
      ['PROTOCOL', 0, 2 ** 53],
      ['SHARD_CORRUPT', 0, bytes.length + 1],
      ['SHARD_CORRUPT', bytes.length, bytes.length + 1],
      ['SHARD_CORRUPT', 1e9, 1e9 + 1],
      // Longer than any shard: which of the two is said depends on who sees it first.
      ['PROTOCOL SHARD_CORRUPT', 0, 64 << 20],
      ['PROTOCOL SHARD_CORRUPT', 0, 2 ** 53 - 1],
    ]
    for (const [codes, start, end] of wrong) {
      await throwsOneOf(t, codes, shards.fetch(shard, [start, end]), `${start} to ${end}`)
      t.true((await shards.fetch(shard, [0, bytes.length])).take().equals(bytes))
    }
  })
}

function granting(test: TestFn, way: Way): void {
  test(`nothing is stored without the grant that fits (${way})`, async (t) => {
    const peer = await startPeer(t, {}, way)
    const shard = shardId(1)
    const bytes = makeShard(shard, Buffer.alloc(100_000, 1))
    const { appliance, coordinator, peer: own } = peer.fleet
    const client = peer.client(appliance)
    const fits = () => peer.grant(shard, bytes.length)
    const wrong: [string, string][] = [
      ['length', peer.grant(shard, bytes.length + 1)],
      ['shard', peer.grant(shardId(2), bytes.length)],
      ['shard', peer.grant(shard, bytes.length, { writer: hostOf(appliance) })],
      ['shard', peer.grant(shard, bytes.length, { run: '00'.repeat(8) })],
      ['shard', peer.grant(shard, bytes.length, { index: 1 })],
      ['host', peer.grant(shard, bytes.length, { host: hostOf(coordinator) })],
      ['bearer', peer.grant(shard, bytes.length, { bearer: hostOf(coordinator) })],
      ['fleet', peer.grant(shard, bytes.length, { fleet: otherFleet })],
      ['term', peer.grant(shard, bytes.length, { term: 2 })],
      ['signer', peer.grant(shard, bytes.length, {}, own)],
    ]
    for (const [field, grant] of wrong) {
      await t.throwsAsync(client.sendShard(shard, bytes, grant), { code: 'NOT_ALLOWED', message: new RegExp(field) })
    }
    peer.now.value += 365 * 86_400_000
    for (const grant of ['', 'AAAA', fits().slice(0, 100)]) {
      await t.throwsAsync(client.sendShard(shard, bytes, grant), { code: 'CORRUPT' })
    }
    t.deepEqual((await peer.store.inventory('', 9)).shards, [])
    await client.sendShard(shard, bytes, fits())
    await client.sendShard(shard, bytes, fits())
    const other = makeShard(shard, Buffer.alloc(100_000, 2))
    await t.throwsAsync(client.sendShard(shard, other, fits()), { code: 'HOST_REFUSED' })
  })

  test(`a damaged shard, or one of another name, is not stored (${way})`, async (t) => {
    const peer = await startPeer(t, {}, way)
    const shard = shardId(1)
    const bytes = makeShard(shard, Buffer.alloc(200_000, 1))
    for (const at of [0, 10, 40, 100, 5000, bytes.length - 1]) {
      const damaged = Buffer.from(bytes)
      damaged[at] = (damaged[at] ?? 0) ^ 1
      await t.throwsAsync(peer.send(shard, damaged), { code: 'CORRUPT', message: /arrived damaged/ }, `byte ${at}`)
    }
    await t.throwsAsync(peer.send(shardId(2), bytes), { code: 'FORGED' })
    const foreign = makeShard(shardId(3), Buffer.alloc(1000, 1), otherFleet)
    await t.throwsAsync(peer.send(shardId(3), foreign), { code: 'FORGED', message: /of this fleet/ })
    t.deepEqual((await peer.store.inventory('', 9)).shards, [])
  })

  test(`a full peer says so before the bytes are sent, and goes on serving (${way})`, async (t) => {
    const peer = await startPeer(t, { maxBytes: 6000 }, way)
    const first = makeShard(shardId(1), Buffer.alloc(1000, 1))
    await peer.send(shardId(1), first)
    const second = makeShard(shardId(2), Buffer.alloc(1 << 20, 1))
    await t.throwsAsync(peer.send(shardId(2), second), { code: 'HOST_FULL', message: /pc-1 has no space/ })
    await peer.send(shardId(1), first)
    t.is((await peer.client(peer.fleet.appliance).fetchBody(shardId(1))).length, first.length)
  })
}

function reading(test: TestFn, way: Way): void {
  test(`who may read: not peers, not strangers; the root always (${way})`, async (t) => {
    const peer = await startPeer(t, {}, way)
    const shard = shardId(1)
    await peer.send(shard, makeShard(shard, Buffer.alloc(10, 1)))
    for (const who of [peer.fleet.appliance, peer.fleet.coordinator, peer.fleet.root]) {
      t.is((await peer.client(who).fetchBody(shard)).length, 4106)
      t.is((await peer.client(who).fetchInventory()).shards.length, 1)
    }
    const other = peer.client(peer.fleet.peer)
    await t.throwsAsync(other.fetchBody(shard), { code: 'NOT_ALLOWED' })
    await t.throwsAsync(other.fetchInventory(), { code: 'NOT_ALLOWED' })
    await t.throwsAsync(other.fetchDocument('key', '0'.repeat(64)), { code: 'NOT_ALLOWED' })
    t.true((await other.fetchState()).freeBytes > 0)
    const stranger = peer.client(Secret.random())
    for (const asked of [
      stranger.fetchBody(shard),
      stranger.fetchState(),
      stranger.sendDocument('head', shardId(1), Buffer.alloc(100_000)),
    ]) {
      await t.throwsAsync(asked, { code: 'NOT_ALLOWED', message: /member/ })
    }
  })
}
