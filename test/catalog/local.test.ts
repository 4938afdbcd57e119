import test from 'ava'
import { LocalCatalog } from '../../src/catalog/local.js'
import type { HeadFacts } from '../../src/catalog/parts.js'
import { conformance, type Stand } from './conformance.js'
import {
  addPeers,
  held,
  hex,
  ids,
  member,
  offer,
  openPlain,
  placement,
  plainHead,
  plainParts,
  recordsOf,
  references,
  summary,
  TurnedClock,
  temporaryFolder,
} from './harness.js'

async function stand(t: { teardown(fn: () => void): void }): Promise<Stand> {
  const folder = temporaryFolder()
  const clock = new TurnedClock()
  const local = openPlain(folder.path, clock)
  t.teardown(() => {
    local.close()
    folder.remove()
  })
  const appliance = hex(32)
  local.members.admit(member(appliance, 'appliance', 'srv'))
  local.members.admit(member(hex(32), 'admin', 'boss'))
  const peers = addPeers(local, 6)
  const beat = () => {
    for (const peer of peers) local.members.heartbeat(peer, offer(`disk-${peer}`))
  }
  return { catalog: local, local, clock, appliance, peers, head: plainHead, beat }
}

conformance(test, stand)

test('a catalog is rebuilt in bulk, and stripes are numbered after the highest imported', async (t) => {
  const s = await stand(t)
  const content = ids(20)
  const births = BigUint64Array.from({ length: 20 }, (_, i) => 77n * 65_536n + BigInt(i))
  const facts: HeadFacts = {
    appliance: s.appliance,
    volume: hex(16),
    sequence: 9,
    snapshot: hex(16),
    parent: null,
    time: 5,
  }
  const named = references([500, 501])
  const snapshot = { head: plainHead(facts), references: named, summary: summary(), source: '/dev/sda', label: '' }
  s.local.importSnapshot(snapshot)
  t.like((await s.local.snapshots())[0], { survives: -1, state: 'incomplete' })
  const request = placement(4, 2, s.peers)
  const row = (stripe: number, keep: (index: number) => boolean) => ({
    writer: s.appliance,
    stripe,
    k: 4,
    m: 2,
    packBytes: 100_000,
    shards: held(request, keep),
    records: recordsOf(content),
    births,
  })
  const stripes = [row(500, () => true), row(501, (index) => index > 0)]
  await s.local.importStripes(stripes)
  await s.local.importStripes(stripes)
  s.local.importSnapshot(snapshot)
  t.like((await s.local.snapshots())[0], { survives: 1, state: 'sealed', sequence: 9 })
  t.is((await s.local.snapshots()).length, 1)

  const begun = await s.local.begin({ appliance: s.appliance, volume: facts.volume, source: 'x', label: '' })
  t.is(begun.sequence, 10)
  t.is(begun.parent, facts.snapshot)
  t.deepEqual([...(await s.local.lookup(begun.lease, content, 2))], [...births], 'birth numbers are kept')
  t.is((await s.local.place(begun.lease, placement(4, 2, s.peers))).stripe, 502)
  const stolen = { ...row(500, () => true), writer: hex(32) }
  await t.throwsAsync(s.local.importStripes([stolen]), { code: 'FORGED' })
  const taken = { ...snapshot, head: plainHead({ ...facts, appliance: hex(32) }) }
  t.throws(() => s.local.importSnapshot(taken), { code: 'FORGED' })
  const short = { ...row(600, () => true), births: births.subarray(1) }
  await t.throwsAsync(s.local.importStripes([short]), { code: 'PROTOCOL' })
})

test('what was written is there after closing and opening', async (t) => {
  const folder = temporaryFolder()
  t.teardown(folder.remove)
  const clock = new TurnedClock()
  const first = openPlain(folder.path, clock)
  const peers = addPeers(first, 3)
  const { lease } = await first.begin({ appliance: hex(32), volume: hex(16), source: 'x', label: '' })
  const request = placement(2, 1, peers)
  const content = ids(5)
  const { stripe } = await first.place(lease, request)
  await first.commit(lease, {
    stripe,
    k: 2,
    m: 1,
    packBytes: 100_000,
    records: recordsOf(content),
    shards: held(request),
  })
  first.registry.record('join', peers[0] as string, 'pc1 joined')
  first.close()
  const second = openPlain(folder.path, clock)
  t.teardown(() => second.close())
  t.is((await second.hosts()).length, 3)
  t.true((await second.lookup(lease, content, 1)).every((birth) => birth > 0n))
  t.like(second.registry.events()[0], { kind: 'join', sentence: 'pc1 joined' })
})

test('two processes may hold one catalog: what one commits, the other sees', async (t) => {
  const folder = temporaryFolder()
  t.teardown(folder.remove)
  const clock = new TurnedClock()
  const [daemon, command] = [openPlain(folder.path, clock), openPlain(folder.path, clock)]
  t.teardown(() => {
    daemon.close()
    command.close()
  })
  const peers = addPeers(command, 3)
  const { lease } = await daemon.begin({ appliance: hex(32), volume: hex(16), source: 'x', label: '' })
  const request = placement(2, 1, peers)
  const content = ids(5)
  const commit = { k: 2, m: 1, packBytes: 100_000, records: recordsOf(content), shards: held(request) }
  const { stripe } = await command.place(lease, request)
  await daemon.commit(lease, { stripe, ...commit })
  t.true((await command.lookup(lease, content, 1)).every((birth) => birth > 0n))
  const [one, two] = await Promise.all([daemon.place(lease, request), command.place(lease, placement(2, 1, peers))])
  t.not(one.stripe, two.stripe)
})

test('a folder that holds something else is refused by name', async (t) => {
  const { mkdirSync, writeFileSync } = await import('node:fs')
  const { default: Database } = await import('better-sqlite3')
  const folder = temporaryFolder()
  t.teardown(folder.remove)
  mkdirSync(`${folder.path}/catalog`)
  writeFileSync(`${folder.path}/catalog/catalog.db`, Buffer.alloc(8192, 7))
  t.throws(() => openPlain(folder.path), { code: 'STATE_DAMAGED', message: /catalog\.db/ })

  const newer = temporaryFolder()
  t.teardown(newer.remove)
  openPlain(newer.path).close()
  const db = new Database(`${newer.path}/catalog/catalog.db`)
  db.pragma('user_version = 9')
  db.exec(`UPDATE checksum SET crc = 9 WHERE kind = 'schema' AND key = 'format'`)
  db.close()
  t.throws(() => LocalCatalog.open(newer.path, plainParts(new TurnedClock())), { code: 'UNSUPPORTED', message: /9/ })
})

test('numbers that absent hosts may have used are passed over', async (t) => {
  const s = await stand(t)
  s.local.skipStripes(1000)
  const begun = await s.local.begin({ appliance: s.appliance, volume: hex(16), source: 'x', label: '' })
  const [first] = await s.local.reserve(begun.lease, 1)
  t.true(first !== undefined && first > 1000)
  s.local.skipStripes(1000)
  const [later] = await s.local.reserve(begun.lease, 1)
  t.true(later !== undefined && first !== undefined && later > first + 1000)
})

test('what is committed is found at once, here and by another process, though stripes beside it were asked for before', async (t) => {
  const folder = temporaryFolder()
  t.teardown(folder.remove)
  const clock = new TurnedClock()
  const [one, two] = [openPlain(folder.path, clock), openPlain(folder.path, clock)]
  const peers = addPeers(one, 3)
  const { lease } = await one.begin({ appliance: hex(32), volume: hex(16), source: 'x', label: '' })
  const commit = async (catalog: LocalCatalog) => {
    const request = placement(2, 1, peers)
    const [content, shape] = [ids(5), { k: 2, m: 1, packBytes: 100_000 }]
    const { stripe } = await catalog.place(lease, request)
    await catalog.commit(lease, { stripe, ...shape, records: recordsOf(content), shards: held(request) })
    return content
  }
  for (const writer of [one, two, one, two]) {
    const content = await commit(writer)
    for (const reader of [one, two]) {
      t.true((await reader.lookup(lease, content, 1)).every((birth) => birth > 0n))
      t.true(
        (await reader.lookup(lease, content, 2)).every((birth) => birth === 0n),
        'it survives the loss of one',
      )
    }
  }
  one.close()
  two.close()
})
