import test, { type ExecutionContext } from 'ava'
import type { Hex } from '../../src/base/ids.js'
import type { LocalCatalog } from '../../src/catalog/local.js'
import { stateOf, VERIFIED_FOR_MS } from '../../src/catalog/state.js'
import type { StoreState } from '../../src/catalog/stores.js'
import type { Fact, StripeRow } from '../../src/catalog/types.js'
import { shardFileBytes } from '../../src/native.js'
import { readReceipt, signReceipt } from '../../src/stripes/receipt.js'
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
  STORE,
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
  /** As its receipts name it. */
  identity: Hex
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
  const identity = readReceipt(Buffer.from(shards[0]?.receipt ?? '', 'base64')).stripe
  return { catalog, clock, peers, writer, lease, stripe: row, identity }
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

const beatOf = ({ catalog, stripe }: Stand, host: Hex) => {
  const usedBytes = shardFileBytes(stripe.packBytes, 2)
  return (store: StoreState | null) =>
    void catalog.heartbeat(host, { ...offer('disk'), usedBytes, store, ...(store ? {} : { storage: '' }) })
}
const suspectOf = async ({ catalog }: Stand, host: Hex) =>
  (await catalog.hosts()).find((row) => row.host === host)?.suspect

test('another store, one that was put back, and none: nothing that was signed before counts until it is signed anew', async (t) => {
  const s = await stand(t)
  const [host] = s.peers as [Hex]
  const beat = beatOf(s, host)
  const sign = (store: Hex, sequence: number) => {
    const missing = s.catalog.signed.missing(host, { stripe: -1, index: 0 }, 9)
    return s.catalog.signed.keep(
      host,
      missing.map((one) => ({ ...one, receipt: receiptOf(s, one.index, store, sequence) })),
    )
  }
  beat({ id: STORE, sequence: 4 })
  t.is(await suspectOf(s, host), '')
  beat({ id: STORE, sequence: 4 })
  beat({ id: STORE, sequence: 3 })
  t.is(await suspectOf(s, host), 'its store was put back: it is at 3, and was at 4')
  t.deepEqual(await factsOf(s), ['stale', 'receipted', 'receipted'])
  beat({ id: STORE, sequence: 3 })
  t.deepEqual(await factsOf(s), ['receipted', 'receipted', 'receipted'], 'what it signed by then it holds')

  const other = hex(16)
  beat({ id: other, sequence: 9 })
  t.is(await suspectOf(s, host), 'its store is another one than before')
  t.deepEqual(await factsOf(s), ['stale', 'receipted', 'receipted'])
  t.deepEqual(s.catalog.signed.missing(host, { stripe: -1, index: 0 }, 9), [], 'it is to be looked at before')
  beat({ id: other, sequence: 9 })
  t.deepEqual(await factsOf(s), ['placed', 'receipted', 'receipted'])
  sign(STORE, 4)
  t.deepEqual(await factsOf(s), ['placed', 'receipted', 'receipted'], 'a word about the store of before')
  sign(other, 12)
  t.deepEqual(await factsOf(s), ['receipted', 'receipted', 'receipted'])
  beat({ id: other, sequence: 11 })
  t.is(await suspectOf(s, host), '', 'it was on its way when the receipt came')
  beat({ id: other, sequence: 11 })
  t.is(await suspectOf(s, host), 'its store was put back: it is at 11, and was at 12')
  beat({ id: other, sequence: 11 })
  t.deepEqual(await factsOf(s), ['placed', 'receipted', 'receipted'], 'what it signed after that is void')

  beat(null)
  t.is(await suspectOf(s, host), 'it has no store any more')
  t.deepEqual(await factsOf(s), ['stale', 'receipted', 'receipted'])
  beat({ id: other, sequence: 11 })
  t.is(await suspectOf(s, host), '')
  const alarms = s.catalog.registry.events().filter(({ kind }) => kind === 'alarm')
  t.is(alarms.length, 4)
})

/** What that host signs of its shard: as `held` makes it, of another store. */
function receiptOf({ stripe, identity }: Stand, index: number, store: Hex, sequence: number): Buffer {
  const lengthBytes = shardFileBytes(stripe.packBytes, stripe.k)
  const nobody = { fleet: '00'.repeat(16), shard: '00'.repeat(16), root: '00'.repeat(32) }
  return signReceipt({ stripe: identity, index, lengthBytes, store, sequence }, nobody, {
    sign: () => Buffer.alloc(64),
  })
}

test('a state is as good as the proof for it', (t) => {
  const standing = {
    target: 1,
    since: 5,
    keysHeld: true,
    cosigned: true,
    now: 1000,
    domains: new Map<number, string>(),
  }
  const patterns = [{ k: 2, hosts: [1, 2, 3], unsigned: [] as number[] }]
  const good = { patterns, proved: 0, worsened: 0 }
  const figures = { survives: 1, receipted: 1, target: 1, cosigned: true }
  t.deepEqual(stateOf(good, standing), { ...figures, state: 'protected', at: 5 })
  const unsigned = { ...good, patterns: [{ k: 2, hosts: [1, 2, 3], unsigned: [2] }] }
  t.like(stateOf(unsigned, standing), { ...figures, receipted: 0, state: 'sealed' }, 'one has not signed')
  t.like(stateOf({ ...unsigned, proved: 900 }, standing), { state: 'sealed' })
  t.like(stateOf({ ...good, patterns: [{ k: 2, hosts: [1, 2, 3], unsigned: [1, 2] }] }, standing), { receipted: -1 })
  const together = new Map([
    [1, 'room'],
    [2, 'room'],
  ])
  t.like(stateOf(good, { ...standing, domains: together }), { ...figures, receipted: 0, state: 'sealed' }, 'one room')
  const two = { k: 1, hosts: [1, 1, 2], unsigned: [1] }
  t.like(stateOf({ ...good, patterns: [two] }, standing), { survives: 1, receipted: 1 }, 'one of its two shards')
  t.like(stateOf({ ...good, proved: 900 }, standing), { state: 'verified', at: 900 })
  t.like(stateOf({ ...good, proved: 900 }, { ...standing, now: 900 + VERIFIED_FOR_MS }), { state: 'protected' })
  t.like(stateOf(good, { ...standing, keysHeld: false }), { state: 'sealed', survives: 1 })
  t.like(stateOf(good, { ...standing, cosigned: false }), { state: 'sealed', survives: 1, cosigned: false })
  t.like(stateOf(good, { ...standing, target: 2 }), { state: 'sealed', survives: 1 })
  t.like(stateOf({ ...good, patterns: [...patterns, { k: 2, hosts: [1], unsigned: [] }], worsened: 7 }, standing), {
    survives: -1,
    state: 'incomplete',
    at: 7,
  })
  t.like(stateOf({ ...good, patterns: [] }, standing), { state: 'incomplete' }, 'a stripe is not known')
})
