import test, { type ExecutionContext } from 'ava'
import type { Hex } from '../../src/base/ids.js'
import type { LocalCatalog } from '../../src/catalog/local.js'
import { stateOf, VERIFIED_FOR_MS } from '../../src/catalog/state.js'
import type { Fact, StripeRow } from '../../src/catalog/types.js'
import { listBucket } from '../../src/daemon/listing.js'
import { shardFileBytes } from '../../src/native.js'
import { Buckets } from '../../src/stripes/buckets.js'
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

test('where a store is not what it should be it says so, is listed, and only what it lacks is missing', async (t) => {
  const s = await stand(t)
  const [host] = s.peers as [Hex]
  const [{ shard }] = s.stripe.shards as [StripeRow['shards'][number]]
  const { stock } = s.catalog.knowledge
  const bucket = Number.parseInt(shard.slice(0, 2), 16)
  const bytes = shardFileBytes(s.stripe.packBytes, 2)
  const orphan = `${shard.slice(0, 2)}${hex(15)}`
  const beat = (ids: readonly Hex[], isAsked = false) => {
    const held = holding(ids)
    const store = { id: STORE, sequence: 5, shards: held.root }
    const buckets = held.encode().toString('base64')
    s.catalog.heartbeat(host, { ...offer('disk'), store: isAsked ? { ...store, buckets } : store })
    return [stock.wants(host), stock.takeDiffering().get(host)]
  }
  const list = (held: readonly (readonly [Hex, number])[]) => {
    const expected = stock.expected(host, bucket)
    s.catalog.write(() => s.catalog.knowledge.takeListed(host, [{ bucket, expected, held: new Map(held) }]))
  }
  t.deepEqual(beat([shard]), [false, undefined])
  t.deepEqual(beat([shard, orphan]), [true, undefined])
  t.deepEqual(beat([shard, orphan], true), [false, new Map([[bucket, 2]])])
  list([
    [shard, bytes],
    [orphan, 9],
  ])
  t.deepEqual(await factsOf(s), ['receipted', 'receipted', 'receipted'])
  t.deepEqual(beat([shard, orphan]), [false, undefined], 'what no stripe needs is known')
  t.deepEqual(beat([orphan]), [true, undefined])
  t.deepEqual(beat([orphan], true), [false, new Map([[bucket, 1]])])
  list([[orphan, 9]])
  t.deepEqual(await factsOf(s), ['missing', 'receipted', 'receipted'])
  t.is(s.catalog.registry.events().at(-1)?.sentence, '1 shard on pc1 is missing')
  t.false(await isOffered(s, 1))
  t.deepEqual(beat([orphan]), [false, undefined], 'nothing is expected there any more')

  t.deepEqual(beat([shard, orphan], true), [false, new Map([[bucket, 2]])])
  list([
    [shard, bytes - 1],
    [orphan, 9],
  ])
  t.deepEqual(await factsOf(s), ['wrong length', 'receipted', 'receipted'])
  list([
    [shard, bytes],
    [orphan, 9],
  ])
  t.deepEqual(await factsOf(s), ['placed', 'receipted', 'receipted'], 'it has to be read before it counts as it did')
  t.deepEqual(beat([shard, orphan]), [false, undefined])

  s.catalog.write(() => s.catalog.knowledge.doubt(host, 'it lies'))
  t.deepEqual(await factsOf(s), ['stale', 'receipted', 'receipted'])
  await s.catalog.learn([], [host], hex(32), false)
  t.is(await suspectOf(s, host), 'it lies', 'a word of somebody who may not say so')
  t.deepEqual(beat([shard, orphan]), [false, undefined])
  t.is(await suspectOf(s, host), '')
  t.deepEqual(await factsOf(s), ['placed', 'receipted', 'receipted'])
})

test('a list without end, or of more than the host says, is cut', async (t) => {
  let pages = 0
  const peer = {
    name: 'pc-1',
    async fetchInventory(after = '', limit = 10_000) {
      pages++
      const from = after.length > 2 ? Number.parseInt(after.slice(2), 16) : 0
      const shards = Array.from({ length: Math.min(limit, 50) }, (_, at) => {
        return { shard: `ab${(from + at + 1).toString(16).padStart(30, '0')}`, bytes: 1 }
      })
      return { shards, next: shards.at(-1)?.shard ?? null }
    },
  }
  const signal = new AbortController().signal
  await t.throwsAsync(listBucket(peer, 0xab, 100, signal), { code: 'HOST_LIED', message: /more shards than it says/ })
  t.true(pages <= 4, `${pages} pages`)
  const next = { ...peer, fetchInventory: async () => ({ shards: [{ shard: 'ac'.repeat(16), bytes: 1 }], next: null }) }
  t.is((await listBucket(next, 0xab, 0, signal)).size, 0, 'of the next bucket nothing')
})

function holding(ids: readonly Hex[]): Buckets {
  const buckets = new Buckets()
  for (const id of ids) buckets.change(Buffer.from(id, 'hex'), 1)
  return buckets
}

const beatOf = ({ catalog, stripe }: Stand, host: Hex) => {
  const shards = holding(stripe.shards.filter((one) => one.host === host).map(({ shard }) => shard)).root
  return (store: { id: Hex; sequence: number } | null) => {
    const said = store ? { ...offer('disk'), store: { ...store, shards } } : { ...offer(''), store: null }
    return void catalog.heartbeat(host, said)
  }
}
const suspectOf = async ({ catalog }: Stand, host: Hex) =>
  (await catalog.hosts()).find((row) => row.host === host)?.suspect

const lastAlarm = ({ catalog }: Stand) =>
  catalog.registry
    .events()
    .filter(({ kind }) => kind === 'alarm')
    .at(-1)?.sentence

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
  t.is(lastAlarm(s), 'pc1 is not believed: its store was put back: it is at 3, and was at 4')
  t.deepEqual(await factsOf(s), ['receipted', 'receipted', 'receipted'], 'what it signed by then it holds')

  const other = hex(16)
  beat({ id: other, sequence: 9 })
  t.is(lastAlarm(s), 'pc1 is not believed: its store is another one than before')
  t.deepEqual(await factsOf(s), ['placed', 'receipted', 'receipted'])
  sign(STORE, 4)
  t.deepEqual(await factsOf(s), ['placed', 'receipted', 'receipted'], 'a word about the store of before')
  sign(other, 12)
  t.deepEqual(await factsOf(s), ['receipted', 'receipted', 'receipted'])
  beat({ id: other, sequence: 11 })
  t.regex(lastAlarm(s) ?? '', /another one/, 'it was on its way when the receipt came')
  beat({ id: other, sequence: 11 })
  t.is(lastAlarm(s), 'pc1 is not believed: its store was put back: it is at 11, and was at 12')
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
