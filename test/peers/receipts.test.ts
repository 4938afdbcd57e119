/** What a writer's twin, or a coordinator that went back, tries with names that a peer holds already (docs/model.md, WRITE_ONCE). */
import { randomBytes } from 'node:crypto'
import { rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import type { ImagerError } from '../../src/base/errors.js'
import {
  type Batch,
  Manifest,
  type Pack,
  Packer,
  Runs,
  Secret,
  type SecretHandle,
  scanDisk,
  Vault,
} from '../../src/native.js'
import { receiptOf } from '../../src/peers/receipts.js'
import type { PeerParts } from '../../src/peers/rights.js'
import type { ShardStore } from '../../src/peers/store.js'
import { runName } from '../../src/stripes/names.js'
import type { Group } from '../../src/stripes/place.js'
import { openReceipt, type Receipt, signReceipt } from '../../src/stripes/receipt.js'
import { StripeSender } from '../../src/stripes/send.js'
import { fleet, hostOf, makeFleet } from '../keys/fleet.js'
import { folder, idOf, makeShards, openStore, startPeer, WAYS } from './peer.js'

for (const way of WAYS) {
  test(`appliance: a twin that places its stripe on the same peers in another order is refused, over ${way}`, async (t) => {
    const at = folder(t)
    const body = (value: number) => Buffer.alloc(70_000, value)
    const [held, twin] = [makeShards(9, [body(1), body(2)]), makeShards(9, [body(3), body(4)])]
    const send = async (files: readonly Buffer[], index: number) => {
      // Started anew each time: what is refused is on its disk, not in its memory.
      const peer = await startPeer(t, { folder: at }, way)
      const file = files[index] as Buffer
      const grant = peer.grant(idOf(9, index), file.length, { number: 9, index })
      await peer.client(peer.fleet.appliance).sendShard(idOf(9, index), file, grant)
    }
    await send(held, 0)
    await t.throwsAsync(send(twin, 1), { code: 'HOST_REFUSED', message: /of another stripe of the same name/ })
    await send(held, 1)
  })
}

test('compromised peer: without its signature over this very shard an appliance does not count it as kept', async (t) => {
  const lies: [string, (honest: Buffer, peer: SecretHandle) => Buffer][] = [
    ['an empty answer', () => Buffer.alloc(0)],
    ['a receipt that another signed', (honest) => resigned(honest, Secret.random())],
    ['one with a bit changed', (honest) => Buffer.from(honest.map((byte, at) => (at === 20 ? byte ^ 1 : byte)))],
    ['its own word for another stripe', (honest, peer) => resigned(honest, peer, { stripe: '01'.repeat(32) })],
    ['its own word for another index', (honest, peer) => resigned(honest, peer, { index: 9 })],
    ['its own word for a shorter file', (honest, peer) => resigned(honest, peer, { lengthBytes: 1 })],
  ]
  for (const [what, lie] of lies) {
    const { failures, outcome } = await sendToLiar(t, lie)
    t.is(outcome?.code, 'NOT_PLACED', what)
    t.deepEqual(
      [...failures.values()].map((error) => (error as ImagerError).code),
      ['HOST_LIED', 'HOST_LIED'],
      what,
    )
  }
  t.is((await sendToLiar(t, (honest) => honest)).outcome, undefined, 'the truth is taken')
})

test('a peer signs again what its disk gives now, to who may read', async (t) => {
  const at = folder(t)
  const peer = await startPeer(t, { folder: at })
  const { appliance, peer: itself } = peer.fleet
  const files = [1, 2, 3].map((number) => makeShards(number, [Buffer.alloc(70_000, number)])[0] as Buffer)
  const ids = [1, 2, 3].map((number) => idOf(number, 0))
  const first: Buffer[] = []
  for (const [n, file] of files.entries()) {
    const grant = peer.grant(ids[n]!, file.length, { number: n + 1, index: 0 })
    first.push(await peer.client(appliance).sendShard(ids[n]!, file, grant))
  }
  const client = peer.client(appliance)
  const again = await client.fetchReceipts(ids)
  const open = (receipt: Uint8Array, n: number) => {
    const root = files[n]!.toString('hex', 16, 48)
    return openReceipt(receipt, { fleet, shard: ids[n]!, root, host: peer.host })
  }
  for (const [n, receipt] of again.entries()) {
    t.like(open(receipt as Buffer, n), { ...open(first[n]!, n), sequence: 3 }, 'as its store is now')
  }
  const pathOf = (n: number) => join(at, 'shards', ids[n]!.slice(0, 2), `${ids[n]}.shard`)
  truncateSync(pathOf(0), 60_000)
  rmSync(pathOf(1))
  const [cut, gone, whole] = await client.fetchReceipts(ids)
  t.deepEqual([cut, gone], ['corrupt', 'missing'])
  t.true(Buffer.isBuffer(whole))
  await t.throwsAsync(peer.client(itself).fetchReceipts(ids), { code: 'NOT_ALLOWED' })
  await t.throwsAsync(client.fetchReceipts(Array(9).fill(ids[0])), { code: 'PROTOCOL' })
})

let subject: { shard: string; root: string } = { shard: '', root: '' }

function resigned(honest: Buffer, signer: SecretHandle, change: Partial<Receipt> = {}): Buffer {
  const said = {
    stripe: honest.toString('hex', 8, 40),
    ...{ index: honest.readUInt8(44), lengthBytes: honest.readUInt32LE(40) },
    ...{ store: honest.toString('hex', 48, 64), sequence: Number(honest.readBigUInt64LE(64)) },
  }
  return signReceipt({ ...said, ...change }, { fleet, ...subject }, signer)
}

/** A pack sent to two hosts whose answers are changed on their way. */
async function sendToLiar(t: ExecutionContext, lie: (honest: Buffer, peer: SecretHandle) => Buffer) {
  const members = makeFleet()
  const hosts = [Secret.random(), Secret.random()]
  const { pack, vault, name, names } = await makePack(folder(t), hostOf(members.appliance))
  const stores = new Map(
    await Promise.all(
      hosts.map(async (secret) => [hostOf(secret), { secret, store: await openStore(folder(t)) }] as const),
    ),
  )
  const catalog = { names, place: async () => ['', ''], commit: async () => {} }
  const group = { k: 1, m: 1, members: [...stores.keys()], spares: [], wanted: 1, reach: 1, notes: [] }
  const sender = new StripeSender(
    catalog,
    '1e'.repeat(16),
    group as unknown as Group,
    vault,
    { fleet, secret: members.appliance },
    async (host, shard, file) => {
      const { secret, store } = stores.get(host) as { secret: SecretHandle; store: ShardStore }
      const kept = await store.put(shard, file.bytes())
      subject = { shard, root: kept.facts.root }
      return lie(receiptOf({ secret } as unknown as PeerParts, kept), secret)
    },
  )
  t.truthy(name)
  const outcome = await sender.sendPack(pack, new AbortController().signal).then(
    () => undefined,
    (error: unknown) => error as ImagerError,
  )
  return { failures: sender.failures, outcome }
}

async function makePack(path: string, writer: string) {
  const image = join(path, 'image')
  writeFileSync(image, randomBytes(1 << 20))
  const vault = new Vault([Secret.random()], Secret.random(), Secret.random(), Buffer.from(fleet, 'hex'))
  const names = new Runs()
  const name = runName(writer, '0123456789abcdef')
  const packer = new Packer(vault, 1, names, names.number(name))
  const scan = await scanDisk(image, false)
  const batch = scan.reader().next() as Batch
  await batch.prepare(vault)
  packer.claim(batch, new BigUint64Array(batch.ids().length / 32))
  await batch.seal(vault, 1)
  packer.append(batch, new Manifest(path, names))
  scan.close()
  return { pack: packer.flush() as Pack, vault, name, names }
}
