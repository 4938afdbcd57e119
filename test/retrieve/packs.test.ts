import { setTimeout as sleep } from 'node:timers/promises'
import test from 'ava'
import { systemClock } from '../../src/base/clock.js'
import { ImagerError } from '../../src/base/errors.js'
import { Body, inspectShard, Routes, recoverBody } from '../../src/native.js'
import { type FetchShard, PATIENCE, PackReader } from '../../src/retrieve/packs.js'
import { makeShard, shardId } from '../peers/peer.js'

const K = 2
const BYTES = 1000

type Delay = (host: string, signal: AbortSignal | undefined, begun: () => void) => Promise<void>

/** Three hosts with the shards of one stripe, 2+1. `asked` lists who was asked; `silentMs`: since when nothing came of them. */
async function fleet(delay: Delay, silentMs: () => number | undefined = () => undefined) {
  const data = [Buffer.alloc(BYTES, 'ab'), Buffer.alloc(BYTES, 'xyz')]
  const given = [...data.map((body) => new Body(body)), undefined]
  const bodies = [...data, (await recoverBody(K, 1, given, 2)).take()]
  const asked: string[] = []
  const fetch: FetchShard = async (id, _, range, { signal, begun }) => {
    const host = `${Buffer.from(id, 'hex')[0]}`
    asked.push(host)
    if (delay.length < 3) begun()
    await delay(host, signal, begun)
    return new Body((files[Number(host)] as Buffer).subarray(...(range ?? [])))
  }
  const id = (index: number, bytes: number) => Buffer.alloc(bytes, index).toString('hex')
  const names = bodies.map((_, index) => shardId(index))
  const files = bodies.map((body, index) => makeShard(names[index] as string, body))
  const roots = await Promise.all(files.map(async (file) => (await inspectShard(file)).root))
  const shards = roots.map((root, index) => ({ index, host: id(index, 32), shard: names[index] as string, root }))
  const row = { stripe: 7, k: K, m: 1, packBytes: K * BYTES, shards }
  const catalog = { stripes: async () => [row] }
  const routes = new Routes({ ...PATIENCE, quietMs: 400 })
  const packs = new PackReader({
    ...{ catalog, fetch, silentMs, routes, clock: systemClock },
    hostName: (host) => host,
  })
  const read = async (signal?: AbortSignal, hedged = true) => {
    const pieces = await packs.read({ stripe: 7, start: 900, end: 1100 }, { hedged, signal })
    return Buffer.concat(pieces.map(({ body }) => body.take()))
  }
  return { packs, routes, read, asked, wanted: Buffer.concat(data).subarray(900, 1100) }
}

const hang = (signal: AbortSignal | undefined): Promise<never> =>
  new Promise((_, reject) => signal?.addEventListener('abort', () => reject(new ImagerError('INTERRUPTED'))))

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

test('whoever fetches in masses asks others when nothing comes of a host, and not because it takes long', async (t) => {
  const slow = async (host: string) => {
    if (host === '0') await new Promise((resolve) => setTimeout(resolve, 1200))
  }
  const line = await fleet(slow, () => 100)
  t.true((await line.read(undefined, false)).equals(line.wanted))
  t.deepEqual(line.asked, ['0', '1'], 'a slow line')
  const frozen = await fleet((host, signal) => (host === '0' ? hang(signal) : Promise.resolve()))
  t.true((await frozen.read(undefined, false)).equals(frozen.wanted))
  t.deepEqual(frozen.asked, ['0', '1', '1', '2'])
})

test('what waits for a limit of ours is not late, and neither is who gave its part before others did', async (t) => {
  const limited = await fleet(async (_host, _signal, begun) => {
    await new Promise((resolve) => setTimeout(resolve, 900))
    begun()
  })
  t.true((await limited.read()).equals(limited.wanted))
  t.deepEqual(limited.asked, ['0', '1'])
  const uneven = await fleet(async (host) => {
    if (host === '0') throw new ImagerError('HOST_UNREACHABLE', { host, address: 'nowhere', why: 'it is off' })
    if (host === '2') await new Promise((resolve) => setTimeout(resolve, 900))
  })
  t.true((await uneven.read()).equals(uneven.wanted))
  t.deepEqual(
    uneven.routes.spans(7, 900, 1100).map(({ silent }) => silent),
    [true, false],
  )
})

test('several hosts that hang cost one patience: whoever could help is asked before any of them has failed', async (t) => {
  let giveUp = () => {}
  const failure = new Promise<never>((_, reject) => {
    giveUp = () => reject(new ImagerError('HOST_UNREACHABLE', { host: 'a', address: 'a', why: 'it hangs' }))
  })
  const { read, asked } = await fleet(async (host, signal) => {
    if (host !== '2') await Promise.race([hang(signal), failure])
  })
  const outcome = t.throwsAsync(read(), { code: 'NOT_RESTORABLE', message: /^2 hosts do not answer: / })
  for (let tries = 0; asked.length < 6 && tries < 2000; tries++) await sleep(5)
  t.deepEqual([...asked].sort(), ['0', '0', '1', '1', '2', '2'], 'each for both parts of the range')
  giveUp()
  await outcome
  t.is(asked.length, 6, 'nobody is asked behind another')
})

test('a restore waits for hosts that can come back, and for nothing else', async (t) => {
  const why = new Map([['1', new ImagerError('HOST_UNREACHABLE', { host: '1', address: 'a', why: 'it is off' })]])
  const { packs, read, wanted } = await fleet(async (host) => {
    const error = why.get(host)
    if (error) throw error
  })
  let waits = 0
  packs.waitBy(async (error) => {
    waits++
    t.regex(String(error.details.suffice), /^(01|02)+$/)
    why.delete('1')
  })
  why.set('2', new ImagerError('SHARD_MISSING', { host: '2', shard: 'x' }))
  t.true((await read()).equals(wanted))
  t.is(waits, 1)
  why.set('1', new ImagerError('IO', { what: 'a bad sector' }))
  const error = (await t.throwsAsync(read(), { code: 'NOT_RESTORABLE' })) as ImagerError
  t.is(waits, 1, 'nobody who comes back helps')
  t.regex(error.message, /^1 shard is damaged: \w{8} on 01.*\. 1 shard is not where the catalog says: \w{8} on 02/)
  t.regex(error.remedy, /^No host that comes back is enough/)
})

test('a limit of this computer ends the read, and no host is asked in the place of another', async (t) => {
  const { read, asked } = await fleet(async () => {
    throw new ImagerError('EXHAUSTED', { what: 'connecting' })
  })
  await t.throwsAsync(read(), { code: 'EXHAUSTED' })
  t.deepEqual(asked, ['0', '1'])
})
