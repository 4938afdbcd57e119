/**
 * The signature repository: inserts by commits of 300 records (a 16 MiB pack), then lookups that hit and that miss, on the
 * state folder and over TLS on loopback. `node build/bench/catalog.js [COUNT]`, default 1,000,000 signatures.
 */
import { randomFillSync } from 'node:crypto'
import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { LocalCatalog } from '../src/catalog/local.js'
import type { Catalog } from '../src/catalog/types.js'
import { RemoteCatalog } from '../src/coordinator/client.js'
import { serveCoordinator } from '../src/coordinator/server.js'
import { tlsIdentity } from '../src/keys/certificate.js'
import { Secret } from '../src/native.js'
import { Connection } from '../src/wire/client.js'
import { addPeers, held, hex, placement, recordsOf } from '../test/catalog/harness.js'
import { foundFleet, keyOf, sealingOf } from '../test/coordinator/harness.js'

const COMMIT = 300
const BATCH = 16_384
const IN_FLIGHT = 4

const count = Number(process.argv[2] ?? 1_000_000)
const random = (): Buffer => {
  const bytes = Buffer.alloc(count * 32)
  for (let at = 0; at < bytes.length; at += 1 << 20) randomFillSync(bytes, at, Math.min(1 << 20, bytes.length - at))
  return bytes
}
const known = random()
const unknown = random()

/** The second figure is of CPU time, which other work on the machine disturbs less. */
async function timed(what: string, work: () => Promise<void>): Promise<void> {
  const start = performance.now()
  const cpu = process.cpuUsage()
  await work()
  const { user, system } = process.cpuUsage(cpu)
  const figure = (seconds: number) =>
    Math.round(count / seconds)
      .toLocaleString('en')
      .padStart(12)
  const [wall, busy] = [figure((performance.now() - start) / 1000), figure((user + system) / 1e6)]
  console.log(`${what.padEnd(28)}${wall} signatures/s ${busy} /CPU s`)
}

async function lookUp(catalog: Catalog, lease: string, ids: Buffer, expected: number): Promise<void> {
  let hits = 0
  let at = 0
  const worker = async () => {
    while (at < ids.length) {
      const batch = ids.subarray(at, at + BATCH * 32)
      at += batch.length
      const births = await catalog.lookup(lease, batch, 1)
      hits += births.reduce((sum, birth) => sum + (birth > 0n ? 1 : 0), 0)
    }
  }
  await Promise.all(Array.from({ length: IN_FLIGHT }, worker))
  if (hits !== expected) throw new Error(`${hits} hits, ${expected} were due`)
}

const folder = mkdtempSync(join(tmpdir(), 'imager-bench-'))
process.once('exit', () => rmSync(folder, { recursive: true, force: true }))
const home = foundFleet(folder, Secret.random(), Secret.random(), Secret.random())
/** Stands still, so that the peers stay seen. */
const now = Date.now()
const local = LocalCatalog.openFor(folder, { now: () => now })
const served = await serveCoordinator({ home, catalog: local, listen: '127.0.0.1:0' })
const secret = Secret.random()
const appliance = keyOf(secret)
local.members.admit({
  host: appliance,
  sealing: sealingOf(secret),
  name: 'srv',
  role: 'appliance',
  domain: 'd',
  addresses: [],
})
const peers = addPeers(local, 6)
const { lease } = await local.begin({ appliance, volume: hex(16), source: 'bench', label: '' })
await timed('place + commit', async () => {
  for (let at = 0; at < count; at += COMMIT) {
    const request = placement(4, 2, peers)
    const { stripe } = await local.place(lease, request)
    const records = recordsOf(known.subarray(at * 32, (at + COMMIT) * 32))
    await local.commit(lease, { stripe, k: 4, m: 2, packBytes: 100_000, records, shards: held(request) })
  }
})
const bytes = statSync(join(folder, 'catalog', 'signatures.db')).size
console.log(`${'signatures.db'.padEnd(28)}${(bytes / count).toFixed(0).padStart(12)} bytes/signature`)
const connection = new Connection({ tls: tlsIdentity(secret), addresses: [served.address], host: home.host })
for (const [where, catalog] of [
  ['here', local],
  ['over TLS', new RemoteCatalog(connection)],
] as const) {
  await timed(`lookup, known, ${where}`, () => lookUp(catalog, lease, known, count))
  await timed(`lookup, unknown, ${where}`, () => lookUp(catalog, lease, unknown, 0))
}
connection.close()
await served.close()
local.close()
