import { createServer } from 'node:net'
import test from 'ava'
import { tlsIdentity } from '../../src/keys/certificate.js'
import { Peers } from '../../src/peers/pool.js'
import { startPeer } from './peer.js'

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
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => server.close())
  const address = `127.0.0.1:${(server.address() as { port: number }).port}`
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
