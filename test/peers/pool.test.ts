import { readdirSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import test from 'ava'
import { tlsIdentity } from '../../src/keys/certificate.js'
import { Peers } from '../../src/peers/pool.js'
import { listening } from '../wire/loopback.js'
import { makeShard, shardId, startPeer } from './peer.js'

test('one client for a host, a new one where its address changed', async (t) => {
  const peer = await startPeer(t)
  const rows = [{ host: peer.host, name: 'pc-1', addresses: ['127.0.0.1:1'] }]
  const clock = { time: 0, now: () => clock.time }
  const peers = new Peers(tlsIdentity(peer.fleet.appliance), () => rows, clock)
  t.teardown(() => peers.close())
  const first = peers.get(peer.host)
  t.is(peers.get(peer.host), first)
  await t.throwsAsync(first.fetchState(), { code: 'HOST_UNREACHABLE', message: /pc-1 at 127.0.0.1:1/ })
  rows[0] = { host: peer.host, name: 'pc-1', addresses: [peer.address] }
  t.true((await peers.get(peer.host).fetchState()).freeBytes > 0)
  t.throws(() => peers.get('00'.repeat(32)), { code: 'HOST_UNREACHABLE', message: /not in the fleet/ })
})

test('a host that did not answer fails at once for a while, then is tried again', async (t) => {
  let tries = 0
  const server = createServer((socket) => {
    tries++
    socket.destroy()
  })
  const address = await listening(t, server)
  const peer = await startPeer(t)
  const clock = { time: 0, now: () => clock.time }
  const rows = [{ host: peer.host, name: 'pc-1', addresses: [address] }]
  const peers = new Peers(tlsIdentity(peer.fleet.appliance), () => rows, clock)
  t.teardown(() => peers.close())
  const ask = () => t.throwsAsync(peers.get(peer.host).fetchState(), { code: 'HOST_UNREACHABLE' })
  await ask()
  await ask()
  t.is(tries, 1)
  clock.time = 4999
  await ask()
  t.is(tries, 1)
  clock.time = 5000
  await ask()
  t.is(tries, 2)
})

test('where a firewall lets nothing but TLS through, shards go over HTTPS, with one warning', async (t) => {
  const peer = await startPeer(t)
  const [host, port] = peer.address.split(':')
  const refused: number[] = []
  const firewall = createServer((socket) => {
    socket.on('error', () => {})
    socket.once('data', (first: Buffer) => {
      if (first[0] !== 0x16) {
        refused.push(first[0] ?? 0)
        socket.resetAndDestroy()
        return
      }
      const through = connect(Number(port), host)
      through.on('error', () => {})
      through.write(first)
      socket.pipe(through).pipe(socket)
    })
  })
  const address = await listening(t, firewall)
  const rows = [{ host: peer.host, name: 'pc-1', addresses: [address] }]
  const clock = { time: 0, now: () => clock.time }
  const said: string[] = []
  const peers = new Peers(
    tlsIdentity(peer.fleet.appliance),
    () => rows,
    clock,
    (what) => said.push(what),
  )
  t.teardown(() => peers.close())
  const bytes = makeShard(shardId(1), Buffer.alloc(200_000, 1))
  const client = peers.get(peer.host)
  await client.sendShard(shardId(1), bytes, peer.grant(shardId(1), bytes.length))
  t.true((await client.fetchBody(shardId(1))).take().equals(bytes))
  t.true((await client.fetchBody(shardId(1), [4096, 5000])).take().equals(bytes.subarray(4096, 5000)))
  t.is(refused.length, 1)
  clock.time = 60_000
  t.true((await client.fetchBody(shardId(1))).take().equals(bytes))
  t.is(refused.length, 2)
  t.deepEqual(said, ['pc-1 takes and gives shards over HTTPS only, which is slower'])
})

test('uploads that are given up leave nothing half', async (t) => {
  const peer = await startPeer(t)
  const rows = [{ host: peer.host, name: 'pc-1', addresses: [peer.address] }]
  const peers = new Peers(tlsIdentity(peer.fleet.appliance), () => rows, { now: () => 0 })
  t.teardown(() => peers.close())
  const body = Buffer.alloc(4 << 20, 1)
  const acknowledged: string[] = []
  for (let index = 0; index < 12; index++) {
    const bytes = makeShard(shardId(index), body)
    const stop = new AbortController()
    const sending = peers.get(peer.host).sendShard(shardId(index), bytes, peer.grant(shardId(index), bytes.length), {
      signal: stop.signal,
    })
    setTimeout(() => stop.abort(), index * 2)
    await sending.then(
      () => acknowledged.push(shardId(index)),
      (error: { code?: string }) => t.is(error.code, 'INTERRUPTED'),
    )
  }
  const incoming = () => readdirSync(join(peer.folder, 'incoming'))
  for (let tries = 0; incoming().length > 0 && tries < 200; tries++) await sleep(20)
  t.deepEqual(incoming(), [])
  const held = (await peer.store.inventory('', 100)).shards
  t.true(held.every((row) => row.bytes === body.length + 4096))
  t.true(acknowledged.every((shard) => held.some((row) => row.shard === shard)))
  t.is((await peer.store.free()).usedBytes, held.length * (body.length + 4096))
})
