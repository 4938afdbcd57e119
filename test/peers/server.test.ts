import { readdirSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import test from 'ava'
import { tlsIdentity } from '../../src/keys/certificate.js'
import { signHead } from '../../src/keys/head.js'
import { signKeybag } from '../../src/keys/keybag.js'
import { signMembership } from '../../src/keys/membership.js'
import { Secret } from '../../src/native.js'
import { fleet, hostOf, member, type TestFleet } from '../keys/fleet.js'
import { bare } from '../wire/loopback.js'
import { makeShard, RUN, shardId, startPeer } from './peer.js'

const snapshot = 'ab'.repeat(16)

function makeHead(members: TestFleet, signer = members.appliance, sequence = 1) {
  const shards = [{ index: 0, host: hostOf(members.peer) }]
  const root = {
    key: 'AAAA',
    ...RUN,
    number: 1,
    ordinal: 0,
    k: 1,
    m: 0,
    packBytes: 4096,
    offset: 0,
    length: 100,
    shards,
  }
  const references = 'cd'.repeat(32)
  const appliance = hostOf(signer)
  return signHead(
    { fleet, appliance, volume: snapshot, sequence, snapshot, parent: null, time: 5, root, references },
    signer,
  )
}

test('an upload that is cut in the middle leaves nothing', async (t) => {
  const peer = await startPeer(t)
  const shard = shardId(1)
  const bytes = makeShard(shard, Buffer.alloc(4 << 20, 1))
  const { key, cert } = tlsIdentity(peer.fleet.appliance)
  const { socket, closed } = await bare(t, peer.address, { key, cert })
  const grant = peer.grant(shard, bytes.length)
  socket.write(
    `PUT /v1/shards/${shard} HTTP/1.1\r\nhost: x\r\nimager-grant: ${grant}\r\ncontent-length: ${bytes.length}\r\n\r\n`,
  )
  socket.write(bytes.subarray(0, 2 << 20), () => socket.destroy())
  await closed
  await peer.send(shardId(2), makeShard(shardId(2), Buffer.alloc(10, 1)))
  t.deepEqual(
    (await peer.store.inventory('', 9)).shards.map((row) => row.shard),
    [shardId(2)],
  )
  t.deepEqual(readdirSync(join(peer.folder, 'incoming')), [])
  await peer.send(shard, bytes)
})

test('what a reader fetches costs no turn of JavaScript, from the moment on that he is one until he is none', async (t) => {
  const peer = await startPeer(t)
  const { body, coordinator, appliance } = peer.fleet
  const [shard, guest] = [shardId(1), Secret.random()]
  const bytes = makeShard(shard, Buffer.alloc(100_000, 1))
  await peer.send(shard, bytes)
  const clients = { appliance: peer.client(appliance), guest: peer.client(guest), root: peer.client(peer.fleet.root) }
  const reads = async (who: keyof typeof clients) => {
    const before = peer.looked.times
    t.true((await clients[who].fetchBody(shard)).take().equals(bytes))
    t.true((await clients[who].fetchBody(shard, [4000, 5000])).take().equals(bytes.subarray(4000, 5000)))
    t.is(peer.looked.times, before, `${who} is sent it at once`)
  }
  const refuses = (who: keyof typeof clients, message: RegExp) =>
    t.throwsAsync(clients[who].fetchBody(shard, [0, 10]), { code: 'NOT_ALLOWED', message })
  await reads('appliance')
  await refuses('guest', /member/)
  const adopt = (sequence: number, role: 'appliance' | 'peer') => {
    const hosts = [...body.hosts.filter(({ host }) => host !== hostOf(appliance)), member(guest, 'new', role)]
    return clients.root.sendDocument('membership', fleet, signMembership({ ...body, sequence, hosts }, coordinator))
  }
  await adopt(2, 'appliance')
  await refuses('appliance', /member/)
  await reads('guest')
  await reads('root')
  await adopt(3, 'peer')
  await refuses('guest', /may not read/)
  await reads('root')
})

test('ranges that are none, or of no shard, are refused as they always were', async (t) => {
  const peer = await startPeer(t)
  const shard = shardId(1)
  const bytes = makeShard(shard, Buffer.alloc(1000, 1))
  await peer.send(shard, bytes)
  const client = peer.client(peer.fleet.appliance)
  const wrong = {
    PROTOCOL: [
      [0, 0],
      [9, 9],
      [9, 5],
      [0, 2 ** 53],
      [2 ** 60, 2 ** 61],
    ],
    SHARD_CORRUPT: [
      [0, bytes.length + 1],
      [bytes.length, bytes.length + 1],
      [1e9, 1e9 + 1],
      [0, 2 ** 53 - 1],
    ],
  } as const
  for (const [code, ranges] of Object.entries(wrong)) {
    for (const range of ranges) await t.throwsAsync(client.fetchBody(shard, range), { code }, range.join())
  }
  await t.throwsAsync(client.fetchBody(shardId(2), [0, 10]), { code: 'SHARD_MISSING', message: /pc-1/ })
  t.true((await client.fetchBody(shard, [0, bytes.length])).take().equals(bytes))
})

test('heads are kept once, from appliances, under their own name', async (t) => {
  const peer = await startPeer(t)
  const client = peer.client(peer.fleet.appliance)
  const head = makeHead(peer.fleet)
  t.is(await client.fetchDocument('head', snapshot), undefined)
  await client.sendDocument('head', snapshot, head)
  await client.sendDocument('head', snapshot, head)
  t.deepEqual(await client.fetchDocument('head', snapshot), head)
  const put = (bytes: Buffer, name = snapshot) => client.sendDocument('head', name, bytes)
  await t.throwsAsync(put(makeHead(peer.fleet, peer.fleet.appliance, 2)), { code: 'HOST_REFUSED' })
  await t.throwsAsync(put(makeHead(peer.fleet, peer.fleet.peer)), { code: 'NOT_ALLOWED' })
  await t.throwsAsync(put(makeHead(peer.fleet, Secret.random())), { code: 'NOT_ALLOWED' })
  await t.throwsAsync(put(head, 'ef'.repeat(16)), { code: 'FORGED' })
  await t.throwsAsync(put(signKeybag(keybag(peer.fleet, 1), peer.fleet.appliance)), { code: 'FORGED' })
  const flipped = Buffer.from(head)
  flipped[60] = (flipped[60] ?? 0) ^ 1
  await t.throwsAsync(put(flipped), { code: 'FORGED' })
  t.deepEqual(await client.fetchDocument('head', snapshot), head)
})

const keybag = (members: TestFleet, sequence: number, filler = 0) => ({
  fleet,
  sequence,
  owner: hostOf(members.appliance),
  entries: Array.from({ length: filler }, () => Buffer.alloc(2000, sequence)),
})

test('a keybag gives way to a newer one only', async (t) => {
  const peer = await startPeer(t)
  const owner = hostOf(peer.fleet.appliance)
  const client = peer.client(peer.fleet.coordinator)
  const signed = (sequence: number, filler = 0) =>
    signKeybag(keybag(peer.fleet, sequence, filler), peer.fleet.appliance)
  await client.sendDocument('keybag', owner, signed(2))
  await client.sendDocument('keybag', owner, signed(2))
  await t.throwsAsync(client.sendDocument('keybag', owner, signed(1)), { code: 'HOST_REFUSED', message: /not older/ })
  await t.throwsAsync(client.sendDocument('keybag', owner, signed(2, 1)), { code: 'HOST_REFUSED' })
  await client.sendDocument('keybag', owner, signed(3))
  t.deepEqual(await client.fetchDocument('keybag', owner), signed(3))
})

test('a newer membership is kept and handed over; an older one or a forged one is not', async (t) => {
  const peer = await startPeer(t)
  const { body, coordinator, appliance } = peer.fleet
  const signed = (sequence: number, signer = coordinator, hosts = body.hosts) =>
    signMembership({ ...body, sequence, hosts }, signer)
  const client = peer.client(appliance)
  await client.sendDocument('membership', fleet, signed(3))
  t.deepEqual(peer.adopted, [signed(3)])
  await t.throwsAsync(client.sendDocument('membership', fleet, signed(2)), { code: 'HOST_REFUSED' })
  await t.throwsAsync(client.sendDocument('membership', fleet, signed(4, appliance)), { code: 'FORGED' })
  t.is(peer.adopted.length, 1)
  const guest = Secret.random()
  await client.sendDocument(
    'membership',
    fleet,
    signed(4, coordinator, [...body.hosts, member(guest, 'new', 'appliance')]),
  )
  t.deepEqual((await peer.client(guest).fetchInventory()).shards, [])
  t.truthy(await peer.client(peer.fleet.peer).fetchDocument('membership', fleet))
})

test('all documents of a kind come page by page', async (t) => {
  const peer = await startPeer(t)
  const client = peer.client(peer.fleet.root)
  t.deepEqual(await collect(client.fetchDocuments('keybag')), [])
  const names: string[] = []
  for (let index = 0; index < 30; index++) {
    const name = index.toString(16).padStart(64, '0')
    names.push(name)
    await peer.store.putDocument('keybag', name, Buffer.alloc(1_000_000, index), () => {})
  }
  const all = await collect(client.fetchDocuments('keybag'))
  t.deepEqual(
    all.map((one) => one.name),
    names,
  )
  t.true(all.every((one, index) => one.bytes.equals(Buffer.alloc(1_000_000, index))))
})

async function collect<T>(from: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const one of from) all.push(one)
  return all
}

test('noise on the port does not disturb it', async (t) => {
  const peer = await startPeer(t)
  const [host, port] = peer.address.split(':')
  for (const noise of ['GET / HTTP/1.1\r\n\r\n', '\x16\x03\x01\xff\xff', '']) {
    const socket = connect(Number(port), host)
    socket.on('error', () => {})
    socket.end(noise)
  }
  t.true((await peer.client(peer.fleet.appliance).fetchState()).freeBytes > 0)
})
