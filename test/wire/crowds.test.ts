/** Many connections, and many bodies, of whoever wants to crowd the others out. */
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import {
  BODIES_BYTES,
  BODIES_PER_HOST_BYTES,
  CONNECTIONS_PER_HOST,
  FIRST_BYTE_MS,
  SLOW_BODY_MS,
  SMALL_BODY_BYTES,
  TRANSFER_TIMEOUT_MS,
  UNPROVED_CONNECTIONS,
  UNPROVED_PER_ADDRESS,
} from '../../src/base/limits.js'
import { Room } from '../../src/base/queue.js'
import { MiB } from '../../src/base/units.js'
import { parseAddress } from '../../src/wire/address.js'
import { BodyRoom, isTooSlow } from '../../src/wire/body-room.js'
import { Unproved } from '../../src/wire/unproved.js'
import { bare, identity, loopback } from './loopback.js'

/**
 * Of this process, which is the server's too, in `FIRST_BYTE_MS`. A machine that is busy elsewhere lets it take fewer, and none beyond:
 * a clock on the wall would count the time in which nobody had a turn.
 */
const TURNS = 100

const silent = async (t: ExecutionContext, address: string) => {
  const socket = connect(parseAddress(address))
  t.teardown(() => socket.destroy())
  socket.on('error', () => {})
  await once(socket, 'connect')
  return socket
}

/** At once where a busy machine was so slow that it has ended already. */
async function ended(socket: Socket): Promise<void> {
  socket.resume()
  if (!socket.closed) await once(socket, 'close')
}

test('a crowd of strangers that say nothing: the oldest go, the members are served, all are gone soon', async (t) => {
  const lo = await loopback(t)
  const member = lo.connection()
  t.is((await member.request('GET', '/who/a', { maxBytes: 1000 })).status, 200)
  const crowd: Socket[] = []
  for (let n = 0; n < UNPROVED_PER_ADDRESS; n++) crowd.push(await silent(t, lo.address))
  const oldest = ended(crowd[0] as Socket)
  const late = await silent(t, lo.address)
  await oldest
  t.is((await lo.connection().request('GET', '/who/a', { maxBytes: 1000 })).status, 200, 'a new connection')
  t.is((await member.request('GET', '/who/a', { maxBytes: 1000 })).status, 200, 'an old one')
  let turns = 0
  const counting = setInterval(() => turns++, FIRST_BYTE_MS / TURNS)
  t.teardown(() => clearInterval(counting))
  await ended(late)
  t.true(turns <= 2 * TURNS, `${turns} turns`)
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

test('a question does not wait for what others send slowly; while somebody waits, who is too slow is cut', async (t) => {
  let now = 0
  const room = new BodyRoom(() => now)
  const cut: string[] = []
  const arriving = (name: string, bytes: number, arrived = 0) => ({ bytes, arrived, cut: () => void cut.push(name) })
  const large = BODIES_PER_HOST_BYTES
  const held = Array.from({ length: BODIES_BYTES / large }, (_, at) => arriving(`host ${at}`, large))
  const releases = await Promise.all(held.map((body, at) => room.claim(`host ${at}`, body)))
  ;(held[0] as { arrived: number }).arrived = large
  const release = await room.claim('honest', arriving('question', SMALL_BODY_BYTES))
  release()
  let served = false
  const waiting = room.claim('honest', arriving('honest', large)).then((done) => {
    served = true
    done()
  })
  now = SLOW_BODY_MS - 1
  await sleep(600)
  t.deepEqual(cut, [], 'not at once')
  now = SLOW_BODY_MS
  while (cut.length === 0) await sleep(10)
  t.false(served)
  t.false(cut.includes('host 0'), 'that one is nearly done')
  t.is(new Set(cut).size, held.length - 1)
  releases[1]?.()
  await waiting
  t.true(served)
})

test('too slow is what would not be done by its deadline', (t) => {
  const half = { bytes: 1000, arrived: 500 }
  t.false(isTooSlow(half, TRANSFER_TIMEOUT_MS / 2))
  t.true(isTooSlow(half, TRANSFER_TIMEOUT_MS / 2 + 100))
  t.false(isTooSlow({ bytes: 1000, arrived: 0 }, SLOW_BODY_MS - 1), 'a slow line begins slowly')
  t.true(isTooSlow({ bytes: 1000, arrived: 0 }, SLOW_BODY_MS))
})
