import test, { type ExecutionContext } from 'ava'
import { ImagerError } from '../../src/base/errors.js'
import { DATA_RETRY_MS } from '../../src/base/limits.js'
import { tlsIdentity } from '../../src/keys/certificate.js'
import { Body } from '../../src/native.js'
import { FallbackTransport } from '../../src/peers/fallback-transport.js'
import { NotCarried, type ShardTransport } from '../../src/wire/shard-transport.js'
import { makeShard, numberOfShard, openTransport, shardId, startPeer, WAYS, type Way } from './peer.js'

const GRANT = 'AAAA'
const file = Buffer.alloc(10)

/** A way that notes what it is asked, and fails while there is something to fail with. */
function way(name: string, notes: string[]) {
  const state: { failure: Error | undefined } = { failure: undefined }
  const transport: ShardTransport = {
    put: async (shard, _, grant, options) => {
      notes.push(`${name} put ${numberOfShard(shard)} ${grant} ${options?.timeoutMs}`)
      if (state.failure) throw state.failure
      return Buffer.from(name)
    },
    fetch: async (shard, range, options) => {
      notes.push(`${name} fetch ${numberOfShard(shard)} ${range?.join()} ${options?.timeoutMs}`)
      if (state.failure) throw state.failure
      return new Body(file)
    },
  }
  return { state, transport }
}

function stand() {
  const notes: string[] = []
  const said: Error[] = []
  const clock = { time: 5000, now: () => clock.time }
  const [quick, sure] = [way('quick', notes), way('sure', notes)]
  const shards = new FallbackTransport({
    quick: quick.transport,
    sure: sure.transport,
    clock,
    say: (error) => said.push(error),
  })
  return { notes, said, clock, quick: quick.state, sure: sure.state, shards, taken: () => notes.splice(0) }
}

test('while the quick way carries, the sure one is asked nothing', async (t) => {
  const { shards, taken, said } = stand()
  await shards.put(shardId(1), file, GRANT, { timeoutMs: 7 })
  t.is((await shards.fetch(shardId(2), [3, 4], { timeoutMs: 8 })).length, file.length)
  t.deepEqual(taken(), [`quick put 1 ${GRANT} 7`, 'quick fetch 2 3,4 8'])
  t.deepEqual(said, [])
})

test('what is not carried goes the sure way, all else does so for a while, and it is said once', async (t) => {
  const { shards, taken, said, clock, quick } = stand()
  quick.failure = new NotCarried('reset')
  await shards.put(shardId(1), file, GRANT, { timeoutMs: 7 })
  t.deepEqual(taken(), [`quick put 1 ${GRANT} 7`, `sure put 1 ${GRANT} 7`])
  await shards.fetch(shardId(2), [3, 4])
  clock.time += DATA_RETRY_MS - 1
  await shards.fetch(shardId(2), undefined)
  t.deepEqual(taken(), ['sure fetch 2 3,4 undefined', 'sure fetch 2 undefined undefined'])
  clock.time += 1
  await shards.fetch(shardId(2), [3, 4])
  t.deepEqual(taken(), ['quick fetch 2 3,4 undefined', 'sure fetch 2 3,4 undefined'])
  clock.time += DATA_RETRY_MS
  quick.failure = undefined
  await shards.put(shardId(3), file, GRANT)
  t.deepEqual(taken(), [`quick put 3 ${GRANT} undefined`])
  t.deepEqual(
    said.map((error) => error.message),
    ['reset'],
  )
})

test('what a host refuses, or does not answer, is not asked again the other way', async (t) => {
  const { shards, taken, said, quick } = stand()
  const failures = [
    new ImagerError('HOST_FULL', { host: 'pc-1', why: 'its disk' }),
    new ImagerError('HOST_UNREACHABLE', { host: 'pc-1', address: 'pc-1:7421', why: 'no answer' }),
    new ImagerError('INTERRUPTED'),
    new TypeError('a bug of ours'),
  ]
  for (const failure of failures) {
    quick.failure = failure
    await t.throwsAsync(shards.fetch(shardId(1), [0, 1]), { is: failure })
    t.deepEqual(taken(), ['quick fetch 1 0,1 undefined'])
  }
  t.deepEqual(said, [])
})

test('where the sure way fails too, that is what is thrown', async (t) => {
  const { shards, quick, sure } = stand()
  quick.failure = new NotCarried('reset')
  const failure = new ImagerError('SHARD_MISSING', { shard: shardId(1), host: 'pc-1' })
  sure.failure = failure
  await t.throwsAsync(shards.put(shardId(1), file, GRANT), { is: failure })
  await t.throwsAsync(shards.fetch(shardId(1), [0, 1]), { is: failure })
})

test('the two ways share nothing: what ends one leaves the other as it was', async (t) => {
  const peer = await startPeer(t)
  const bytes = makeShard(shardId(1), Buffer.alloc(100_000, 1))
  await peer.send(shardId(1), bytes)
  const called = { tls: tlsIdentity(peer.fleet.appliance), addresses: [peer.address], host: peer.host }
  const fetches = async (context: ExecutionContext, shards: ShardTransport) =>
    context.true((await shards.fetch(shardId(1), undefined)).take().equals(bytes))
  for (const one of WAYS) {
    const other: Way = one === 'HTTPS' ? 'data connections' : 'HTTPS'
    const [ending, staying] = [openTransport(one, called), openTransport(other, called)]
    t.teardown(staying.close)
    await Promise.all([fetches(t, ending.shards), fetches(t, staying.shards)])
    const stop = new AbortController()
    const given = ending.shards.fetch(shardId(1), undefined, { signal: stop.signal })
    const kept = fetches(t, staying.shards)
    stop.abort()
    ending.close()
    await t.throwsAsync(given, { code: 'INTERRUPTED' })
    await kept
    await fetches(t, staying.shards)
  }
})
