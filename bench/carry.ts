/**
 * `node build/bench/carry.js`: what it costs to bring shards to a peer, to fetch them, and to read 16 KiB of them at random,
 * one after the other, over data connections and over HTTPS in turn. Two processes on loopback; the processor time of each is what the kernel counts for the whole process, so
 * the peer's holds the hashing, writing and syncing of what it stores.
 *
 *   BENCH_RUNS=N   rounds (default 3)
 *   BENCH_DIR=DIR  where the peer's store goes (default: the system's temporary folder)
 */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { tlsIdentity } from '../src/keys/certificate.js'
import { signGrant } from '../src/keys/grant.js'
import { fleet, hostOf, makeFleet } from '../test/keys/fleet.js'
import { makeShard, openTransport, RUN, shardId, WAYS } from '../test/peers/peer.js'
import { median, showSpread, spread, table } from './arithmetic.js'

const SHARDS = 64
const SHARD_BYTES = 4 << 20
const AT_ONCE = 4
const READS = 20_000
const READ_BYTES = 16 << 10
const MB = 1e6
const VERBS = ['PUT', 'GET'] as const

interface Figure {
  readonly client: number
  readonly peer: number
  readonly speed: number
}

/** Of all reads of a round: seconds of processor time, and milliseconds that one took. */
interface Reading {
  readonly client: number
  readonly peer: number
  readonly median: number
  readonly slow: number
}

async function main(): Promise<void> {
  const root = await mkdtemp(join(process.env.BENCH_DIR ?? tmpdir(), 'imager-carry-'))
  const members = makeFleet()
  await writeFile(join(root, 'membership'), members.membership.bytes)
  members.peer.save(join(root, 'key'))
  const script = fileURLToPath(new URL('../test/peers/process.js', import.meta.url))
  const files = [join(root, 'store'), join(root, 'membership'), join(root, 'key')]
  const peer = fork(script, [...files, fleet, members.rootKey], { stdio: ['ignore', 'pipe', 'inherit', 'ipc'] })
  try {
    const [line] = (await once(peer.stdout as NodeJS.ReadableStream, 'data')) as [Buffer]
    const { figures, readings } = await measureAll(peer, line.toString().trim(), members)
    process.stdout.write(`${report(figures)}\n\n${reportReads(readings)}\n`)
  } finally {
    peer.kill()
    await rm(root, { recursive: true, force: true })
  }
}

async function measureAll(peer: ChildProcess, address: string, members: ReturnType<typeof makeFleet>) {
  const tls = tlsIdentity(members.appliance)
  const host = hostOf(members.peer)
  const called = { tls, addresses: [address], host, name: 'peer' }
  const [data, https] = [openTransport('data connections', called), openTransport('HTTPS', called)]
  const clients = { 'data connections': data.shards, HTTPS: https.shards }
  const body = Buffer.alloc(SHARD_BYTES)
  for (let at = 0; at < body.length; at += 4) body.writeUInt32LE((at * 2_654_435_761) >>> 0, at)
  const bearer = tls.host
  const figures: { way: string; verb: string; figure: Figure }[] = []
  const readings: { way: string; reading: Reading }[] = []
  let made = 0
  for (let run = 0; run < Number(process.env.BENCH_RUNS ?? 3); run++) {
    for (const way of WAYS) {
      const shards = Array.from({ length: SHARDS }, () => {
        const number = made++
        const shard = shardId(number)
        const bytes = makeShard(shard, body)
        const named = { lease: '1e'.repeat(16), ...RUN, number, index: 0 }
        const fields = { fleet, term: 1, operation: 'put' as const, ...named, host, bearer }
        return {
          shard,
          bytes,
          grant: signGrant({ ...fields, lengthBytes: bytes.length }, members.coordinator).toString('base64'),
        }
      })
      const client = clients[way]
      const work = {
        PUT: (index: number) => client.put(shards[index]!.shard, shards[index]!.bytes, shards[index]!.grant),
        GET: async (index: number) => void (await client.fetch(shards[index]!.shard, undefined)).take(),
      }
      for (const verb of VERBS) figures.push({ way, verb, figure: await measureOne(peer, work[verb]) })
      const read = async (index: number) => {
        const start = 4096 + ((index * 2_654_435_761) % (SHARD_BYTES - READ_BYTES))
        const body = await client.fetch(shards[index % SHARDS]!.shard, [start, start + READ_BYTES])
        body.take()
      }
      readings.push({ way, reading: await measureReads(peer, read) })
    }
  }
  data.close()
  https.close()
  return { figures, readings }
}

async function measureOne(peer: ChildProcess, work: (index: number) => Promise<unknown>): Promise<Figure> {
  const [mine, theirs, started] = [process.cpuUsage(), await cpuOf(peer), performance.now()]
  let next = 0
  const worker = async () => {
    for (let index = next++; index < SHARDS; index = next++) await work(index)
  }
  await Promise.all(Array.from({ length: AT_ONCE }, worker))
  const seconds = (performance.now() - started) / 1000
  const used = process.cpuUsage(mine)
  const megabytes = (SHARDS * SHARD_BYTES) / MB
  return {
    client: (used.user + used.system) / 1000 / megabytes,
    peer: ((await cpuOf(peer)) - theirs) / 1000 / megabytes,
    speed: megabytes / seconds,
  }
}

async function measureReads(peer: ChildProcess, read: (index: number) => Promise<void>): Promise<Reading> {
  const [mine, theirs, took] = [process.cpuUsage(), await cpuOf(peer), [] as number[]]
  for (let index = 0; index < READS; index++) {
    const started = performance.now()
    await read(index)
    took.push(performance.now() - started)
  }
  const used = process.cpuUsage(mine)
  took.sort((a, b) => a - b)
  return {
    client: (used.user + used.system) / 1e6,
    peer: ((await cpuOf(peer)) - theirs) / 1e6,
    median: median(took),
    slow: took[Math.floor(0.99 * READS)] as number,
  }
}

/** Microseconds of processor time of the peer's process so far. */
async function cpuOf(peer: ChildProcess): Promise<number> {
  peer.send('cpu')
  const [used] = (await once(peer, 'message')) as [number]
  return used
}

function report(figures: readonly { way: string; verb: string; figure: Figure }[]): string {
  const rows = VERBS.flatMap((verb) =>
    WAYS.map((way) => {
      const mine = figures.filter((one) => one.way === way && one.verb === verb).map((one) => one.figure)
      const column = (field: keyof Figure, digits: number) => showSpread(spread(mine.map((one) => one[field])), digits)
      return [`${verb}, ${way}`, column('client', 2), column('peer', 2), column('speed', 0)]
    }),
  )
  return table([['', 'client, ms of CPU a MB', 'peer, ms of CPU a MB', 'MB/s'], ...rows])
}

function reportReads(readings: readonly { way: string; reading: Reading }[]): string {
  const rows = WAYS.map((way) => {
    const mine = readings.filter((one) => one.way === way).map((one) => one.reading)
    const column = (field: keyof Reading, digits: number) => showSpread(spread(mine.map((one) => one[field])), digits)
    return [way, column('client', 1), column('peer', 1), column('median', 2), column('slow', 2)]
  })
  const heading = [`${READS} reads of ${READ_BYTES / 1024} KiB`, 'client, s of CPU', 'peer, s of CPU']
  return table([[...heading, 'ms a read', 'ms, 99 of 100'], ...rows])
}

await main()
