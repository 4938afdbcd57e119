import test from 'ava'
import { effectOn } from '../../src/catalog/departure.js'
import {
  addPeers,
  held,
  hex,
  ids,
  member,
  nextStripe,
  openPlain,
  placement,
  plainHead,
  recordsOf,
  references,
  summary,
  TurnedClock,
  temporaryFolder,
} from './harness.js'

test('what a departure means: lost is only what could be restored before, below target also what was so already', (t) => {
  const row = (id: string, survives: number, target: number) => ({ id, survives, target })
  const before = [
    row('untouched', 1, 1),
    row('weaker', 1, 1),
    row('enough', 1, 0),
    row('lost', 0, 0),
    row('was', -1, 1),
  ]
  const after = [
    row('untouched', 1, 1),
    row('weaker', 0, 1),
    row('enough', 0, 0),
    row('lost', -1, 0),
    row('was', -1, 1),
  ]
  t.deepEqual(effectOn(before, after), { lost: ['lost'], snapshotsBelowTarget: 3 })
  t.deepEqual(effectOn([], []), { lost: [], snapshotsBelowTarget: 0 })
})

test('with a host its shards go: lookups, figures and what is asked next know it at once', async (t) => {
  const folder = temporaryFolder()
  t.teardown(folder.remove)
  const clock = new TurnedClock()
  const catalog = openPlain(folder.path, clock)
  t.teardown(() => catalog.close())
  const peers = addPeers(catalog, 4)
  const [appliance, volume, by] = [hex(32), hex(16), hex(32)]
  catalog.members.admit(member(appliance, 'appliance', 'server'))
  const { lease, ...begun } = await catalog.begin({ appliance, volume, source: '/dev/sdb', label: '' })
  const stripe = nextStripe(catalog, appliance, begun)
  const request = placement(2, 2, peers, stripe)
  await catalog.place(lease, request)
  const blocks = ids(1)
  const { k, m, packBytes } = request
  await catalog.commit(lease, { stripe, k, m, packBytes, records: recordsOf(blocks), shards: held(request) })
  const named = references([stripe], catalog.names)
  const { snapshot, sequence, parent } = begun
  const head = plainHead({ appliance, volume, sequence, snapshot, parent, time: clock.now() })
  await catalog.finish(lease, { head, references: named, asked: false, summary: summary({ tolerate: 2, k: 2, m: 2 }) })
  const next = await catalog.begin({ appliance, volume, source: '/dev/sdb', label: '' })
  const isKnown = async (tolerate: number) => (await catalog.lookup(next.lease, blocks, tolerate))[0] !== 0n
  t.true(await isKnown(2))

  const [first, second, third] = peers as [string, string, string]
  t.deepEqual(catalog.removeHost(first, by, false), { lost: [], snapshotsBelowTarget: 1 })
  t.deepEqual([await isKnown(2), await isKnown(1)], [false, true])
  t.like((await catalog.snapshots())[0], { survives: 1, state: 'sealed' })
  t.is((await catalog.records([stripe]))[0]?.length, 0, 'less safe than its scheme: it may have been stored again')
  catalog.removeHost(second, by, false)
  t.throws(() => catalog.removeHost(third, by, false), { code: 'WOULD_LOSE' })
  t.is(catalog.members.role(third), 'peer')
  t.true(await isKnown(0))
  t.deepEqual(catalog.removeHost(third, by, true).lost, [snapshot])
  t.false(await isKnown(0))
  t.like((await catalog.snapshots())[0], { survives: -1, state: 'incomplete' })
  t.throws(() => catalog.removeHost(appliance, by, false), { code: 'WOULD_LOSE', message: /server has 1 snapshot,/ })

  // Who comes back brings nothing that is believed until somebody has looked.
  catalog.members.admit(member(first, 'peer', 'pc1'))
  t.like((await catalog.snapshots())[0], { survives: -1 })
})

test('a shard that was sent to a host which is removed before its stripe is committed counts as missing', async (t) => {
  const folder = temporaryFolder()
  t.teardown(folder.remove)
  const catalog = openPlain(folder.path)
  t.teardown(() => catalog.close())
  const peers = addPeers(catalog, 4)
  const appliance = hex(32)
  const { lease, ...begun } = await catalog.begin({ appliance, volume: hex(16), source: '/dev/sdb', label: '' })
  const stripe = nextStripe(catalog, appliance, begun)
  const request = placement(2, 2, peers, stripe)
  await catalog.place(lease, request)
  catalog.removeHost(peers[0] ?? '', hex(32), false)
  const { k, m, packBytes } = request
  const blocks = ids(1)
  await catalog.commit(lease, { stripe, k, m, packBytes, records: recordsOf(blocks), shards: held(request) })
  t.is((await catalog.lookup(lease, blocks, 2))[0], 0n)
  t.not((await catalog.lookup(lease, blocks, 1))[0], 0n)
  t.deepEqual(
    (await catalog.stripes([stripe]))[0]?.shards.map(({ fact }) => fact),
    ['missing', 'receipted', 'receipted', 'receipted'],
  )
})
