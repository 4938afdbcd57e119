import test, { type ExecutionContext } from 'ava'
import type { Hex } from '../../src/base/ids.js'
import type { LocalCatalog } from '../../src/catalog/local.js'
import { stateOf, VERIFIED_FOR_MS } from '../../src/catalog/state.js'
import type { Fact, StripeRow } from '../../src/catalog/types.js'
import { shardFileBytes } from '../../src/native.js'
import {
  addPeers,
  held,
  hex,
  idOf,
  nextStripe,
  offer,
  openPlain,
  placement,
  recordsOf,
  TurnedClock,
  temporaryFolder,
} from './harness.js'

interface Stand {
  catalog: LocalCatalog
  clock: TurnedClock
  peers: Hex[]
  writer: Hex
  lease: Hex
  stripe: StripeRow
}

/** A stripe of 2+1 with `block`. */
async function stand(t: ExecutionContext): Promise<Stand> {
  const folder = temporaryFolder()
  t.teardown(folder.remove)
  const clock = new TurnedClock()
  const catalog = openPlain(folder.path, clock)
  t.teardown(() => catalog.close())
  const peers = addPeers(catalog, 3)
  const writer = hex(32)
  const begun = await catalog.begin({ appliance: writer, volume: hex(16), source: 'x', label: '' })
  const { lease } = begun
  const stripe = nextStripe(catalog, writer, begun)
  const request = placement(2, 1, peers, stripe)
  await catalog.place(lease, request)
  const { k, m, packBytes } = request
  const shards = held(request)
  await catalog.commit(lease, { stripe, k, m, packBytes, records: recordsOf(idOf('block')), shards })
  const [row] = await catalog.stripes([stripe])
  if (!row) throw new Error('it was committed')
  return { catalog, clock, peers, writer, lease, stripe: row }
}

const say = ({ catalog, stripe }: Stand, index: number, fact: Fact, by: Hex, trusted = false, shard?: Hex) => {
  const named = shard ?? (stripe.shards[index]?.shard as Hex)
  return catalog.learn([{ stripe: stripe.stripe, shard: named, fact }], [], by, trusted)
}
const factsOf = async ({ catalog, stripe }: Stand) =>
  ((await catalog.stripes([stripe.stripe]))[0] as StripeRow).shards.map(({ fact }) => fact)
const isOffered = async ({ catalog, lease }: Stand, tolerate: number) =>
  (await catalog.lookup(lease, idOf('block'), tolerate))[0] !== 0n

test('a bad shard is not counted on, until it was seen whole again', async (t) => {
  const s = await stand(t)
  t.true(await isOffered(s, 1))
  await say(s, 0, 'missing', s.writer)
  t.false(await isOffered(s, 1))
  t.true(await isOffered(s, 0))
  await say(s, 1, 'corrupt', s.writer)
  t.false(await isOffered(s, 0), 'less than k are left')
  t.is(
    (await s.catalog.locate(idOf('block'), new BigUint64Array(1))).stripes[0],
    BigInt(s.stripe.stripe),
    'a reader finds out for himself',
  )
  await say(s, 0, 'present', s.writer)
  await say(s, 1, 'present', s.writer)
  t.deepEqual(
    await factsOf(s),
    ['receipted', 'corrupt', 'receipted'],
    'wrong bytes are not right because they are there',
  )
  await say(s, 1, 'proved', s.writer)
  t.true(await isOffered(s, 1))
})

test('anybody may say that a shard is bad; that it is good, only who may know', async (t) => {
  const s = await stand(t)
  const [finder, stranger] = [hex(32), hex(32)]
  await say(s, 0, 'missing', finder)
  await say(s, 0, 'proved', stranger)
  t.deepEqual(await factsOf(s), ['missing', 'receipted', 'receipted'])
  for (const [by, trusted] of [
    [finder, false],
    [s.writer, false],
    [stranger, true],
  ] as const) {
    await say(s, 0, 'missing', finder)
    await say(s, 0, 'proved', by, trusted)
    t.deepEqual(await factsOf(s), ['proved', 'receipted', 'receipted'])
  }
})

test('of another shard than lies there, nothing is learnt', async (t) => {
  const s = await stand(t)
  await say(s, 0, 'missing', s.writer, true, hex(16))
  await s.catalog.learn(
    [{ stripe: s.stripe.stripe + 99, shard: s.stripe.shards[0]?.shard as Hex, fact: 'missing' }],
    [],
  )
  t.deepEqual(await factsOf(s), ['receipted', 'receipted', 'receipted'])
})

test('a store with less than it was given is not believed; it is again once it holds that, or was looked at', async (t) => {
  const s = await stand(t)
  const [host] = s.peers as [Hex]
  const given = shardFileBytes(s.stripe.packBytes, 2)
  const beat = (usedBytes: number) => s.catalog.heartbeat(host, { ...offer('disk'), usedBytes })
  const suspect = async () => (await s.catalog.hosts()).find((row) => row.host === host)?.suspect
  beat(0)
  t.is(await suspect(), '', 'counted before the shard came')
  beat(given)
  t.is(await suspect(), '')
  beat(given - 1)
  t.regex((await suspect()) ?? '', /^its store holds .*, .* were placed there$/)
  t.deepEqual(await factsOf(s), ['stale', 'receipted', 'receipted'])
  t.false(await isOffered(s, 1))
  beat(given)
  t.is(await suspect(), '')
  t.deepEqual(await factsOf(s), ['receipted', 'receipted', 'receipted'])

  beat(0)
  await s.catalog.learn([], [host], hex(32), false)
  t.not(await suspect(), '', 'a word of somebody who may not say so')
  await say(s, 0, 'missing', hex(32), true)
  await s.catalog.learn([], [host])
  t.is(await suspect(), '')
  beat(0)
  t.is(await suspect(), '', 'nothing is expected there any more')
  t.deepEqual(await factsOf(s), ['missing', 'receipted', 'receipted'])
})

test('a state is as good as the proof for it', (t) => {
  const standing = { target: 1, since: 5, keysHeld: true, cosigned: true, now: 1000 }
  const patterns = [{ k: 2, hosts: [1, 2, 3] }]
  const good = { patterns, proved: 0, worsened: 0 }
  t.deepEqual(stateOf(good, standing), { survives: 1, target: 1, cosigned: true, state: 'protected', at: 5 })
  t.like(stateOf({ ...good, proved: 900 }, standing), { state: 'verified', at: 900 })
  t.like(stateOf({ ...good, proved: 900 }, { ...standing, now: 900 + VERIFIED_FOR_MS }), { state: 'protected' })
  t.like(stateOf(good, { ...standing, keysHeld: false }), { state: 'sealed', survives: 1 })
  t.like(stateOf(good, { ...standing, cosigned: false }), { state: 'sealed', survives: 1, cosigned: false })
  t.like(stateOf(good, { ...standing, target: 2 }), { state: 'sealed', survives: 1 })
  t.like(stateOf({ ...good, patterns: [...patterns, { k: 2, hosts: [1] }], worsened: 7 }, standing), {
    survives: -1,
    state: 'incomplete',
    at: 7,
  })
  t.like(stateOf({ ...good, patterns: [] }, standing), { state: 'incomplete' }, 'a stripe is not known')
})
