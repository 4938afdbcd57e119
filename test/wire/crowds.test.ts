/** Many connections, and many bodies, of whoever wants to crowd the others out. */
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import {
  BODIES_PER_HOST_BYTES,
  CONNECTIONS_PER_HOST,
  FIRST_BYTE_MS,
  UNPROVED_CONNECTIONS,
  UNPROVED_PER_ADDRESS,
} from '../../src/base/limits.js'
import { Room } from '../../src/base/queue.js'
import { MiB } from '../../src/base/units.js'
import { parseAddress } from '../../src/wire/address.js'
import { Unproved } from '../../src/wire/unproved.js'
import { bare, identity, loopback } from './loopback.js'

const silent = async (t: ExecutionContext, address: string) => {
  const socket = connect(parseAddress(address))
  t.teardown(() => socket.destroy())
  socket.on('error', () => {})
  await once(socket, 'connect')
  return socket
}

test('a crowd of strangers that say nothing: the oldest go, the members are served, all are gone soon', async (t) => {
  const lo = await loopback(t)
  const member = lo.connection()
  t.is((await member.request('GET', '/who/a', { maxBytes: 1000 })).status, 200)
  const crowd: Socket[] = []
  for (let n = 0; n < UNPROVED_PER_ADDRESS; n++) crowd.push(await silent(t, lo.address))
  const oldest = once(crowd[0] as Socket, 'close')
  crowd[0]?.resume()
  const late = await silent(t, lo.address)
  await oldest
  t.is((await lo.connection().request('GET', '/who/a', { maxBytes: 1000 })).status, 200, 'a new connection')
  t.is((await member.request('GET', '/who/a', { maxBytes: 1000 })).status, 200, 'an old one')
  late.resume()
  const began = performance.now()
  await once(late, 'close')
  t.true(performance.now() - began < 5 * FIRST_BYTE_MS)
})

test('one member has so many connections; the others have theirs', async (t) => {
  const lo = await loopback(t)
  const other = identity()
  lo.members.add(other.host)
  const { key, cert } = lo.member
  for (let n = 0; n < CONNECTIONS_PER_HOST; n++) await bare(t, lo.address, { key, cert })
  const more = await bare(t, lo.address, { key, cert })
  await more.closed
  t.regex(more.received(), /^HTTP\/1.1 403 .*connections of this host/s)
  const answer = await lo.connection({ tls: other }).request('GET', '/who/a', { maxBytes: 1000 })
  t.is(answer.status, 200)
})

test('bodies of one member that stop half way take no more memory than two of the largest; others send theirs', async (t) => {
  const lo = await loopback(t)
  const other = identity()
  lo.members.add(other.host)
  const { key, cert } = lo.member
  const ends = await Promise.all(
    Array.from({ length: 20 }, async () => {
      const end = await bare(t, lo.address, { key, cert })
      end.socket.write(`PUT /echo HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: ${8 * MiB}\r\n\r\n`)
      return end
    }),
  )
  const agreed = () => ends.filter(({ received }) => received().startsWith('HTTP/1.1 100'))
  while (agreed().length < BODIES_PER_HOST_BYTES / (8 * MiB)) await sleep(10)
  const body = Buffer.alloc(8 * MiB, 1)
  const reply = await lo.connection({ tls: other }).request('PUT', '/echo', { body, maxBytes: 8 * MiB })
  t.true(reply.body.equals(body))
  t.is(agreed().length, BODIES_PER_HOST_BYTES / (8 * MiB))
  // Who goes makes room, and who left while it waited takes none.
  const waiting = ends.filter((end) => !agreed().includes(end))
  for (const { socket } of waiting.slice(0, 8)) socket.destroy()
  for (const { socket } of agreed()) socket.destroy()
  const last = waiting.slice(8)
  while (!last.slice(0, 4).every(({ received }) => received().startsWith('HTTP/1.1 100'))) await sleep(10)
  t.is(last.filter(({ received }) => received().length > 0).length, 4)
})

test('over all addresses the oldest goes; who has proved itself does not count', (t) => {
  const unproved = new Unproved(3, 2)
  const ended: string[] = []
  const end = (remoteAddress: string, remotePort: number) => {
    const socket = {
      remoteAddress,
      remotePort,
      once: () => {},
      destroy: () => ended.push(`${remoteAddress}:${remotePort}`),
    }
    unproved.enter(socket as unknown as Socket)
    return socket
  }
  const member = end('a', 1)
  end('b', 1)
  end('b', 2)
  unproved.proved(member)
  end('b', 3)
  t.deepEqual(ended, ['b:1'], 'of one address')
  end('c', 1)
  end('d', 1)
  t.deepEqual(ended, ['b:1', 'b:2'], 'of all')
  t.is(unproved.size, 3)
  t.true(UNPROVED_PER_ADDRESS < UNPROVED_CONNECTIONS)
})

test('a room is given in the order of asking, and as a whole', async (t) => {
  const room = new Room(10)
  const entered: number[] = []
  const ask = (size: number) => void room.claim(size).then(() => entered.push(size))
  for (const size of [6, 5, 4, 10]) ask(size)
  await sleep(1)
  t.deepEqual(entered, [6], '4 would fit, but was not the next')
  room.release(6)
  await sleep(1)
  t.deepEqual(entered, [6, 5, 4])
  room.release(5)
  await sleep(1)
  t.deepEqual(entered, [6, 5, 4])
  room.release(4)
  await sleep(1)
  room.release(10)
  t.deepEqual(entered, [6, 5, 4, 10])
  t.true(room.isEmpty)
})
