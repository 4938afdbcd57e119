/**
 * What others stored is referred to only once it is proved: noise under the signatures of blocks that somebody else has, before and
 * after he stored them; a coordinator that says that everything is known; one server that strikes the stripes of others; a PC that
 * answers proofs from nothing.
 */
import { randomBytes } from 'node:crypto'
import test, { type ExecutionContext } from 'ava'
import * as v from 'valibot'
import type { Catalog, CommitRequest } from '../../src/catalog/types.js'
import type { Fleet } from '../../src/fleet/open.js'
import type { StatusReport } from '../../src/fleet/status.js'
import { type SnapshotReport, takeSnapshot } from '../../src/jobs/snapshot/snapshot.js'
import { openHome } from '../../src/keys/home.js'
import { openVault } from '../../src/keys/vault.js'
import { scanDisk } from '../../src/native.js'
import { ID_BYTES, RECORD_BYTES } from '../../src/signatures/rows.js'
import { runOf } from '../../src/stripes/names.js'
import { decodeMessage, encodeMessage } from '../../src/wire/message.js'
import { type Request, type Route, serve } from '../../src/wire/server.js'
import { imager, lastLine, TestLab } from '../e2e/lab.js'
import { attacking } from './attacks.js'
import { joinAs, peerOf, withFleet } from './hands.js'
import { honest, type Pages, storeHostile } from './manifest.js'

/** Of a block that does not compress. */
const RECORD = 64 * 1024 + 54

/** The signatures of all blocks of a disk, as whoever is in the fleet and guesses its content has them. */
async function guess(state: string, disk: string): Promise<Buffer> {
  const home = openHome(state)
  const scan = await scanDisk(disk, false, [])
  const reader = scan.reader()
  const ids: Buffer[] = []
  for (let batch = reader.next(); batch; batch = reader.next()) {
    await batch.prepare(openVault(home, '00'.repeat(16)))
    ids.push(batch.ids())
  }
  scan.close()
  return Buffer.concat(ids)
}

function* noise(): Pages {
  yield () => randomBytes(400_000)
  return yield* honest()
}

/** A stripe of noise, safer than others, that says to hold records of these signatures. `length`: as the true ones have. */
async function poison(state: string, ids: Buffer, length: number): Promise<void> {
  await withFleet(state, async (fleet) => {
    const rows = Buffer.alloc((ids.length / ID_BYTES) * RECORD_BYTES)
    for (let at = 0; at * ID_BYTES < ids.length; at++) {
      ids.copy(rows, at * RECORD_BYTES, at * ID_BYTES, (at + 1) * ID_BYTES)
      rows.writeUInt32LE(16, at * RECORD_BYTES + ID_BYTES)
      rows.writeUInt32LE(length, at * RECORD_BYTES + ID_BYTES + 4)
    }
    const commit = (lease: string, request: CommitRequest) => fleet.catalog.commit(lease, { ...request, records: rows })
    await storeHostile({ ...fleet, catalog: lying(fleet, { commit }) }, noise(), { tolerate: 3 })
  })
}

function lying(fleet: Fleet, lies: Partial<Catalog>): Fleet['catalog'] {
  const { catalog } = fleet
  return new Proxy(catalog, {
    get: (_, name) => {
      const value = lies[name as keyof Catalog] ?? catalog[name as keyof Catalog]
      return typeof value === 'function' ? value.bind(catalog) : value
    },
  }) as Fleet['catalog']
}

async function run(t: ExecutionContext, state: string, disk: string, ...more: string[]): Promise<SnapshotReport> {
  const outcome = await imager('snapshot', disk, ...more, '--state', state, '--json')
  t.is(outcome.code, 0, outcome.stdout + outcome.stderr)
  return lastLine<SnapshotReport>(outcome)
}

async function events({ lab }: TestLab): Promise<string> {
  return (await imager('events', '--state', lab.coordinator.state)).stdout
}

test('noise under the signatures of others, before and after they store: nobody refers to it, and whoever wrote it is named', async (t) => {
  const tried = attacking(t)
  const lab = await TestLab.up(t, 4)
  const own = lab.lab.appliance.state
  const [thief, other, third] = [
    await joinAs(lab, 'appliance', 'thief'),
    await joinAs(lab, 'appliance', 'other'),
    await joinAs(lab, 'appliance', 'third'),
  ]
  const [first, second, shared] = [
    lab.makeDisk('first.img', 12),
    lab.makeDisk('second.img', 12),
    lab.makeDisk('third.img', 40),
  ]
  const status = async () => {
    const outcome = await imager('status', '--state', own, '--json')
    return { code: outcome.code, problems: lastLine<StatusReport>(outcome).problems }
  }

  // One server says that what others stored is false: it is believed by nobody but itself.
  const before = await run(t, own, shared)
  await withFleet(thief, async ({ catalog }) => {
    const ids = await guess(thief, shared)
    const lease = await catalog.begin({
      appliance: openHome(thief).host,
      volume: 'ab'.repeat(16),
      source: '/dev/x',
      label: '',
    })
    const births = await catalog.lookup(lease.lease, ids, 1)
    t.true(births.every((birth) => birth > 0n))
    await catalog.complain([...new Set(Array.from(births, (birth) => Number(birth >> 16n)))])
    t.true(
      (await catalog.lookup(lease.lease, ids, 1)).every((birth) => birth === 0n),
      'it is not offered them itself',
    )
  })
  const hit = await run(t, third, shared)
  t.true(hit.newBytes < before.newBytes / 100, `others are: ${hit.newBytes} of ${before.newBytes}`)
  t.is(hit.state, 'protected')
  t.deepEqual(
    hit.notes.filter((note) => /proved/.test(note)),
    [],
  )
  t.regex(await events(lab), /thief found that \d+ stripes? that appliance stored do(es)? not hold what it said/)
  t.notRegex(await events(lab), /nobody refers to/)
  tried('complains')

  // Before: with the length that the true records have, and with another.
  await poison(thief, await guess(thief, first), RECORD)
  const forward = await run(t, own, first)
  t.is(forward.state, 'protected')
  t.regex(
    forward.notes.join(),
    /blocks that were said to be known were not proved.*what thief stored is not what it said/,
  )
  await lab.restoreLatest(t, first, 'forward.img')
  t.regex(await events(lab), /appliance found that 1 stripe that thief stored does not hold what it said/)
  const { code, problems } = await status()
  t.is(code, 8)
  t.true(problems.some((one) => one.code === 'FALSE_RECORDS' && one.sentence.includes('thief')))
  const again = await run(t, own, first, '--full-read')
  t.is(again.newBytes, 0, 'its own are offered first')
  t.deepEqual(
    again.notes.filter((note) => /proved/.test(note)),
    [],
  )
  // A second server finds it too: it is offered to nobody any more.
  t.regex((await run(t, other, first)).notes.join(), /what thief stored is not what it said/)
  t.regex(await events(lab), /1 stripe that thief stored: nobody refers to what is in it any more/)
  const last = await run(t, third, first)
  t.deepEqual(
    last.notes.filter((note) => /proved/.test(note)),
    [],
  )
  t.true(last.newBytes < forward.newBytes / 100)
  tried('poison-before')

  // After: what the victim has itself counts before what is safer; who comes later finds out.
  await run(t, own, second)
  await poison(thief, await guess(thief, second), 100)
  const backward = await run(t, own, second, '--full-read')
  t.is(backward.newBytes, 0)
  t.is(backward.state, 'protected')
  await lab.restoreLatest(t, second, 'backward.img')
  const late = await run(t, other, second)
  t.is(late.state, 'protected')
  t.regex(late.notes.join(), /what thief stored is not what it said/)
  const target = lab.path('late.img')
  const restored = await imager('restore', late.snapshot, '--to', target, '--state', other, '--json')
  t.is(restored.code, 0, restored.stdout + restored.stderr)
  tried('poison-after')
})

test('a coordinator that says that everything is known, and a PC that answers proofs from nothing: what is right somewhere is found, the rest stored again', async (t) => {
  const tried = attacking(t)
  const lab = await TestLab.up(t, 4)
  const own = lab.lab.appliance.state
  const other = await joinAs(lab, 'appliance', 'other')
  const [first, disk] = [lab.makeDisk('first.img', 12), lab.makeDisk('disk.img', 12)]
  const before = await run(t, own, first)
  await withFleet(other, async (fleet) => {
    const { catalog } = fleet
    // Of stripes of another that are there, and of nobody.
    const name = await withFleet(own, async (its) => {
      const [stripe = 0] = await its.catalog.snapshotStripes(before.snapshot)
      return its.catalog.names.name(runOf(stripe)) as Buffer
    })
    const run = catalog.names.number(name)
    const nobody = catalog.names.number(randomBytes(40))
    let asked = 0
    const lookup: Catalog['lookup'] = async (_, ids) => {
      asked += ids.length / ID_BYTES
      const birth = (at: number) =>
        (BigInt(at % 5 === 0 ? nobody : run) << 40n) | (BigInt(at % 3) << 16n) | BigInt(at % 7)
      return BigUint64Array.from({ length: ids.length / ID_BYTES }, (_, at) => birth(at))
    }
    const locate: Catalog['locate'] = async (ids, births) => ({
      stripes: births.map((one) => one >> 16n),
      offsets: Uint32Array.from(births, (_, at) => 16 + (at % 11) * 1000),
      lengths: Uint32Array.from(births, (_, at) => (at % 2 === 0 ? RECORD : 5 + ids.length / 100)),
    })
    const parts = { ...fleet, catalog: lying(fleet, { lookup, locate, complain: async () => {} }), report: () => {} }
    const done = await takeSnapshot(
      {
        ...{ source: disk, label: '', fullRead: false, everything: false, level: undefined, wait: false },
        view: { choice: 'auto' } as never,
      },
      { ...parts, signal: new AbortController().signal },
    )
    t.true(asked > 100)
    const ids = (await guess(other, disk)).toString('hex')
    t.is(done.newBlocks, new Set(ids.match(/.{64}/g)).size, 'each is stored')
    t.regex(done.notes.join(), /were not proved, and were stored again/)
    const target = lab.path('said.img')
    const restored = await imager('restore', done.snapshot, '--to', target, '--state', other, '--json')
    t.is(restored.code, 0, restored.stdout + restored.stderr)
  })
  tried('known-all')

  // A PC that proves from nothing, and serves what it has: what is fetched opens, and nobody is named.
  const at = await withFleet(own, async ({ catalog }) => {
    const rows = await catalog.stripes(await catalog.snapshotStripes(before.snapshot))
    const holder = rows[0]?.shards.find(({ index }) => index === 0)?.host
    return lab.lab.peers.findIndex((_, nth) => peerOf(lab, nth).host === holder)
  })
  const liar = peerOf(lab, at)
  const home = openHome(lab.lab.peers[at]?.state ?? '')
  const held = await withFleet(own, async ({ peers }) => {
    const { shards } = await peers.get(liar.host).fetchInventory()
    return new Map(
      await Promise.all(
        shards.map(async ({ shard }) => [shard, (await peers.get(liar.host).fetchBody(shard)).take()] as const),
      ),
    )
  })
  await lab.kill(lab.lab.peers[at]?.pid ?? 0)
  let serves = (bytes: Buffer): Buffer => bytes
  let proofs = 0
  const route = (method: Route['method'], path: string, handle: Route['handle']): Route => ({
    ...{ method, path, maxBytes: 16 << 20, handle },
  })
  const file = ({ params, range }: Request) => {
    const bytes = held.get(params.shard ?? '') ?? Buffer.alloc(4096)
    return { body: serves(range ? bytes.subarray(...range) : bytes), status: range ? 206 : 200 }
  }
  const rogue = await serve({
    ...{ tls: home.tls, listen: liar.address, admit: () => true },
    routes: [
      route('GET', '/v1/shards/:shard', async (request) => file(request)),
      route('POST', '/v1/prove', async (request) => {
        const ranges = decodeMessage(v.unknown(), await request.body()).attachment.length / 24
        proofs += ranges
        const answer = () => Buffer.concat([Buffer.of(0), randomBytes(32)])
        return { body: encodeMessage({}, Buffer.concat(Array.from({ length: ranges }, answer))) }
      }),
    ],
  })
  t.teardown(() => rogue.close())
  const [second, third] = [await joinAs(lab, 'appliance', 'second'), await joinAs(lab, 'appliance', 'third')]
  const outcome = await imager('snapshot', first, '--state', second, '--json')
  const report = lastLine<SnapshotReport>(outcome)
  t.true(proofs > 0)
  t.true(report.newBytes < before.newBytes / 100, outcome.stdout)
  t.notRegex(report.notes.join(), /not proved/)
  // The same, and noise for what is fetched: it comes from the others.
  serves = (bytes) => randomBytes(bytes.length)
  const noisy = await imager('snapshot', first, '--state', third, '--json')
  const told = lastLine<SnapshotReport>(noisy)
  t.true(told.newBytes < before.newBytes / 100, noisy.stdout)
  t.notRegex(told.notes.join(), /stored is not what it said/)
  t.notRegex(await events(lab), /appliance stored/)
  tried('proves-nothing')
})
