/**
 * `node build/bench/finish.js`: what a `begin` and a `finish` cost all hosts together, without witnesses, with three, five and seven;
 * and what a set of 100,000 heads adds. Coordinator, peers and appliance are one process on loopback, so that its processor time is
 * that of all of them; each has its own TLS, store and syncs.
 *
 *   BENCH_RUNS=N   snapshots of each fleet (default 100)
 */
import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { hasCode } from '../src/base/errors.js'
import { toHex } from '../src/base/ids.js'
import { LocalCatalog } from '../src/catalog/local.js'
import type { Begun, PlaceRequest, ReceiptedShard } from '../src/catalog/types.js'
import { RemoteCatalog } from '../src/coordinator/client.js'
import { CoordinatorLink } from '../src/fleet/link.js'
import { openFleet } from '../src/fleet/open.js'
import { witnessesOf } from '../src/keys/checkpoint.js'
import { signHead } from '../src/keys/head.js'
import { decodeHeadIds, HEAD_ID_BYTES, HeadSet } from '../src/keys/head-set.js'
import type { Home } from '../src/keys/home.js'
import { hash, type SecretHandle } from '../src/native.js'
import { runName, shardOf } from '../src/stripes/names.js'
import { readReceipt, signReceipt } from '../src/stripes/receipt.js'
import { held, hex, ids, nextStripe, placement, recordsOf, references, summary } from '../test/catalog/harness.js'
import { TestFleet } from '../test/fleet/fleet.js'
import { median, table } from './arithmetic.js'

const RUNS = Number(process.env.BENCH_RUNS ?? 100)
const MANY = 100_000
const VOLUME = hex(16)

interface Figure {
  readonly peers: number
  readonly heads: number
  readonly witnesses: number
  readonly cpuMs: number
  readonly finishMs: number
}

async function main(): Promise<void> {
  process.stdout.write(`${setFigures()}\n\n`)
  const figures: Figure[] = []
  const fleets = [
    [2, 0],
    [3, 0],
    [5, 0],
    [7, 0],
    [3, MANY],
  ] as const
  for (const [peers, heads] of fleets) figures.push(await measure(peers, heads))
  const rows = figures.map(({ peers, heads, witnesses, cpuMs, finishMs }) => {
    return [String(peers), String(witnesses), String(heads), cpuMs.toFixed(1), finishMs.toFixed(1)]
  })
  process.stdout.write(`${table([['peers', 'witnesses', 'heads before', 'CPU, ms', 'finish, ms'], ...rows])}\n`)
}

/** Processor time of one more head, and of loading all of them. */
function setFigures(): string {
  const cpu = (work: () => unknown) => {
    const before = process.cpuUsage()
    work()
    const { user, system } = process.cpuUsage(before)
    return (user + system) / 1000
  }
  const all = randomBytes(MANY * HEAD_ID_BYTES)
  let set = HeadSet.empty
  const load = cpu(() => {
    set = HeadSet.empty.with(all)
    return set.root
  })
  const more = cpu(() => {
    const roots: string[] = []
    for (let times = 0; times < RUNS; times++) {
      set = set.with(randomBytes(HEAD_ID_BYTES))
      roots.push(set.root)
    }
    return roots
  })
  return `set of ${MANY} heads: loaded in ${load.toFixed(0)} ms of CPU, one more in ${(more / RUNS).toFixed(2)} ms`
}

async function measure(peers: number, heads: number): Promise<Figure> {
  const endings: (() => unknown)[] = []
  const fleet = await TestFleet.found({ teardown: (end: () => unknown) => endings.push(end) } as never)
  try {
    const coordinator = await fleet.coordinator()
    const homes: Home[] = []
    for (let index = 0; index < peers; index++) homes.push(await fleet.add(`pc-${index}`, 'peer'))
    for (const home of homes) await fleet.peer(home)
    const appliance = await fleet.add('server', 'appliance')
    if (heads > 0) {
      await coordinator.close()
      const catalog = LocalCatalog.openFor(fleet.home.state)
      const many = decodeHeadIds(randomBytes(heads * HEAD_ID_BYTES))
      // As a recovery leaves it that found no heads: their names are known.
      catalog.write(() => {
        catalog.chain.find(many)
        const names = Buffer.from(JSON.stringify(many.map(({ snapshot }) => snapshot)))
        catalog.registry.setDocument('named-only', fleet.home.fleet, 1, names)
      })
      catalog.close()
      await fleet.coordinator()
    }
    return { peers, heads, ...(await run(appliance, homes)) }
  } finally {
    for (const end of endings.reverse()) await end()
  }
}

async function run(home: Home, peers: readonly Home[]): Promise<Omit<Figure, 'peers' | 'heads'>> {
  const opened = await openFleet(home)
  const witnesses = witnessesOf(home.membership()).length
  await opened.close()
  const { addresses, key } = home.coordinator
  const link = new CoordinatorLink(home.tls, addresses, key)
  const catalog = new RemoteCatalog(link)
  try {
    const begin = () => catalog.begin({ appliance: home.host, volume: VOLUME, source: '/dev/sdx', label: '' })
    const first = await once(begin)
    // Nothing of it is sent: it must be less than what each peer holds of documents, or the peers are not believed.
    const hosts = peers.map(({ host }) => host)
    const stripe = nextStripe(catalog, home.host, first)
    const place = { ...placement(1, 1, hosts, stripe), packBytes: 200, lengthBytes: 4296 }
    await catalog.place(first.lease, place)
    const { k, m, packBytes } = place
    const shards = held(place).map((shard) => signed(shard, peers, runName(home.host, first.run), place))
    await catalog.commit(first.lease, { stripe, k, m, packBytes, records: recordsOf(ids(1)), shards })
    const finish = async (begun: typeof first) => {
      const request = finishRequest(home, begun, references([stripe], catalog.names))
      const started = performance.now()
      const { cosigned } = await catalog.finish(begun.lease, request)
      if (!cosigned) throw new Error('no quorum')
      return performance.now() - started
    }
    await finish(first)
    await sleep(3000)
    const times: number[] = []
    const before = process.cpuUsage()
    for (let run = 0; run < RUNS; run++) times.push(await finish(await begin()))
    const { user, system } = process.cpuUsage(before)
    return { witnesses, cpuMs: (user + system) / 1000 / RUNS, finishMs: median(times) }
  } finally {
    link.close()
  }
}

/** As its host would have signed it. */
function signed(shard: ReceiptedShard, peers: readonly Home[], name: Buffer, place: PlaceRequest): ReceiptedShard {
  const { index, host, root } = shard
  const { fleet, secret } = peers.find((peer) => peer.host === host) as Home
  const subject = { fleet, shard: shardOf(name, place.stripe, index), root }
  return {
    ...shard,
    receipt: signReceipt(readReceipt(Buffer.from(shard.receipt, 'base64')), subject, secret).toString('base64'),
  }
}

/** A hundred thousand heads are listed and signed for the first time: one process is all hosts, and answers nobody meanwhile. */
async function once<T>(ask: () => Promise<T>): Promise<T> {
  for (let tries = 0; ; tries++) {
    try {
      return await ask()
    } catch (error) {
      if (tries === 20 || !hasCode(error, 'COORDINATOR_UNREACHABLE', 'COORDINATOR_READ_ONLY')) throw error
    }
  }
}

function finishRequest(home: Home, { run, snapshot, sequence, parent }: Begun, named: Buffer) {
  const root = {
    ...{ key: Buffer.alloc(80).toString('base64'), writer: home.host, run, number: 0, ordinal: 0 },
    ...{ k: 1, m: 1, packBytes: 200, offset: 0, length: 90, shards: [{ index: 0, host: home.host }] },
  }
  const head = signHead(
    {
      ...{ fleet: home.fleet, appliance: home.host, volume: VOLUME, sequence, snapshot, parent, time: Date.now() },
      ...{ root, references: toHex(hash(named)) },
    },
    home.secret,
    home.trailerKey as SecretHandle,
  )
  return { head, references: named, asked: false, summary: summary({ tolerate: 1, k: 1, m: 1 }) }
}

await main()
