import test from 'ava'
import { fullName } from '../../src/catalog/choose.js'
import { LocalCatalog } from '../../src/catalog/local.js'
import type { HeadFacts } from '../../src/catalog/parts.js'
import { runName, runOf, shardOf, stripeOf } from '../../src/stripes/names.js'
import { conformance, type Stand } from './conformance.js'
import {
  addPeers,
  held,
  hex,
  ids,
  member,
  nextStripe,
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

test('a catalog is rebuilt in bulk, and later runs have names of their own', async (t) => {
  const s = await stand(t)
  const content = ids(20)
  const run = s.local.names.number(runName(s.appliance, hex(8)))
  const births = BigUint64Array.from({ length: 20 }, (_, i) => (BigInt(stripeOf(run, 77)) << 16n) + BigInt(i))
  const [first, second] = [stripeOf(run, 500), stripeOf(run, 501)]
  const facts: HeadFacts = {
    appliance: s.appliance,
    volume: hex(16),
    sequence: 9,
    snapshot: hex(16),
    parent: null,
    time: 5,
  }
  const named = references([first, second], s.local.names)
  const snapshot = { head: plainHead(facts), references: named, summary: summary(), source: '/dev/sda', label: '' }
  s.local.importSnapshot(snapshot)
  t.like((await s.local.snapshots())[0], { survives: -1, state: 'incomplete' })
  const request = placement(4, 2, s.peers)
  const row = (stripe: number, keep: (index: number) => boolean) => ({
    stripe,
    k: 4,
    m: 2,
    packBytes: 100_000,
    shards: held(request, keep).map((shard) => ({ ...shard, shard: hex(16) })),
    records: recordsOf(content),
    births,
  })
  const stripes = [row(first, () => true), row(second, (index) => index > 0)]
  await s.local.importStripes(stripes)
  await s.local.importStripes(stripes)
  s.local.importSnapshot(snapshot)
  t.like((await s.local.snapshots())[0], { survives: 1, state: 'sealed', sequence: 9 })
  t.is((await s.local.snapshots()).length, 1)
  t.deepEqual(await s.local.snapshotStripes(facts.snapshot), [first, second])

  const begun = await s.local.begin({ appliance: s.appliance, volume: facts.volume, source: 'x', label: '' })
  t.is(begun.sequence, 10)
  t.is(begun.parent, facts.snapshot)
  t.deepEqual([...(await s.local.lookup(begun.lease, content, 2))], [...births], 'births are kept')
  t.not(runOf(nextStripe(s.local, s.appliance, begun)), run)
  const short = { ...row(stripeOf(run, 600), () => true), births: births.subarray(1) }
  await t.throwsAsync(s.local.importStripes([short]), { code: 'PROTOCOL' })
})

test('a transaction that is taken back gives its numbers to others, and nobody meets them under two names', async (t) => {
  const s = await stand(t)
  const [lost, kept] = [hex(8), hex(8)]
  const begin = (run: string) => s.local.begin({ run, appliance: s.appliance, volume: hex(16), source: 'x', label: '' })
  t.throws(() =>
    s.local.write(() => {
      begin(lost).catch(() => {})
      throw new Error('taken back')
    }),
  )
  const begun = await begin(kept)
  const stripe = nextStripe(s.local, s.appliance, begun)
  const request = placement(4, 2, s.peers, stripe)
  await s.local.place(begun.lease, request)
  const shape = { stripe, k: 4, m: 2, packBytes: 100_000, records: recordsOf(ids(1)), shards: held(request) }
  await s.local.commit(begun.lease, shape)
  const [row] = await s.local.stripes([stripe])
  t.is(row?.shards[0]?.shard, shardOf(runName(s.appliance, kept), stripe, 0))
  t.deepEqual(await s.local.stripes([stripeOf(s.local.names.number(runName(s.appliance, lost)), 0)]), [])
})

test('two appliances may have a snapshot of one id: each has its own', async (t) => {
  const s = await stand(t)
  const other = hex(32)
  s.local.members.admit(member(other, 'appliance', 'thief'))
  const facts: HeadFacts = {
    ...{ appliance: s.appliance, volume: hex(16), sequence: 1 },
    snapshot: hex(16),
    parent: null,
    time: 5,
  }
  const stripes = [s.appliance, other].map((writer) => stripeOf(s.local.names.number(runName(writer, hex(8))), 5))
  const take = (appliance: string, stripe: number) => {
    const named = references([stripe], s.local.names)
    const found = { source: '/dev/sda', label: '', summary: summary(), references: named }
    s.local.importSnapshot({ ...found, head: plainHead({ ...facts, appliance }) })
    return fullName({ appliance, id: facts.snapshot })
  }
  const [own, stolen] = [take(s.appliance, stripes[0] as number), take(other, stripes[1] as number)]
  t.is((await s.local.snapshots()).length, 2)
  t.like(await s.local.snapshot(own), { appliance: s.appliance })
  t.like(await s.local.snapshot(stolen), { appliance: other })
  t.like(await s.local.snapshot(facts.snapshot, { host: 'srv' }), { appliance: s.appliance })
  await t.throwsAsync(s.local.snapshot(facts.snapshot), { code: 'NO_SUCH_SNAPSHOT', message: /--host chooses/ })
  t.deepEqual(await s.local.snapshotStripes(own), [stripes[0]])
  t.deepEqual(await s.local.snapshotStripes(stolen), [stripes[1]])
  await t.throwsAsync(s.local.snapshotStripes(facts.snapshot), { code: 'NO_SUCH_SNAPSHOT' })
  t.like(await s.local.snapshot(facts.snapshot, {}, s.appliance), { appliance: s.appliance })
  t.deepEqual(await s.local.snapshotStripes(facts.snapshot, s.appliance), [stripes[0]])
  for (const ask of [s.local.snapshot(stolen, {}, s.appliance), s.local.snapshotStripes(stolen, s.appliance)])
    await t.throwsAsync(ask, { code: 'NO_SUCH_SNAPSHOT' })
})

test('what was written is there after closing and opening', async (t) => {
  const folder = temporaryFolder()
  t.teardown(folder.remove)
  const clock = new TurnedClock()
  const first = openPlain(folder.path, clock)
  const peers = addPeers(first, 3)
  const appliance = hex(32)
  const begun = await first.begin({ appliance, volume: hex(16), source: 'x', label: '' })
  const { lease } = begun
  const stripe = nextStripe(first, appliance, begun)
  const request = placement(2, 1, peers, stripe)
  const content = ids(5)
  await first.place(lease, request)
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
  const appliance = hex(32)
  command.names.number(runName(hex(32), hex(8)))
  const { lease, run } = await daemon.begin({ appliance, volume: hex(16), source: 'x', label: '' })
  const stripe = ({ names }: LocalCatalog, number: number) => stripeOf(names.number(runName(appliance, run)), number)
  t.not(stripe(daemon, 0), stripe(command, 0), 'each has a number of its own for it')
  const content = ids(5)
  const request = placement(2, 1, peers, stripe(command, 0))
  const commit = { k: 2, m: 1, packBytes: 100_000, records: recordsOf(content), shards: held(request) }
  await command.place(lease, request)
  await daemon.commit(lease, { stripe: stripe(daemon, 0), ...commit })
  const births = await command.lookup(lease, content, 1)
  t.is(births[0], BigInt(stripe(command, 0)) << 16n)
  await command.commit(lease, { stripe: stripe(command, 0), ...commit })
  t.deepEqual(
    (await command.stripes([stripe(command, 0)]))[0]?.shards,
    (await daemon.stripes([stripe(daemon, 0)]))[0]?.shards,
  )
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

test('what is committed is found at once, here and by another process, though stripes beside it were asked for before', async (t) => {
  const folder = temporaryFolder()
  t.teardown(folder.remove)
  const clock = new TurnedClock()
  const [one, two] = [openPlain(folder.path, clock), openPlain(folder.path, clock)]
  const peers = addPeers(one, 3)
  const appliance = hex(32)
  const begun = await one.begin({ appliance, volume: hex(16), source: 'x', label: '' })
  const { lease } = begun
  const commit = async (catalog: LocalCatalog) => {
    const stripe = nextStripe(catalog, appliance, begun)
    const request = placement(2, 1, peers, stripe)
    const [content, shape] = [ids(5), { k: 2, m: 1, packBytes: 100_000 }]
    await catalog.place(lease, request)
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
