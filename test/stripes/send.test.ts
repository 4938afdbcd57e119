import { randomBytes } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { Manifest, type Pack, Packer, Runs, Secret, scanDisk, shardFileBytes, Vault } from '../../src/native.js'
import { runName, shardOf } from '../../src/stripes/names.js'
import { fleet, hostOf } from '../keys/fleet.js'
import { folder, startPeer, WAYS } from '../peers/peer.js'

const [K, M] = [2, 1]

const RUN = '0123456789abcdef'

/** A pack of an image of noise, and the keys that sealed it. */
async function makePack(path: string, name: Buffer): Promise<{ pack: Pack; vault: InstanceType<typeof Vault> }> {
  const image = join(path, 'image')
  writeFileSync(image, randomBytes(3 << 20))
  const vault = new Vault([Secret.random()], Secret.random(), Secret.random(), Buffer.from(fleet, 'hex'))
  const runs = new Runs()
  const packer = new Packer(vault, K, runs, runs.number(name))
  const scan = await scanDisk(image, false)
  const batch = scan.reader().next()!
  await batch.prepare(vault)
  packer.claim(batch, new BigUint64Array(batch.ids().length / 32))
  await batch.seal(vault, 1)
  packer.append(batch, new Manifest(path, runs))
  scan.close()
  return { pack: packer.flush()!, vault }
}

for (const way of WAYS) {
  test(`shards go from the addon to a peer, over ${way}, and are gone when they are let go of`, async (t) => {
    const peer = await startPeer(t, {}, way)
    const { appliance } = peer.fleet
    const writer = hostOf(appliance)
    const name = runName(writer, RUN)
    const { pack, vault } = await makePack(folder(t), name)
    const ids = [0, 1, 2].map((index) => shardOf(name, pack.stripe, index))
    const stripe = await pack.encode(vault, appliance, K, M)
    const shards = ids.map((_, index) => stripe.shard(index))
    const copies = shards.map((shard) => shard.bytes())
    const lengthBytes = shardFileBytes(pack.lengthBytes, K)
    t.deepEqual(
      [...shards, ...copies].map((one) => ('lengthBytes' in one ? one.lengthBytes : one.length)),
      Array(6).fill(lengthBytes),
    )
    const client = peer.client(appliance)
    const send = (index: number) => {
      const id = ids[index]!
      const grant = peer.grant(id, lengthBytes, { writer, run: RUN, number: 0, index })
      return client.sendShard(id, shards[index]!, grant)
    }
    await Promise.all([0, 1].map(send))
    const last = send(2)
    // Over data connections it is begun already; over HTTPS it was copied.
    await new Promise((resolve) => setImmediate(resolve))
    stripe.release()
    await last
    for (const [index, copy] of copies.entries()) t.true((await client.fetchBody(ids[index]!)).take().equals(copy))
    t.throws(() => shards[0]!.bytes(), { message: /not there/ })
    t.throws(() => stripe.root(0))
  })
}
