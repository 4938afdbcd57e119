import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, watch, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { hasCode } from '../../src/base/errors.js'
import { tlsIdentity } from '../../src/keys/certificate.js'
import { signGrant } from '../../src/keys/grant.js'
import { NotCarried } from '../../src/wire/shard-transport.js'
import { fleet, hostOf, makeFleet } from '../keys/fleet.js'
import { folder, makeShard, openStore, openTransport, RUN, shardId, WAYS } from './peer.js'

for (const way of WAYS)
  test(`a peer killed at any moment holds whole shards only, and every one it acknowledged (${way})`, async (t) => {
    const members = makeFleet()
    const root = folder(t)
    const store = join(root, 'store')
    writeFileSync(join(root, 'membership'), members.membership.bytes)
    members.peer.save(join(root, 'key'))
    const script = fileURLToPath(new URL('process.js', import.meta.url))
    const host = hostOf(members.peer)
    const acknowledged: string[] = []
    let index = 0
    for (let round = 0; round < 4; round++) {
      const child = spawn(process.execPath, [
        script,
        store,
        join(root, 'membership'),
        join(root, 'key'),
        fleet,
        members.rootKey,
      ])
      const [line] = (await once(child.stdout, 'data')) as [Buffer]
      const address = line.toString().trim()
      const tls = tlsIdentity(members.appliance)
      const { shards, close } = openTransport(way, { tls, addresses: [address], host })
      let alive = true
      const upload = async () => {
        while (alive) {
          const number = index++
          const shard = shardId(number)
          const bytes = makeShard(shard, Buffer.alloc(1 << 20, index))
          const bearer = hostOf(members.appliance)
          const body = {
            fleet,
            term: 1,
            operation: 'put' as const,
            lease: '1e'.repeat(16),
            ...RUN,
            number,
            index: 0,
            lengthBytes: bytes.length,
            host,
            bearer,
          }
          try {
            await shards.put(shard, bytes, signGrant(body, members.coordinator).toString('base64'))
            acknowledged.push(shard)
          } catch (error) {
            // Killed between the first byte and the answer to it, it is there and carries nothing.
            t.true(hasCode(error, 'HOST_UNREACHABLE') || error instanceof NotCarried)
            alive = false
          }
        }
      }
      const uploads = [upload(), upload(), upload(), upload()]
      const enough = acknowledged.length + 3
      while (alive && acknowledged.length < enough) await sleep(5)
      // Then so many names come and go where shards are written before they are whole.
      let left = 3 * round
      const watcher = watch(join(store, 'incoming'), () => {
        if (left-- === 0) child.kill('SIGKILL')
      })
      await Promise.all(uploads)
      watcher.close()
      close()
    }
    const reopened = await openStore(store)
    t.deepEqual(readdirSync(join(store, 'incoming')), [])
    t.true(acknowledged.length >= 12, `${acknowledged.length}`)
    const held = (await reopened.inventory('', 10_000)).shards
    t.true(held.every((row) => row.bytes === (1 << 20) + 4096))
    const ids = new Set(held.map((row) => row.shard))
    t.true(acknowledged.every((shard) => ids.has(shard)))
    t.log(`${acknowledged.length} acknowledged, ${held.length} held, ${index} begun`)
  })
