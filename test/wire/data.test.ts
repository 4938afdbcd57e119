import { once } from 'node:events'
import { connect as connectTcp, createServer } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import { ImagerError } from '../../src/base/errors.js'
import { DataClient, type DataQuestion } from '../../src/native.js'
import { DataLink, type DataLinkOptions } from '../../src/wire/data-client.js'
import { DataDoor } from '../../src/wire/data-server.js'
import { NotCarried } from '../../src/wire/shard-transport.js'
import { identity, listening, loopback } from './loopback.js'

/** Nobody takes it here. */
const body = Buffer.alloc(10)

/** A server that also takes data connections, and refuses every question with what it was. */
async function carrying(t: ExecutionContext, handleData?: (question: DataQuestion) => Promise<void>) {
  const asked: string[] = []
  const lo = await loopback(t, [], {
    handleData:
      handleData ??
      (async (question) => {
        asked.push(question.host)
        throw new ImagerError('HOST_FULL', { host: 'pc-1', why: question.question.toString() })
      }),
  })
  const link = (given: Partial<DataLinkOptions> = {}, tls = lo.member) => {
    const client = new DataClient(tls.key, tls.cert)
    t.teardown(() => client.close())
    return new DataLink({ client, addresses: [lo.address], host: lo.server.host, name: 'pc-1', ...given })
  }
  return { lo, link, asked }
}

test('both kinds of connections come to one port, many at once', async (t) => {
  const { lo, link } = await carrying(t)
  const [https, data] = [lo.connection(), link()]
  const work = Array.from({ length: 24 }, async (_, index) => {
    const echoed = Buffer.alloc(index * 50_000, index)
    const reply = await https.request('PUT', '/echo', { body: echoed, maxBytes: 8 << 20 })
    t.true(reply.body.equals(echoed))
    await t.throwsAsync(data.put(Buffer.from(`question ${index}`), body), {
      code: 'HOST_FULL',
      message: new RegExp(`question ${index}$`),
    })
  })
  await Promise.all(work)
})

test('a stranger is refused, and who is expelled is out at once', async (t) => {
  const { lo, link, asked } = await carrying(t)
  const member = link()
  await t.throwsAsync(member.put(Buffer.from('a'), body), { code: 'HOST_FULL' })
  await t.throwsAsync(link({}, identity()).put(Buffer.from('b'), body), { code: 'NOT_ALLOWED', message: /member/ })
  lo.members.clear()
  await t.throwsAsync(member.put(Buffer.from('c'), body), { code: 'NOT_ALLOWED' })
  t.deepEqual(asked, [lo.member.host])
})

test('another host than the pinned one is named, and asked nothing', async (t) => {
  const { lo, link, asked } = await carrying(t)
  const error = await t.throwsAsync(link({ host: identity().host }).put(Buffer.from('a'), body), { code: 'HOST_LIED' })
  t.regex(error?.message ?? '', new RegExp(lo.server.host.slice(0, 16)))
  t.deepEqual(asked, [])
})

test('the first address that answers is used, and remembered', async (t) => {
  const { lo, link } = await carrying(t)
  const data = link({ addresses: ['127.0.0.1:1', lo.address] })
  for (let time = 0; time < 2; time++) await t.throwsAsync(data.put(Buffer.from('a'), body), { code: 'HOST_FULL' })
  await t.throwsAsync(link({ addresses: ['127.0.0.1:1'] }).put(Buffer.from('a'), body), {
    code: 'HOST_UNREACHABLE',
    message: /pc-1 at 127.0.0.1:1/,
  })
  await t.throwsAsync(link({ addresses: [] }).put(Buffer.from('a'), body), { code: 'HOST_UNREACHABLE' })
})

test('a server without data connections is told from one that is not there', async (t) => {
  const lo = await loopback(t)
  const client = new DataClient(lo.member.key, lo.member.cert)
  const link = new DataLink({ client, addresses: [lo.address], host: lo.server.host, name: 'pc-1' })
  await t.throwsAsync(link.put(Buffer.from('a'), body), { instanceOf: NotCarried })
  t.is((await lo.connection().request('GET', '/who/a', { maxBytes: 1000 })).status, 200)
})

test('every exchange ends: by its deadline, by the signal, at a host that says nothing', async (t) => {
  // Held, because a question that nobody can answer any more ends its connection.
  const held: DataQuestion[] = []
  const { link } = await carrying(t, (question) => new Promise(() => void held.push(question)))
  const data = link()
  await t.throwsAsync(data.put(Buffer.from('a'), body, { timeoutMs: 200 }), {
    code: 'HOST_UNREACHABLE',
    message: /within 0.2 s/,
  })
  const stop = new AbortController()
  const waiting = Array.from({ length: 6 }, () => data.put(Buffer.from('b'), body, { signal: stop.signal }))
  const ends = waiting.map((one) => t.throwsAsync(one, { code: 'INTERRUPTED' }))
  while (held.length === 1) await sleep(5)
  stop.abort()
  await Promise.all(ends)
  await t.throwsAsync(data.put(Buffer.from('c'), body, { signal: stop.signal }), { code: 'INTERRUPTED' })
  const mute = createServer((socket) => socket.on('error', () => {}))
  const address = await listening(t, mute)
  await t.throwsAsync(link({ addresses: [address] }).put(Buffer.from('a'), body, { timeoutMs: 300 }), {
    code: 'HOST_UNREACHABLE',
  })
})

test('noise and silence on the port disturb nobody', async (t) => {
  const { lo, link } = await carrying(t)
  const [host, port] = lo.address.split(':')
  for (const noise of ['imager/1', 'imager/1\x16\x03\x01\xff\xff', 'i', 'GET / HTTP/1.1\r\n\r\n', '\x16', '']) {
    const socket = connectTcp(Number(port), host)
    socket.on('error', () => {})
    await once(socket, 'connect')
    if (noise === '') socket.end()
    else socket.write(noise, 'latin1')
  }
  await t.throwsAsync(link().put(Buffer.from('a'), body), { code: 'HOST_FULL' })
  t.is((await lo.connection().request('GET', '/who/a', { maxBytes: 1000 })).status, 200)
})

test('a question that our own code fails on tells nothing of it, and is reported', async (t) => {
  const reports: unknown[] = []
  const lo = await loopback(t, [], {
    handleData: async () => {
      throw new TypeError('a secret of ours')
    },
    report: (error) => reports.push(error),
  })
  const client = new DataClient(lo.member.key, lo.member.cert)
  const link = new DataLink({ client, addresses: [lo.address], host: lo.server.host, name: 'pc-1' })
  const error = await t.throwsAsync(link.put(Buffer.from('a'), body), { code: 'HOST_REFUSED' })
  t.notRegex(error?.message ?? '', /secret/)
  t.is(reports.length, 1)
})

test('a server that closes ends its data connections', async (t) => {
  const { lo, link } = await carrying(t)
  const data = link()
  await t.throwsAsync(data.put(Buffer.from('a'), body), { code: 'HOST_FULL' })
  await lo.close()
  await t.throwsAsync(data.put(Buffer.from('a'), body), { code: 'HOST_UNREACHABLE' })
})

test('where a reader is one no more, idle connections end, what is under way ends by itself, and the others open new ones', async (t) => {
  const { server, member } = { server: identity(), member: identity() }
  const held: DataQuestion[] = []
  const door = new DataDoor({
    tls: server,
    admit: () => true,
    handle: (question) => new Promise(() => void held.push(question)),
  })
  const port = createServer((socket) => socket.once('data', (head) => void door.takes(socket, head)))
  const address = await listening(t, port)
  t.teardown(() => door.close())
  const clients = [member, identity(), identity()].map((tls) => new DataClient(tls.key, tls.cert))
  t.teardown(() => {
    for (const client of clients) client.close()
  })
  const [stays, goes, busy] = clients.map((client) => {
    return new DataLink({ client, addresses: [address], host: server.host, name: 'pc-1' })
  }) as [DataLink, DataLink, DataLink]
  const put = (link: DataLink, name: string) =>
    link.put(Buffer.from(name), body).catch((error: ImagerError) => error.code)
  const asked = async (count: number) => {
    while (held.length < count) await sleep(5)
    return held.at(-1) as DataQuestion
  }
  const refuse = (question: DataQuestion) =>
    question.refuse(Buffer.from('{"code":"HOST_FULL","details":{"host":"pc-1","why":"full"}}'))
  door.letRead('/nowhere', [member.host, 'ab'.repeat(32)])
  for (const [at, link] of [stays, goes].entries()) {
    const answer = put(link, 'first')
    refuse(await asked(at + 1))
    t.is(await answer, 'HOST_FULL')
  }
  const under = put(busy, 'second')
  const question = await asked(3)
  t.is(door.connections, 3)
  door.letRead('/nowhere', [member.host])
  for (let turn = 0; turn < 100 && door.connections > 1; turn++) await sleep(10)
  t.is(door.connections, 1, 'but for the one that carries something')
  const anew = put(stays, 'third')
  refuse(await asked(4))
  t.is(await anew, 'HOST_FULL', 'its client notices nothing')
  refuse(question)
  t.is(await under, 'HOST_FULL', 'what was under way has come to its end')
  for (let turn = 0; turn < 100 && door.connections > 1; turn++) await sleep(10)
  t.is(door.connections, 1, 'and its connection too')
  door.letRead('/nowhere', [member.host, 'cd'.repeat(32)])
  t.is(door.connections, 1, 'one reader more ends nothing')
})
