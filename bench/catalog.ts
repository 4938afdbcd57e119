/**
 * The catalog at scale: `npm run bench:catalog -- --blocks 1e8 [--dir DIR]` builds one with so many blocks of random
 * signatures, opens it in a fresh process, and looks up. 10^6 by default; 10^8 need 12 GB of disk while they are built.
 * `--build DIR` and `--ask DIR` do one half each, in a folder that stays.
 *
 * Most are imported by whole batches of stripes, as a recovery does it; the first are placed and committed stripe by
 * stripe, as a snapshot does it. Both take the same way into the signature repository. `cold` = its files were put out of
 * the page cache. A figure per second of CPU counts all threads of this process, and is the one that other work on the
 * machine disturbs least.
 */

import { execFileSync, spawnSync } from 'node:child_process'
import { createCipheriv, randomInt } from 'node:crypto'
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import type { Hex } from '../src/base/ids.js'
import { LocalCatalog } from '../src/catalog/local.js'
import { partsOf } from '../src/catalog/parts.js'
import type { Catalog, CommitRequest } from '../src/catalog/types.js'
import { RemoteCatalog } from '../src/coordinator/client.js'
import { serveCoordinator } from '../src/coordinator/server.js'
import { tlsIdentity } from '../src/keys/certificate.js'
import { openHome } from '../src/keys/home.js'
import { Secret } from '../src/native.js'
import { runName, stripeOf } from '../src/stripes/names.js'
import { readReceipt } from '../src/stripes/receipt.js'
import { Connection } from '../src/wire/client.js'
import { addPeers, held, hex, nextStripe, placement, recordsOf } from '../test/catalog/harness.js'
import { foundFleet, keyOf, sealingOf } from '../test/coordinator/harness.js'

/** Records of a stripe: a 16 MiB pack of whole blocks. */
const STRIPE = 300
const COMMITTED = 150_000
const IMPORTED_AT_ONCE = 256
const BATCH = 16_384
const IN_FLIGHT = 4
const ID_BYTES = 32

/** The first `COMMITTED` are the catalog's too; behind the last one lie ids that it does not know. */
function idsFrom(first: number, count: number): Buffer {
  const counter = Buffer.alloc(16)
  counter.writeBigUInt64BE(BigInt(first) * 2n, 8)
  return createCipheriv('aes-256-ctr', Buffer.alloc(32), counter).update(Buffer.alloc(count * ID_BYTES))
}

async function timed(what: string, count: number, work: () => Promise<void> | void): Promise<void> {
  const start = performance.now()
  const cpu = process.cpuUsage()
  await work()
  const seconds = (performance.now() - start) / 1000
  const { user, system } = process.cpuUsage(cpu)
  const rate = (value: number) => Math.round(count / value).toLocaleString('en')
  const busy = (user + system) / 1e6
  const cells = [what.padEnd(34), `${seconds.toFixed(1)} s`.padStart(10), `${rate(seconds)}/s`.padStart(14)]
  console.log([...cells, `${rate(busy)}/CPU s`.padStart(16)].join(''))
}

const show = (what: string, value: string) => console.log(`${what.padEnd(34)}${value.padStart(10)}`)
const MiB = (bytes: number) => `${Math.round(bytes / 2 ** 20)} MiB`
/** The kernel's own count, the greatest since it was last told to forget. */
const forgetPeak = () => writeFileSync('/proc/self/clear_refs', '5')
const peak = () => Number(/VmHWM:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]) * 1024

/** Stands still, so that the peers stay seen. */
const clock = { now: () => 1_800_000_000_000 }

async function build(folder: string, blocks: number): Promise<void> {
  const home = foundFleet(folder, Secret.random(), Secret.random(), Secret.random())
  // Its peers are names, and sign nothing: a commit is without the 53 µs that the check of each receipt takes.
  const catalog = LocalCatalog.open(folder, { ...partsOf(home, clock), openReceipt: readReceipt })
  const appliance = hex(32)
  const peers = addPeers(catalog, 6)
  const begun = await catalog.begin({ appliance, volume: hex(16), source: 'bench', label: '' })
  const { lease } = begun
  const imported = catalog.names.number(runName(appliance, hex(8)))
  const committed = Math.min(COMMITTED, blocks)
  const shape = { k: 4, m: 2, packBytes: 100_000 }
  const stripes = (first: number, end: number) =>
    Array.from({ length: Math.ceil((end - first) / STRIPE) }, (_, i) => first + i * STRIPE)
  const placed: CommitRequest[] = []
  await timed('place, a stripe each', committed, async () => {
    for (const first of stripes(0, committed)) {
      const stripe = nextStripe(catalog, appliance, begun)
      const request = placement(4, 2, peers, stripe)
      await catalog.place(lease, request)
      const records = recordsOf(idsFrom(first, Math.min(STRIPE, committed - first)))
      placed.push({ stripe, ...shape, records, shards: held(request) })
    }
  })
  await timed('commit, a stripe each', committed, async () => {
    for (const request of placed) await catalog.commit(lease, request)
  })
  await timed('import, 256 stripes at a time', blocks - committed, async () => {
    for (let at = committed; at < blocks; at += IMPORTED_AT_ONCE * STRIPE) {
      const some = stripes(at, Math.min(at + IMPORTED_AT_ONCE * STRIPE, blocks)).map((first) => ({
        ...{ stripe: stripeOf(imported, first / STRIPE), ...shape },
        shards: held(placement(4, 2, peers)).map((shard) => ({ ...shard, shard: '' })),
        records: recordsOf(idsFrom(first, Math.min(STRIPE, blocks - first))),
        births: BigUint64Array.from(
          { length: Math.min(STRIPE, blocks - first) },
          (_, i) => (BigInt(stripeOf(imported, first / STRIPE)) << 16n) | BigInt(i),
        ),
      }))
      await catalog.importStripes(some)
    }
  })
  catalog.close()
  show('memory, peak of building', MiB(peak()))
  const bytes = filesOf(folder).reduce((sum, path) => sum + statSync(path).size, 0)
  show('on disk', `${(bytes / blocks).toFixed(1)} bytes a block, ${filesOf(folder).length} files`)
}

async function lookUp(catalog: Catalog, lease: Hex, ids: Buffer, expected: number): Promise<void> {
  let hits = 0
  let at = 0
  const worker = async () => {
    while (at < ids.length) {
      const batch = ids.subarray(at, at + BATCH * ID_BYTES)
      at += batch.length
      for (const birth of await catalog.lookup(lease, batch, 1)) if (birth > 0n) hits++
    }
  }
  await Promise.all(Array.from({ length: IN_FLIGHT }, worker))
  if (hits !== expected) throw new Error(`${hits} hits, ${expected} were due`)
}

function forgetCached(folder: string): void {
  for (const path of filesOf(folder)) {
    execFileSync('sync', [path])
    execFileSync('dd', [`if=${path}`, 'iflag=nocache', 'count=0', 'status=none'])
  }
}

function filesOf(folder: string): string[] {
  const entries = readdirSync(join(folder, 'catalog'), { recursive: true, withFileTypes: true })
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name))
}

async function ask(folder: string, blocks: number): Promise<void> {
  let catalog: LocalCatalog | undefined
  forgetCached(folder)
  await timed('open, cold', blocks, () => {
    catalog = LocalCatalog.openFor(folder, clock)
  })
  if (!catalog) return
  show('memory, open', MiB(process.memoryUsage().rss))
  // What the first heartbeat of all asks for.
  const [peer] = (await catalog.hosts()).filter((row) => row.storage !== '')
  const said = { id: '00'.repeat(16), sequence: 0, shards: '00'.repeat(16) }
  const { stock } = catalog.knowledge
  await timed('what stores should hold, counted', blocks, () => void stock.hear(peer?.host ?? '', said))
  const secret = Secret.random()
  const appliance = keyOf(secret)
  const sealing = sealingOf(secret)
  const home = openHome(folder)
  const served = await serveCoordinator({ home, catalog, listen: '127.0.0.1:0' })
  catalog.members.admit({ host: appliance, sealing, name: 'srv', role: 'appliance', domain: 'd', addresses: [] })
  const begun = await catalog.begin({ appliance, volume: hex(16), source: 'bench', label: '' })
  const { lease } = begun
  const connection = new Connection({ tls: tlsIdentity(secret), addresses: [served.address], host: home.host })
  const remote = new RemoteCatalog(connection)

  const many = Math.min(blocks, 1_000_000)
  const few = Math.min(blocks, 100_000)
  const scattered = Buffer.concat(Array.from({ length: many }, () => idsFrom(randomInt(blocks), 1)))
  const ordered = idsFrom(randomInt(blocks - many + 1), many)
  const unknown = idsFrom(2 ** 40, many)
  forgetPeak()
  forgetCached(folder)
  const first = scattered.subarray(0, few * ID_BYTES)
  await timed('known, scattered, cold', few, () => lookUp(catalog as Catalog, lease, first, few))
  forgetCached(folder)
  await timed('unknown, cold', many, () => lookUp(catalog as Catalog, lease, unknown, 0))
  for (const path of filesOf(folder)) execFileSync('sh', ['-c', 'cat "$1" > /dev/null', 'sh', path])
  for (const [where, asked] of [
    ['here', catalog],
    ['over TLS', remote],
  ] as const) {
    await timed(`known, scattered, ${where}`, many, () => lookUp(asked, lease, scattered, many))
    await timed(`known, as written, ${where}`, many, () => lookUp(asked, lease, ordered, many))
    await timed(`unknown, ${where}`, many, () => lookUp(asked, lease, unknown, 0))
  }
  connection.close()
  await served.close()
  catalog.close()
  show('memory, peak of looking up', MiB(peak()))
}

const { values } = parseArgs({
  options: {
    blocks: { type: 'string', default: '1e6' },
    dir: { type: 'string', default: tmpdir() },
    build: { type: 'string' },
    ask: { type: 'string' },
  },
})
const blocks = Number(values.blocks)
if (values.ask !== undefined) {
  await ask(values.ask, blocks)
} else if (values.build !== undefined) {
  await build(values.build, blocks)
} else {
  const folder = mkdtempSync(join(values.dir, 'imager-bench-'))
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }))
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1))
  await build(folder, blocks)
  const { status } = spawnSync(
    process.execPath,
    [fileURLToPath(import.meta.url), '--ask', folder, '--blocks', `${blocks}`],
    { stdio: 'inherit' },
  )
  process.exitCode = status ?? 1
}
