import { randomBytes } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { Manifest, type Pack, Packer, Secret, scanDisk, shardFileBytes, Vault } from '../../src/native.js'
import { folder, shardId, startPeer, WAYS } from '../peers/peer.js'

const [K, M] = [2, 1]

/** A pack of an image of noise, and the keys that sealed it. */
async function makePack(path: string): Promise<{ pack: Pack; vault: InstanceType<typeof Vault> }> {
  const image = join(path, 'image')
  writeFileSync(image, randomBytes(3 << 20))
  const vault = new Vault(Secret.random(), Secret.random(), Secret.random(), randomBytes(16))
  const packer = new Packer(vault, K)
  packer.offerStripes([7])
  const scan = await scanDisk(image, false)
  const batch = scan.reader().next()!
  await batch.prepare(vault)
  packer.claim(batch, new BigUint64Array(batch.ids().length / 32))
  await batch.seal(vault, 1)
  packer.append(batch, new Manifest(path))
  scan.close()
  return { pack: packer.flush()!, vault }
}

for (const way of WAYS) {
  test(`shards go from the addon to a peer, over ${way}, and are gone when they are let go of`, async (t) => {
    const peer = await startPeer(t, {}, way)
    const { pack, vault } = await makePack(folder(t))
    const ids = [1, 2, 3].map((index) => Buffer.from(shardId(index), 'hex'))
    const stripe = await pack.encode(vault, K, M, Buffer.concat(ids))
    const shards = ids.map((_, index) => stripe.shard(index))
    const copies = shards.map((shard) => shard.bytes())
    const lengthBytes = shardFileBytes(pack.lengthBytes, K)
    t.deepEqual(
      [...shards, ...copies].map((one) => ('lengthBytes' in one ? one.lengthBytes : one.length)),
      Array(6).fill(lengthBytes),
    )
    const client = peer.client(peer.fleet.appliance)
    const send = (index: number) => {
      const name = shardId(index + 1)
      return client.sendShard(name, shards[index]!, peer.grant(name, lengthBytes))
    }
    await Promise.all([0, 1].map(send))
    const last = send(2)
    // Over data connections it is begun already; over HTTPS it was copied.
    await new Promise((resolve) => setImmediate(resolve))
    stripe.release()
    await last
    for (const [index, copy] of copies.entries())
      t.true((await client.fetchBody(shardId(index + 1))).take().equals(copy))
    t.throws(() => shards[0]!.bytes(), { message: /not there/ })
    t.throws(() => stripe.root(0))
  })
}
