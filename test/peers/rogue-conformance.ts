/** How every ShardTransport takes hosts that are absent, slow or false. A part of conformance.ts. */
import { setMaxListeners } from 'node:events'
import type { ExecutionContext, TestFn } from 'ava'
import { SHARD_FILE_BYTES } from '../../src/base/limits.js'
import type { CallOptions } from '../../src/wire/bounded.js'
import type { ShardTransport } from '../../src/wire/shard-transport.js'
import { identity } from '../wire/loopback.js'
import { makeShard, openTransport, shardId, startPeer, throwsOneOf, transportTo, type Way } from './peer.js'
import { LANGUAGES, type Rogue, startRogue } from './rogue.js'

export function rogueConformance(test: TestFn, way: Way): void {
  reaching(test, way)
  lying(test, way)
  ending(test, way)
}

function transportToRogue(t: ExecutionContext, way: Way, { tls, address }: Rogue, host = tls.host): ShardTransport {
  const { shards, close } = openTransport(way, { tls: identity(), addresses: [address], host, name: 'pc-9' })
  t.teardown(close)
  return shards
}

/** Calls of both kinds, long and short: none may differ in how it fails. */
function puts(shards: ShardTransport, options: CallOptions = {}) {
  const put = (lengthBytes: number) => () =>
    shards.put(shardId(1), makeShard(shardId(1), Buffer.alloc(lengthBytes)), 'AAAA', options)
  return [put(200_000), put(10)]
}

function fetches(shards: ShardTransport, options: CallOptions = {}) {
  return [() => shards.fetch(shardId(1), [0, 100_000], options), () => shards.fetch(shardId(1), undefined, options)]
}

const everyCall = (shards: ShardTransport, options: CallOptions = {}) => [
  ...puts(shards, options),
  ...fetches(shards, options),
]

function reaching(test: TestFn, way: Way): void {
  test(`a dead address, a stranger's, then the right one; only dead ones; none (${way})`, async (t) => {
    const [peer, stranger] = [await startPeer(t, {}, way), await startRogue(t, () => {})]
    const shard = shardId(1)
    const bytes = makeShard(shard, Buffer.alloc(10, 1))
    const shards = transportTo(t, way, peer, ['127.0.0.1:1', stranger.address, peer.address])
    await shards.put(shard, bytes, peer.grant(shard, bytes.length))
    t.true((await shards.fetch(shard, undefined)).take().equals(bytes))
    const dead = transportTo(t, way, peer, ['127.0.0.1:1'])
    const message = /pc-1 at 127.0.0.1:1/
    for (const call of everyCall(dead)) await t.throwsAsync(call, { code: 'HOST_UNREACHABLE', message })
    const none = transportTo(t, way, peer, [])
    for (const call of everyCall(none)) await t.throwsAsync(call, { code: 'HOST_UNREACHABLE', message: /no address/ })
  })

  test(`where another key answers it is named, and nothing is sent to it (${way})`, async (t) => {
    const rogue = await startRogue(t, () => {})
    const shards = transportToRogue(t, way, rogue, identity().host)
    const message = new RegExp(`another host answers, ${rogue.tls.host.slice(0, 16)}`)
    for (const call of everyCall(shards)) await t.throwsAsync(call, { code: 'HOST_LIED', message })
    await rogue.left()
    t.is(rogue.heard().length, 0)
  })
}

function lying(test: TestFn, way: Way): void {
  const { give, refuse } = LANGUAGES[way]

  test(`an answer of another length than was asked for is never taken (${way})`, async (t) => {
    const bytes = Buffer.alloc(200, 7)
    const answers: [answer: Buffer, range: readonly [number, number] | undefined][] = [
      [give(bytes.subarray(0, 99)), [0, 100]],
      [give(bytes.subarray(0, 101)), [0, 100]],
      [give(Buffer.alloc(0)), [0, 100]],
      [give(bytes, 2 ** 40), [0, 100]],
      [give(bytes, SHARD_FILE_BYTES + 1), undefined],
      [give(bytes, 2 ** 40), undefined],
    ]
    for (const [index, [answer, range]] of answers.entries()) {
      const shards = transportToRogue(t, way, await startRogue(t, (socket) => socket.write(answer)))
      await throwsOneOf(t, 'PROTOCOL HOST_LIED', shards.fetch(shardId(1), range), `answer ${index}`)
    }
    const honest = transportToRogue(t, way, await startRogue(t, (socket) => socket.write(give(bytes))))
    t.true((await honest.fetch(shardId(1), [0, 200])).take().equals(bytes))
  })

  test(`what is no answer, or ends in the middle, is an error of its own (${way})`, async (t) => {
    const broken: [answer: Buffer, codes: string][] = [
      [give(Buffer.alloc(50, 1), 100), 'HOST_UNREACHABLE'],
      [Buffer.from('SSH-2.0-OpenSSH_9.2\r\n'), 'HOST_UNREACHABLE PROTOCOL'],
    ]
    for (const [answer, codes] of broken) {
      const shards = transportToRogue(t, way, await startRogue(t, (socket) => socket.end(answer)))
      await throwsOneOf(t, codes, shards.fetch(shardId(1), [0, 100]), answer.toString('latin1'))
    }
  })

  test(`a refusal keeps its code and details; one that is unknown here, or is none, names the host (${way})`, async (t) => {
    const refusals: [error: string, code: string, message: RegExp][] = [
      ['{"code":"HOST_FULL","details":{"host":"pc-9","why":"so\\u001b[2Jfull"}}', 'HOST_FULL', /: so.*full/],
      ['{"code":"NEW","details":{}}', 'HOST_REFUSED', /pc-9.*NEW/],
      ['{"code":"constructor","details":{}}', 'HOST_REFUSED', /pc-9/],
      ['not JSON', 'HOST_REFUSED', /pc-9/],
    ]
    for (const [error, code, message] of refusals) {
      const shards = transportToRogue(t, way, await startRogue(t, (socket) => socket.end(refuse(error))))
      for (const call of everyCall(shards)) {
        const thrown = await t.throwsAsync(call, { code, message })
        t.false(thrown?.message.includes('\u001b'))
      }
    }
  })
}

function ending(test: TestFn, way: Way): void {
  const { give } = LANGUAGES[way]
  /** What a host says before it hangs, and the calls for which it is a beginning. */
  const slow = [
    { said: Buffer.alloc(0), calls: everyCall },
    { said: give(Buffer.alloc(100), 100_000), calls: fetches },
  ]
  const interrupted = { code: 'INTERRUPTED' }

  test(`a host that hangs ends by the deadline, and so do those that wait behind it (${way})`, async (t) => {
    const late = { code: 'HOST_UNREACHABLE', message: /no answer within 0.3 s/ }
    for (const { said, calls } of slow) {
      const shards = transportToRogue(t, way, await startRogue(t, (socket) => socket.write(said)))
      const many = Array.from({ length: 4 }, () => calls(shards, { timeoutMs: 300 })).flat()
      await Promise.all(many.map((call) => t.throwsAsync(call, late)))
    }
  })

  test(`the signal ends a call at once, before it begins, while it waits, and in the middle (${way})`, async (t) => {
    for (const { said, calls } of slow) {
      const stop = new AbortController()
      setMaxListeners(0, stop.signal)
      let asked = 0
      const rogue = await startRogue(t, (socket) => {
        socket.write(said)
        if (++asked === 4) setTimeout(() => stop.abort(), 50)
      })
      const shards = transportToRogue(t, way, rogue)
      const many = Array.from({ length: 4 }, () => calls(shards, { signal: stop.signal })).flat()
      await Promise.all(many.map((call) => t.throwsAsync(call, interrupted)))
      for (const call of everyCall(shards, { signal: stop.signal })) await t.throwsAsync(call, interrupted)
      await rogue.left()
    }
  })
}
