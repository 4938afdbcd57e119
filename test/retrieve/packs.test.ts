import test from 'ava'
import { systemClock } from '../../src/base/clock.js'
import { ImagerError } from '../../src/base/errors.js'
import { Body, Routes, recoverBody } from '../../src/native.js'
import { BODY_OFFSET, type FetchShard, PATIENCE, PackReader } from '../../src/retrieve/packs.js'

const K = 2
const BYTES = 1000

/** Three hosts with the shards of one stripe, 2+1. `asked` lists who was asked. */
async function fleet(delay: (host: string, signal: AbortSignal | undefined) => Promise<void>) {
  const data = [Buffer.alloc(BYTES, 'ab'), Buffer.alloc(BYTES, 'xyz')]
  const given = [...data.map((body) => new Body(body)), undefined]
  const bodies = [...data, (await recoverBody(K, 1, given, 2)).take()]
  const asked: string[] = []
  const fetch: FetchShard = async (id, _, range, signal) => {
    const host = `${Buffer.from(id, 'hex')[0]}`
    asked.push(host)
    await delay(host, signal)
    const [start, end] = range as [number, number]
    return new Body((bodies[Number(host)] as Buffer).subarray(start - BODY_OFFSET, end - BODY_OFFSET))
  }
  const id = (index: number, bytes: number) => Buffer.alloc(bytes, index).toString('hex')
  const shards = bodies.map((_, index) => ({ index, host: id(index, 32), shard: id(index, 16), root: id(0, 32) }))
  const row = { stripe: 7, k: K, m: 1, packBytes: K * BYTES, shards }
  const catalog = { stripes: async () => [row] }
  const packs = new PackReader({
    ...{ catalog, fetch, routes: new Routes(PATIENCE), clock: systemClock },
    silentMs: () => undefined,
    hostName: (host) => host,
  })
  const read = async (signal?: AbortSignal) => {
    const pieces = await packs.read({ stripe: 7, start: 900, end: 1100 }, { hedged: true, signal })
    return Buffer.concat(pieces.map(({ body }) => body.take()))
  }
  return { read, asked, wanted: Buffer.concat(data).subarray(900, 1100) }
}

test('a host that is there in time is the only one that is asked', async (t) => {
  const { read, asked, wanted } = await fleet(async () => {})
  t.true((await read()).equals(wanted))
  t.deepEqual(asked, ['0', '1'])
})

test('a host that hangs costs its patience once: the others give its part, and it is let go', async (t) => {
  let released = 0
  const { read, asked, wanted } = await fleet(async (host, signal) => {
    if (host !== '0') return
    await new Promise((_, reject) =>
      signal?.addEventListener('abort', () => reject(new ImagerError('INTERRUPTED', {}))),
    ).finally(() => released++)
  })
  t.true((await read()).equals(wanted))
  t.is(released, 1)
  asked.length = 0
  t.true((await read()).equals(wanted))
  t.false(asked.includes('0'), 'for a while it is asked last')
})

test('who gives up waits for nobody, and the host is let go', async (t) => {
  const controller = new AbortController()
  let [waiting, released] = [0, 0]
  // They never answer of themselves: who waited for them would wait for ever.
  const { read } = await fleet(async (_, signal) => {
    const letGo = new Promise((_resolve, reject) =>
      signal?.addEventListener('abort', () => reject(new ImagerError('INTERRUPTED', {}))),
    ).finally(() => released++)
    if (++waiting === 2) controller.abort(new ImagerError('INTERRUPTED'))
    await letGo
  })
  await t.throwsAsync(read(controller.signal), { code: 'INTERRUPTED' })
  t.is(released, 2)
})

test('where the others cannot give it either, the slow one is waited for', async (t) => {
  const { read, wanted } = await fleet(async (host) => {
    if (host === '2') throw new ImagerError('HOST_UNREACHABLE', { host, address: 'nowhere', why: 'it is off' })
    if (host === '0') await new Promise((resolve) => setTimeout(resolve, 800))
  })
  t.true((await read()).equals(wanted))
})
