import { readdirSync, utimesSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import test from 'ava'
import { KEYS_A_DAY, KEYS_AN_OWNER } from '../../src/base/limits.js'
import { tlsIdentity } from '../../src/keys/certificate.js'
import { entryName, makeKey, RECOVERY, readEntry, type Sealing, sealEntry } from '../../src/keys/entry.js'
import { signHead } from '../../src/keys/head.js'
import { Secret } from '../../src/native.js'
import { fleet, hostOf, member, otherFleet, sealingOf, signPlain, type TestFleet } from '../keys/fleet.js'
import { bare } from '../wire/loopback.js'
import { makeShard, RUN, shardId, startPeer } from './peer.js'

const snapshot = 'ab'.repeat(16)

function makeHead(members: TestFleet, signer = members.appliance, sequence = 1, id = snapshot) {
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
    { fleet, appliance, volume: snapshot, sequence, snapshot: id, parent: null, time: 5, root, references },
    signer,
    Secret.random(),
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
    const gone = body.hosts.filter(({ host }) => host === hostOf(appliance))
    const hosts = [...body.hosts.filter((one) => !gone.includes(one)), member(guest, 'new', role)]
    return clients.root.sendDocument('membership', fleet, signPlain({ ...body, sequence, hosts, gone }, coordinator))
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

test('heads are kept once, from appliances, under the name of their appliance and snapshot', async (t) => {
  const peer = await startPeer(t)
  const client = peer.client(peer.fleet.appliance)
  const head = makeHead(peer.fleet)
  const name = hostOf(peer.fleet.appliance) + snapshot
  t.is(await client.fetchDocument('head', name), undefined)
  await client.sendDocument('head', name, head)
  await client.sendDocument('head', name, head)
  t.deepEqual(await client.fetchDocument('head', name), head)
  const put = (bytes: Buffer, as = name) => client.sendDocument('head', as, bytes)
  await t.throwsAsync(put(makeHead(peer.fleet, peer.fleet.appliance, 2)), { code: 'HOST_REFUSED' })
  for (const signer of [peer.fleet.peer, Secret.random()]) {
    const forged = makeHead(peer.fleet, signer)
    await t.throwsAsync(put(forged), { code: 'FORGED' }, 'under the name of another')
    await t.throwsAsync(put(forged, hostOf(signer) + snapshot), { code: 'NOT_ALLOWED' })
  }
  for (const as of [snapshot, hostOf(peer.fleet.appliance) + 'ef'.repeat(16)])
    await t.throwsAsync(put(head, as), { code: 'FORGED' }, as)
  await t.throwsAsync(put(sealEntry(Secret.random(), toRecovery(peer.fleet), peer.fleet.appliance)), { code: 'FORGED' })
  const flipped = Buffer.from(head)
  flipped[60] = (flipped[60] ?? 0) ^ 1
  await t.throwsAsync(put(flipped), { code: 'FORGED' })
  t.deepEqual(await client.fetchDocument('head', name), head)
  writeFileSync(join(peer.folder, 'documents', 'head', name), flipped)
  await put(head)
  t.deepEqual(await client.fetchDocument('head', name), head, 'one that rotted gives way')
})

test('all heads are listed page by page, whatever their names', async (t) => {
  const peer = await startPeer(t)
  const client = peer.client(peer.fleet.appliance)
  const names = [1, 2, 3].map((index) => hostOf(peer.fleet.appliance) + shardId(index)).sort()
  for (const name of names) {
    const head = makeHead(peer.fleet, peer.fleet.appliance, 1, name.slice(64))
    await client.sendDocument('head', name, head)
  }
  const listed: string[] = []
  for await (const { name } of client.fetchDocuments('head')) listed.push(name)
  t.deepEqual(listed, names)
  const after = await client.connection.request('GET', `/v1/documents/head?after=${names[1]}`, { maxBytes: 100_000 })
  t.regex(after.body.toString('latin1'), new RegExp(names[2] ?? ''))
  t.notRegex(after.body.toString('latin1'), new RegExp(names[1] ?? ''))
})

const toRecovery = (members: TestFleet, more: Partial<Sealing> = {}): Sealing => ({
  ...{ fleet, term: 1, purpose: 'manifest', owner: hostOf(members.appliance), reader: RECOVERY },
  ...{ readerSealing: sealingOf(members.root), ...more },
})

const nameOf = (entry: Buffer) => entryName(readEntry(entry).entry)

test('of the key entries of one name the first stays, whoever brings which other', async (t) => {
  const peer = await startPeer(t)
  const { appliance, coordinator, root } = peer.fleet
  const client = peer.client(coordinator)
  const put = (entry: Buffer, name = nameOf(entry)) => client.sendDocument('key', name, entry)
  const key = Secret.random()
  const first = sealEntry(key, toRecovery(peer.fleet), appliance)
  await put(first)
  await put(first)
  const held = { code: 'HOST_REFUSED', message: /another entry of that key/ }
  await t.throwsAsync(put(sealEntry(key, toRecovery(peer.fleet), appliance)), held)
  const junk = toRecovery(peer.fleet, { readerSealing: sealingOf(Secret.random()) })
  await t.throwsAsync(put(sealEntry(key, junk, appliance)), held)
  await t.throwsAsync(put(sealEntry(key, toRecovery(peer.fleet), root)), held, 'not even the root takes one away')
  await t.throwsAsync(put(Buffer.alloc(0), nameOf(first)), { code: 'CORRUPT' })
  t.deepEqual(await client.fetchDocument('key', nameOf(first)), first)
  // One that rotted on the disk gives way to a whole one.
  const path = join(peer.folder, 'documents', 'key', nameOf(first))
  writeFileSync(path, Buffer.concat([first.subarray(0, 80), Buffer.alloc(first.length - 80)]))
  await put(first)
  t.deepEqual(await client.fetchDocument('key', nameOf(first)), first)
})

test('a key entry that is forged, of no member, of another term, for another, or under a name of another is refused', async (t) => {
  const peer = await startPeer(t)
  const { appliance, coordinator } = peer.fleet
  const client = peer.client(appliance)
  const put = (entry: Buffer, name = nameOf(entry)) => client.sendDocument('key', name, entry)
  const seal = (more: Partial<Sealing>, signer = appliance) =>
    sealEntry(Secret.random(), toRecovery(peer.fleet, more), signer)
  const notAllowed = { code: 'NOT_ALLOWED', message: /Its signer may not write a key/ }
  await t.throwsAsync(put(seal({}, peer.fleet.peer)), notAllowed, "another's")
  await t.throwsAsync(put(seal({ owner: hostOf(coordinator) })), notAllowed, 'of the coordinator, by an appliance')
  await t.throwsAsync(put(seal({ owner: hostOf(peer.fleet.peer) }, peer.fleet.peer)), notAllowed, 'a peer has none')
  const stranger = Secret.random()
  await t.throwsAsync(put(seal({ owner: hostOf(stranger) }, stranger)), notAllowed)
  await t.throwsAsync(put(seal({ term: 2 })), notAllowed, 'a term that has not come')
  await t.throwsAsync(put(seal({ purpose: 'catalog' })), notAllowed)
  await t.throwsAsync(put(seal({ reader: hostOf(coordinator) })), notAllowed)
  await t.throwsAsync(put(seal({ fleet: otherFleet })), { code: 'FORGED' })
  const good = seal({})
  await t.throwsAsync(put(good, nameOf(seal({}))), { code: 'FORGED', message: /under the name of another/ })
  await t.throwsAsync(put(good, '0'.repeat(64)), { code: 'FORGED' })
  await t.throwsAsync(put(good, '../../x'), { code: 'PROTOCOL' })
  for (const at of [45, 120, good.length - 1]) {
    const flipped = Buffer.from(good)
    flipped[at] = (flipped[at] ?? 0) ^ 1
    await t.throwsAsync(put(flipped, nameOf(good)), undefined, `byte ${at}`)
  }
  t.deepEqual(await peer.store.documents('key'), [])
  await put(good)
})

test('junk under new keys ends at the caps of its owner, and pushes nothing out', async (t) => {
  const peer = await startPeer(t)
  const { appliance, coordinator, root } = peer.fleet
  const client = peer.client(appliance)
  const folder = join(peer.folder, 'documents', 'key')
  const put = (entry: Buffer) => client.sendDocument('key', nameOf(entry), entry)
  const maker = { fleet, term: 1, rootSealing: sealingOf(root), identity: appliance }
  const full = { code: 'TOO_MANY_KEYS', message: /^The peer takes no more new keys of host/ }
  peer.now.value = Date.now()
  const keys: Buffer[][] = []
  for (let key = 0; key < KEYS_AN_OWNER; key++) {
    const entries = makeKey('manifest', maker)
    keys.push(entries)
    if (key % KEYS_A_DAY === 0 && key > 0) {
      await t.throwsAsync(put(entries[0] as Buffer), { ...full, message: /4 new ones within a day/ })
      const old = new Date(peer.now.value - 86_400_000)
      for (const name of readdirSync(folder)) utimesSync(join(folder, name), old, old)
    }
    for (const entry of entries) await put(entry)
  }
  const old = new Date(peer.now.value - 86_400_000)
  for (const name of readdirSync(folder)) utimesSync(join(folder, name), old, old)
  await t.throwsAsync(put(makeKey('manifest', maker)[0] as Buffer), { ...full, message: /holds 64 of them/ })
  const held = await collect(peer.client(root).fetchDocuments('key'))
  t.is(held.length, 2 * KEYS_AN_OWNER)
  t.true(
    keys[0]?.every((entry) => held.some(({ bytes }) => bytes.equals(entry))),
    'the first are there',
  )
  const other = makeKey('domain', { ...maker, identity: coordinator })
  for (const entry of other) await put(entry)
  t.is((await peer.store.documents('key')).length, 2 * KEYS_AN_OWNER + 2, 'others are not touched')
})

test('new keys that come at once do not pass the cap together', async (t) => {
  const peer = await startPeer(t)
  peer.now.value = Date.now()
  const client = peer.client(peer.fleet.appliance)
  const maker = { fleet, term: 1, rootSealing: sealingOf(peer.fleet.root), identity: peer.fleet.appliance }
  const entries = Array.from({ length: 3 * KEYS_A_DAY }, () => makeKey('manifest', maker)[0] as Buffer)
  const outcomes = await Promise.allSettled(entries.map((entry) => client.sendDocument('key', nameOf(entry), entry)))
  t.is(outcomes.filter(({ status }) => status === 'fulfilled').length, KEYS_A_DAY)
  t.is((await peer.store.documents('key')).length, KEYS_A_DAY)
})

test('a newer membership is kept and handed over; an older one or a forged one is not', async (t) => {
  const peer = await startPeer(t)
  const { body, coordinator, appliance } = peer.fleet
  const signed = (sequence: number, signer = coordinator, hosts = body.hosts) =>
    signPlain({ ...body, sequence, hosts }, signer)
  const client = peer.client(appliance)
  const third = signed(3)
  await client.sendDocument('membership', fleet, third)
  t.deepEqual(peer.adopted, [third])
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
  t.deepEqual(await collect(client.fetchDocuments('head')), [])
  const names: string[] = []
  for (let index = 0; index < 30; index++) {
    const name = index.toString(16).padStart(64, '0')
    names.push(name)
    await peer.store.putDocument('head', name, Buffer.alloc(1_000_000, index), () => {})
  }
  const all = await collect(client.fetchDocuments('head'))
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
