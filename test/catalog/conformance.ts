/** What every Catalog does, whether opened here or asked over the network. Run by local.test.ts and coordinator/remote.test.ts. */
import type { ExecutionContext, TestFn } from 'ava'
import type { Hex } from '../../src/base/ids.js'
import { AWAY_AFTER_MS, RUN_OPEN_MS, RUN_TRIED_MS } from '../../src/base/limits.js'
import type { LocalCatalog } from '../../src/catalog/local.js'
import type { HeadFacts } from '../../src/catalog/parts.js'
import type { Begun, Catalog } from '../../src/catalog/types.js'
import {
  held,
  hex,
  idOf,
  ids,
  nextStripe,
  placement,
  recordsOf,
  references,
  summary,
  type TurnedClock,
} from './harness.js'

export interface Stand {
  /** As the appliance sees it. */
  catalog: Catalog
  /** What lies behind it. */
  local: LocalCatalog
  clock: TurnedClock
  appliance: Hex
  /** Six, all fit. */
  peers: Hex[]
  head(facts: HeadFacts, references: Uint8Array): Uint8Array
  /** Lets the peers be seen. */
  beat(): void
}

export type OpenStand = (t: ExecutionContext) => Promise<Stand>

const VOLUME = 'ab'.repeat(16)

const runs = new Map<Hex, Begun>()

async function begin(s: Stand, volume = VOLUME): Promise<Begun> {
  const begun = await s.catalog.begin({ appliance: s.appliance, volume, source: '/dev/sdb', label: 'nightly' })
  runs.set(begun.lease, begun)
  return begun
}

/** The next stripe of a lease's run. */
const next = (s: Stand, lease: Hex): number => nextStripe(s.catalog, s.appliance, runs.get(lease) as Begun)

async function stripe(s: Stand, lease: Hex, content: Uint8Array, k = 4, m = 2, hosts = s.peers): Promise<number> {
  const request = placement(k, m, hosts, next(s, lease))
  await s.catalog.place(lease, request)
  const { stripe: number, packBytes } = request
  await s.catalog.commit(lease, { stripe: number, k, m, packBytes, records: recordsOf(content), shards: held(request) })
  return number
}

function finishRequest(s: Stand, begun: Begun, stripes: number[], over: Partial<HeadFacts> = {}) {
  const named = references(stripes, s.catalog.names)
  const { snapshot, sequence, parent } = begun
  const facts = { appliance: s.appliance, volume: VOLUME, sequence, snapshot, parent, time: s.clock.now(), ...over }
  return { head: s.head(facts, named), references: named, asked: false, summary: summary() }
}

export function conformance(test: TestFn, open: OpenStand): void {
  placing(test, open)
  committing(test, open)
  ending(test, open)
  finishing(test, open)
  reading(test, open)
}

function placing(test: TestFn, open: OpenStand): void {
  test('place gives a grant for each shard; replaced ones are those that count', async (t) => {
    const s = await open(t)
    const { lease } = await begin(s)
    const request = placement(4, 2, s.peers, next(s, lease))
    const { stripe, k, m, packBytes } = request
    t.is((await s.catalog.place(lease, request)).length, 6)
    t.is((await s.catalog.place(lease, request)).length, 6, 'asked again')
    const other = { index: 5, host: s.peers[0] as Hex }
    t.is((await s.catalog.place(lease, { ...request, shards: [other] })).length, 1)
    const was = { stripe, k, m, packBytes, records: recordsOf(ids(3)), shards: held(request) }
    await t.throwsAsync(s.catalog.commit(lease, was), { code: 'PROTOCOL', message: /never placed/ })
    request.shards[5] = other
    await s.catalog.commit(lease, { ...was, shards: held(request) })
    const [row] = await s.catalog.stripes([stripe])
    t.is(row?.shards[5]?.host, other.host)
    await t.throwsAsync(s.catalog.place(lease, request), { message: /not open/ })
  })

  test('a stripe is of its own lease, and keeps the shape in which it was placed', async (t) => {
    const s = await open(t)
    const { lease } = await begin(s)
    const other = await begin(s, 'cd'.repeat(16))
    const request = placement(4, 2, s.peers, next(s, lease))
    await s.catalog.place(lease, request)
    const wider = placement(5, 1, s.peers, request.stripe)
    await t.throwsAsync(s.catalog.place(lease, wider), { code: 'PROTOCOL', message: /not open/ })
    const { stripe, k, m, packBytes } = request
    const commit = { stripe, k, m, packBytes, records: recordsOf(ids(2)), shards: held(request) }
    await s.catalog.commit(lease, commit)
    const unplaced = { ...commit, stripe: next(s, lease) }
    await t.throwsAsync(s.catalog.commit(lease, unplaced), { code: 'PROTOCOL', message: /not open/ })
    const [row] = await s.catalog.stripes([stripe])
    const theirs = next(s, other.lease)
    await s.catalog.place(other.lease, { ...request, stripe: theirs })
    await s.catalog.commit(other.lease, { ...commit, stripe: theirs })
    t.deepEqual((await s.catalog.stripes([stripe]))[0], row, 'the same number of another run is another stripe')
    t.not((await s.catalog.stripes([theirs]))[0]?.shards[0]?.shard, row?.shards[0]?.shard)
  })

  test('a run is drawn once', async (t) => {
    const s = await open(t)
    const { run } = await begin(s)
    const again = { run, appliance: s.appliance, volume: 'cd'.repeat(16), source: '/dev/sdc', label: '' }
    await t.throwsAsync(s.catalog.begin(again), { code: 'PROTOCOL', message: /known already/ })
  })

  test('place refuses hosts that are unfit, saying why', async (t) => {
    const s = await open(t)
    const { lease } = await begin(s)
    const stripe = next(s, lease)
    const on = (host: Hex) => placement(1, 0, [host], stripe)
    const refused = (host: Hex, message: RegExp) =>
      t.throwsAsync(s.catalog.place(lease, on(host)), { code: 'HOST_UNFIT', message })
    await refused(hex(32), /not a member/)
    await refused(s.appliance, /backed up/)
    await refused(s.local.members.rows().find((row) => row.role === 'admin')?.host as Hex, /offers no store/)
    const [peer] = s.peers as [Hex]
    s.local.members.heartbeat(peer, { ...offerOf(s, peer), freeBytes: 59_999 })
    await refused(peer, /59,?999|60 kB free/)
    s.clock.time += AWAY_AFTER_MS + 1
    await refused(s.peers[1] as Hex, /it is away/)
    s.beat()
    t.truthy(await s.catalog.place(lease, on(s.peers[1] as Hex)))
  })

  test('place refuses malformed schemes', async (t) => {
    const s = await open(t)
    const { lease } = await begin(s)
    const good = placement(4, 2, s.peers, next(s, lease))
    const [first, second] = good.shards as [(typeof good.shards)[0], (typeof good.shards)[0]]
    const bad = [
      { ...good, k: 31, m: 2 },
      { ...good, k: 0 },
      { ...good, lengthBytes: 5 * 1024 * 1024 },
      { ...good, packBytes: 17 * 1024 * 1024 },
      { ...good, shards: [first, { ...second, index: 0 }] },
      { ...good, shards: [{ ...first, index: 6 }] },
      { ...good, shards: [] },
    ]
    for (const request of bad) await t.throwsAsync(s.catalog.place(lease, request), { code: 'PROTOCOL' })
  })
}

function offerOf(s: Stand, host: Hex) {
  const row = s.local.members.rows().find((candidate) => candidate.host === host)
  if (!row) throw new Error('no such host')
  return row
}

function committing(test: TestFn, open: OpenStand): void {
  test('lookups see committed stripes only', async (t) => {
    const s = await open(t)
    const { lease } = await begin(s)
    const content = ids(300)
    const request = placement(4, 2, s.peers, next(s, lease))
    await s.catalog.place(lease, request)
    const { stripe: number } = request
    t.true((await s.catalog.lookup(lease, content, 0)).every((birth) => birth === 0n))
    const { k, m, packBytes } = request
    const commit = { stripe: number, k, m, packBytes, records: recordsOf(content), shards: held(request) }
    await s.catalog.commit(lease, commit)
    const births = await s.catalog.lookup(lease, Buffer.concat([content, ids(5)]), 2)
    t.deepEqual(
      [...births.slice(0, 300)],
      Array.from({ length: 300 }, (_, i) => BigInt(number) * 65_536n + BigInt(i)),
    )
    t.deepEqual([...births.slice(300)], [0n, 0n, 0n, 0n, 0n])
    await s.catalog.commit(lease, commit)
    t.is((await s.catalog.lookup(lease, new Uint8Array(), 0)).length, 0)
  })

  test('lookups honour the tolerance asked for, and take the stronger of two places', async (t) => {
    const s = await open(t)
    const { lease } = await begin(s)
    const strong = await stripe(s, lease, idOf('both'), 4, 2)
    const weaker = await stripe(s, lease, Buffer.concat([idOf('weak'), idOf('both')]), 2, 1, s.peers.slice(0, 2))
    const asked = Buffer.concat([idOf('weak'), idOf('both')])
    t.true((await s.catalog.lookup(lease, asked, 0))[0] !== 0n)
    const [weak, both] = await s.catalog.lookup(lease, asked, 1)
    t.is(weak, 0n)
    t.is(both, BigInt(strong) * 65_536n)
    t.deepEqual([...(await s.catalog.lookup(lease, asked, 3))], [0n, 0n])
    const { stripes } = await s.catalog.locate(asked, new BigUint64Array(2))
    t.is(stripes[1], BigInt(strong))
    const own = BigUint64Array.of(BigInt(weaker) << 16n, (BigInt(weaker) << 16n) | 1n)
    t.deepEqual(
      [...(await s.catalog.locate(asked, own)).stripes],
      [BigInt(weaker), BigInt(weaker)],
      'its own comes first',
    )
    t.deepEqual(
      (await s.catalog.records([weaker, strong])).map((lengths) => lengths.length > 0),
      [false, true],
    )
  })

  test('a stripe may be committed with shards missing, down to k', async (t) => {
    const s = await open(t)
    const { lease } = await begin(s)
    const request = placement(4, 2, s.peers, next(s, lease))
    await s.catalog.place(lease, request)
    const { stripe: number } = request
    const { k, m, packBytes } = request
    const commit = { stripe: number, k, m, packBytes, records: recordsOf(idOf('a')) }
    const three = held(request, (index) => index < 3)
    await t.throwsAsync(s.catalog.commit(lease, { ...commit, shards: three }), { code: 'PROTOCOL' })
    await s.catalog.commit(lease, { ...commit, shards: held(request, (index) => index !== 3) })
    t.deepEqual([...(await s.catalog.lookup(lease, idOf('a'), 2))], [0n])
    t.true((await s.catalog.lookup(lease, idOf('a'), 1))[0] !== 0n)
    const [row] = await s.catalog.stripes([number, number + 999])
    t.deepEqual(
      row?.shards.map((shard) => shard.index),
      [0, 1, 2, 4, 5],
    )
  })

  test('commit refuses another shape, records outside the pack, a broken batch', async (t) => {
    const s = await open(t)
    const { lease } = await begin(s)
    const request = placement(4, 2, s.peers, next(s, lease))
    await s.catalog.place(lease, request)
    const { stripe: number } = request
    const good = { stripe: number, k: 4, m: 2, packBytes: 100_000, records: recordsOf(ids(2)), shards: held(request) }
    const outside = recordsOf(ids(1))
    outside.writeUInt32LE(100_000, 32)
    const bad = [
      { ...good, m: 3 },
      { ...good, packBytes: 99_999 },
      { ...good, stripe: number + 1 },
      { ...good, records: outside },
      { ...good, records: good.records.subarray(1) },
    ]
    for (const commit of bad) await t.throwsAsync(s.catalog.commit(lease, commit), { code: 'PROTOCOL' })
    await t.throwsAsync(s.catalog.lookup(lease, ids(1).subarray(1), 0), { code: 'PROTOCOL' })
    await s.catalog.commit(lease, good)
  })

  test('a newer begin of the same volume fences the older lease, and no other', async (t) => {
    const s = await open(t)
    const other = await begin(s, 'cd'.repeat(16))
    const old = await begin(s)
    const request = placement(4, 2, s.peers, next(s, old.lease))
    await s.catalog.place(old.lease, request)
    const { stripe: number } = request
    const young = await begin(s)
    t.true(young.sequence > old.sequence)
    const ended = { code: 'LEASE_ENDED', message: /newer run/ }
    const commit = { stripe: number, k: 4, m: 2, packBytes: 100_000, records: recordsOf(ids(1)), shards: held(request) }
    await t.throwsAsync(s.catalog.commit(old.lease, commit), ended)
    await t.throwsAsync(s.catalog.place(old.lease, request), ended)
    await t.throwsAsync(s.catalog.lookup(old.lease, ids(1), 0), ended)
    await t.throwsAsync(s.catalog.finish(old.lease, finishRequest(s, old, [number])), ended)
    if (s.catalog === s.local) {
      await t.throwsAsync(s.catalog.commit(young.lease, commit), { message: /another run/ })
    }
    await stripe(s, young.lease, ids(1))
    t.deepEqual(await s.catalog.stripes([number]), [])
    await stripe(s, other.lease, ids(1))
  })
}

function ending(test: TestFn, open: OpenStand): void {
  test('a begin that is asked again gives the same lease, and ends none', async (t) => {
    const s = await open(t)
    const lease = hex(16)
    const request = { lease, run: hex(8), appliance: s.appliance, volume: VOLUME, source: '/dev/sdb', label: '' }
    const begun = await s.catalog.begin(request)
    runs.set(lease, begun)
    t.is(begun.lease, lease)
    t.deepEqual(await s.catalog.begin(request), begun)
    await stripe(s, lease, ids(1))
    for (const other of [{ volume: hex(16) }, { run: hex(8) }]) {
      await t.throwsAsync(s.catalog.begin({ ...request, ...other }), { code: 'PROTOCOL', message: /another run/ })
    }
    await begin(s)
    await t.throwsAsync(s.catalog.begin(request), { code: 'LEASE_ENDED', message: /newer run/ })
  })

  test('a run that came to nothing says with which error, and its stripes are dropped', async (t) => {
    const s = await open(t)
    t.deepEqual(await s.catalog.runs(), [])
    const { lease } = await begin(s)
    const opened = placement(4, 2, s.peers, next(s, lease))
    await s.catalog.place(lease, opened)
    t.deepEqual(await s.catalog.runs(), [], 'it goes on')
    await t.throwsAsync(s.catalog.abandon(lease, 'no code'), { code: 'PROTOCOL' })
    s.clock.time += 5
    await s.catalog.abandon(lease, 'NOT_PLACED')
    const [started, ended] = [s.clock.time - 5, s.clock.time]
    const failed = { appliance: s.appliance, applianceName: 'srv', volume: VOLUME, source: '/dev/sdb', kept: false }
    t.deepEqual(await s.catalog.runs(), [{ ...failed, started, ended, failure: 'NOT_PLACED', finished: false }])
    await s.catalog.abandon(lease, 'TOO_FEW_HOSTS')
    await s.catalog.abandon(hex(16), 'TOO_FEW_HOSTS')
    t.is((await s.catalog.runs())[0]?.failure, 'NOT_PLACED', 'once is enough')
    await t.throwsAsync(s.catalog.place(lease, opened), { code: 'LEASE_ENDED', message: /NOT_PLACED/ })

    const good = await begin(s)
    t.is((await s.catalog.runs())[0]?.failure, 'NOT_PLACED', 'the next one goes on')
    const one = await stripe(s, good.lease, ids(1))
    await s.catalog.finish(good.lease, finishRequest(s, good, [one]))
    await s.catalog.abandon(good.lease, 'IO')
    t.like((await s.catalog.runs())[0], { ended: s.clock.time, failure: null, finished: true, kept: true })
  })

  test('a run that fell silent came to nothing once a newer one began, or after a week', async (t) => {
    const s = await open(t)
    await begin(s)
    const started = s.clock.time
    s.clock.time += RUN_OPEN_MS
    t.deepEqual(await s.catalog.runs(), [])
    s.clock.time += 1
    t.like((await s.catalog.runs())[0], { started, ended: null, failure: 'LEASE_ENDED', finished: false })
    await begin(s)
    t.like((await s.catalog.runs())[0], { started, ended: s.clock.time, failure: 'LEASE_ENDED', finished: false })
    const { lease } = await begin(s)
    await s.catalog.abandon(lease, 'INTERRUPTED')
    s.clock.time += RUN_TRIED_MS
    t.is((await s.catalog.runs()).length, 1)
    s.clock.time += 1
    t.deepEqual(await s.catalog.runs(), [], 'nobody tried again, and there is no snapshot')
  })
}

function finishing(test: TestFn, open: OpenStand): void {
  test('a finished snapshot is listed, its figure is the least of its stripes', async (t) => {
    const s = await open(t)
    const first = await begin(s)
    t.is(first.parent, null)
    const good = await stripe(s, first.lease, ids(3))
    t.deepEqual(await s.catalog.snapshots(), [])
    const request = finishRequest(s, first, [good])
    t.deepEqual(await s.catalog.finish(first.lease, request), {
      survives: 2,
      target: 2,
      receipted: 2,
      cosigned: true,
      state: 'protected',
    })
    t.deepEqual(
      await s.catalog.finish(first.lease, request),
      { survives: 2, receipted: 2, target: 2, cosigned: true, state: 'protected' },
      'asked again',
    )
    const after = { code: 'LEASE_ENDED', message: /finished/ }
    await t.throwsAsync(s.catalog.place(first.lease, placement(4, 2, s.peers, good)), after)

    const second = await begin(s)
    t.is(second.parent, first.snapshot)
    t.is(second.sequence, first.sequence + 1)
    const place = placement(4, 2, s.peers, next(s, second.lease))
    await s.catalog.place(second.lease, place)
    const { stripe: thin } = place
    const shards = held(place, (index) => index !== 0)
    const records = recordsOf(ids(1))
    await s.catalog.commit(second.lease, { stripe: thin, k: 4, m: 2, packBytes: 100_000, records, shards })
    s.clock.time += 1000
    const finished = await s.catalog.finish(second.lease, finishRequest(s, second, [good, thin]))
    t.deepEqual(finished, { survives: 1, receipted: 1, target: 2, cosigned: true, state: 'sealed' })

    const rows = await s.catalog.snapshots()
    t.deepEqual(
      rows.map((row) => row.id),
      [first.snapshot, second.snapshot],
    )
    t.like(rows[1], { source: '/dev/sdb', label: 'nightly', survives: 1, parent: first.snapshot, applianceName: 'srv' })
    t.deepEqual(rows[1]?.summary, summary())
    t.deepEqual(await s.catalog.snapshotStripes(second.snapshot), [good, thin])
    const latest = await s.catalog.snapshot('latest')
    t.is(latest.id, second.snapshot)
    t.deepEqual(Buffer.from((await s.catalog.snapshot(first.snapshot)).head), Buffer.from(request.head))
  })

  test("finish refuses a head that is not the lease's, and stripes that are not committed", async (t) => {
    const s = await open(t)
    const begun = await begin(s)
    const number = await stripe(s, begun.lease, ids(3))
    const uncommitted = next(s, begun.lease)
    await s.catalog.place(begun.lease, placement(4, 2, s.peers, uncommitted))
    const bad = [
      finishRequest(s, begun, [number], { snapshot: hex(16) }),
      finishRequest(s, begun, [number], { sequence: begun.sequence + 1 }),
      finishRequest(s, begun, [number], { volume: hex(16) }),
      finishRequest(s, begun, [number], { parent: hex(16) }),
      finishRequest(s, begun, [number, uncommitted]),
      finishRequest(s, begun, [uncommitted + 7]),
      finishRequest(s, begun, []),
    ]
    for (const request of bad) await t.throwsAsync(s.catalog.finish(begun.lease, request), { code: 'PROTOCOL' })
    const damaged = Buffer.from('no bitmap')
    const { snapshot, sequence, parent } = begun
    const facts = { appliance: s.appliance, volume: VOLUME, sequence, snapshot, parent, time: s.clock.now() }
    const unreadable = { head: s.head(facts, damaged), references: damaged, asked: false, summary: summary() }
    await t.throwsAsync(s.catalog.finish(begun.lease, unreadable), { code: 'CORRUPT' })
    t.deepEqual(await s.catalog.snapshots(), [])
    await s.catalog.finish(begun.lease, finishRequest(s, begun, [number]))
  })
}

function reading(test: TestFn, open: OpenStand): void {
  test('a snapshot is named by id, unique prefix or latest', async (t) => {
    const s = await open(t)
    await t.throwsAsync(s.catalog.snapshot('latest'), { code: 'NO_SUCH_SNAPSHOT' })
    const made: Hex[] = []
    for (let i = 0; i < 17; i++) {
      const begun = await begin(s)
      const number = await stripe(s, begun.lease, ids(1))
      s.clock.time += 1000
      s.beat()
      await s.catalog.finish(begun.lease, finishRequest(s, begun, [number]))
      made.push(begun.snapshot)
    }
    const whole = made[3] as Hex
    t.is((await s.catalog.snapshot(whole.slice(0, 12))).id, whole)
    const twice = made.find((id, i) => made.findIndex((o) => o[0] === id[0]) !== i) as Hex
    await t.throwsAsync(s.catalog.snapshot(twice.slice(0, 1)), { code: 'NO_SUCH_SNAPSHOT', message: /begin with it/ })
    for (const name of ['', 'xyz', "' OR 1=1", '%', hex(16), `${whole}00`]) {
      await t.throwsAsync(s.catalog.snapshot(name), { code: 'NO_SUCH_SNAPSHOT' })
    }
    await t.throwsAsync(s.catalog.snapshotStripes(hex(16)), { code: 'NO_SUCH_SNAPSHOT' })
  })

  test('latest is by sequence and arrival, whatever the clocks of appliances say', async (t) => {
    const s = await open(t)
    const YEAR = 365 * 24 * 3_600_000
    const take = async (volume: string, ahead: number) => {
      s.clock.time += 60_000
      s.beat()
      const begun = await begin(s, volume)
      const number = await stripe(s, begun.lease, ids(1))
      const time = s.clock.time + ahead
      await s.catalog.finish(begun.lease, finishRequest(s, begun, [number], { volume, time }))
      return begun.snapshot
    }
    const ahead = await take(VOLUME, YEAR)
    t.like(await s.catalog.snapshot('latest'), {
      id: ahead,
      arrived: s.clock.time,
      time: s.clock.time + YEAR,
      others: [],
    })
    const other = await take('cd'.repeat(16), 0)
    t.is((await s.catalog.snapshot('latest')).id, other)
    const next = await take(VOLUME, -YEAR)
    t.is((await s.catalog.snapshot('latest')).id, next)
    const rows = await s.catalog.snapshots()
    t.deepEqual(
      rows.map((row) => row.id),
      [ahead, other, next],
    )
    t.like(await s.catalog.snapshot('latest', { source: '/dev/sdb', host: 'srv' }), { id: next, others: [] })
    t.is((await s.catalog.snapshot('latest', { host: s.appliance })).id, next)
    for (const among of [{ source: '/dev/none' }, { host: 'nobody' }, { host: 'x'.repeat(100) }]) {
      await t.throwsAsync(s.catalog.snapshot('latest', among), { code: 'NO_SUCH_SNAPSHOT' })
    }
    const bytes = (await s.catalog.snapshot(next)).head
    const found = { source: '/dev/sdb', label: '', summary: summary(), head: bytes }
    const stripes = await s.catalog.snapshotStripes(next)
    s.local.importSnapshot({ ...found, references: references(stripes, s.catalog.names) })
    t.is((await s.catalog.snapshot(next)).arrived, s.clock.time, 'read back, it arrived when it did')
  })

  test('locate names stripe, offset and length', async (t) => {
    const s = await open(t)
    const { lease } = await begin(s)
    const content = ids(4)
    const number = await stripe(s, lease, content)
    const { stripes, offsets, lengths } = await s.catalog.locate(
      Buffer.concat([ids(1), content]),
      new BigUint64Array(5),
    )
    t.deepEqual([...stripes], [0n, ...Array.from({ length: 4 }, () => BigInt(number))])
    t.deepEqual([...offsets], [0, 16, 106, 196, 286])
    t.deepEqual([...lengths], [0, 90, 90, 90, 90])
  })

  test('records tells how long those of a stripe are, where they lie back to back and enough of it is held', async (t) => {
    const s = await open(t)
    const { lease } = await begin(s)
    const whole = await stripe(s, lease, ids(3))
    const request = placement(4, 2, s.peers, next(s, lease))
    await s.catalog.place(lease, request)
    const { stripe: apart } = request
    t.deepEqual(await s.catalog.records([apart, apart + 999]), [new Uint32Array(), new Uint32Array()], 'not committed')
    const { k, m, packBytes } = request
    const records = recordsOf(ids(3), 10)
    await s.catalog.commit(lease, { stripe: apart, k, m, packBytes, records, shards: held(request) })
    const many = [...Array.from({ length: 40 }, () => apart), whole]
    const told = await s.catalog.records(many)
    t.deepEqual([told.length, told[0]?.length, told[40]], [41, 0, Uint32Array.of(90, 90, 90)])
  })

  test('the master file is told', async (t) => {
    const s = await open(t)
    const rows = await s.catalog.hosts()
    t.deepEqual(rows, await s.local.hosts())
    t.is(rows.filter((row) => row.storage !== '').length, 6)
    t.is(rows.find((row) => row.host === s.appliance)?.away, s.catalog === s.local, 'who asks over the network is here')
    await begin(s)
    t.false(
      (await s.catalog.hosts()).find((row) => row.host === s.appliance)?.away,
      'an appliance is seen when it runs',
    )
  })
}
