import { createServer as createTcp } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { createServer as createTls, type TLSSocket } from 'node:tls'
import test, { type ExecutionContext } from 'ava'
import { Connection } from '../../src/wire/client.js'
import { identity, listening, loopback } from './loopback.js'

/** A host with the right key and wrong manners. */
async function rude(t: ExecutionContext, behave: (socket: TLSSocket) => void) {
  const [server, member] = [identity(), identity()]
  const { key, cert } = server
  const listener = createTls({ key, cert, requestCert: true, rejectUnauthorized: false }, (socket) => {
    socket.on('error', () => {})
    behave(socket)
  })
  const address = await listening(t, listener)
  const connection = new Connection({
    tls: member,
    addresses: [address],
    host: server.host,
    name: 'pc-9',
    idleTimeoutMs: 300,
  })
  t.teardown(() => connection.close())
  return connection
}

test('bytes there and back, small and large, many at once over few sockets', async (t) => {
  const lo = await loopback(t)
  const connection = lo.connection()
  const sizes = [0, 1, 65_536, 65_537, 1 << 20, (4 << 20) + 4096]
  const work = Array.from({ length: 24 }, async (_, index) => {
    const body = Buffer.alloc(sizes[index % sizes.length] ?? 0, index)
    const reply = await connection.request('PUT', '/echo', { body, maxBytes: 8 << 20 })
    t.true(reply.body.equals(body))
  })
  await Promise.all(work)
})

test('another host at the address is found out before anything is sent', async (t) => {
  const lo = await loopback(t)
  const wrong = lo.connection({ host: identity().host })
  const error = await t.throwsAsync(wrong.request('PUT', '/echo', { body: Buffer.alloc(10), maxBytes: 10 }), {
    code: 'HOST_LIED',
  })
  t.regex(error?.message ?? '', new RegExp(`another host answers, ${lo.server.host.slice(0, 16)}`))
  t.deepEqual(lo.handled, [])
})

test('a dead address, then the right one', async (t) => {
  const lo = await loopback(t)
  const other = await loopback(t)
  const connection = lo.connection({ addresses: ['127.0.0.1:1', other.address, lo.address] })
  t.is((await connection.request('GET', '/who/a', { maxBytes: 1000 })).status, 200)
})

test('nobody there, nothing but TCP there, a name that does not resolve, no address', async (t) => {
  const silent = await listening(
    t,
    createTcp(() => {}),
  )
  const lo = await loopback(t)
  const expectations: [string[], RegExp][] = [
    [['127.0.0.1:1'], /ECONNREFUSED/],
    [[silent], /no connection within 0.2 s/],
    [['no.such.host.invalid:1'], /ENOTFOUND|EAI_AGAIN|no connection/],
    [[], /no address/],
  ]
  for (const [addresses, message] of expectations) {
    const connection = lo.connection({ addresses, connectTimeoutMs: 200 })
    const asked = connection.request('GET', '/who/a', { maxBytes: 10 })
    await t.throwsAsync(asked, { code: 'HOST_UNREACHABLE', message })
  }
})

test('a host that never answers ends by the deadline, and so do those that wait behind it', async (t) => {
  const lo = await loopback(t)
  const connection = lo.connection()
  const asked = Array.from({ length: 12 }, () =>
    t.throwsAsync(connection.request('GET', '/never', { maxBytes: 0, timeoutMs: 300 }), {
      code: 'HOST_UNREACHABLE',
      message: /no answer within 0.3 s/,
    }),
  )
  await Promise.all(asked)
  t.is((await connection.request('GET', '/who/a', { maxBytes: 1000 })).status, 200)
})

test('a host that accepts a body and never reads it ends by the deadline', async (t) => {
  const connection = await rude(t, (socket) => {
    socket.once('data', () => {
      socket.write('HTTP/1.1 100 Continue\r\n\r\n')
      socket.pause()
    })
  })
  const asked = connection.request('PUT', '/x', { body: Buffer.alloc(64 << 20), maxBytes: 0, timeoutMs: 500 })
  await t.throwsAsync(asked, { code: 'HOST_UNREACHABLE', message: /no answer within 0.5 s/ })
})

test('an answer that stops, is cut, is too long, has no length, or is none', async (t) => {
  const answers: [string, boolean, string, RegExp][] = [
    ['HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc', false, 'HOST_UNREACHABLE', /silent after 3 of 100/],
    ['HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc', true, 'HOST_UNREACHABLE', /cut after 3 of 100/],
    ['HTTP/1.1 304 Not Modified\r\ncontent-length: 100\r\n\r\n', false, 'HOST_UNREACHABLE', /ended after 0 of 100/],
    ['HTTP/1.1 200 OK\r\ncontent-length: 101\r\n\r\n', false, 'PROTOCOL', /101 bytes, at most 100/],
    ['HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n', false, 'PROTOCOL|HOST_UNREACHABLE', /./],
    ['HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n', false, 'PROTOCOL', /no length/],
    ['SSH-2.0-OpenSSH_9.2\r\n', false, 'HOST_UNREACHABLE', /Parse Error/],
    ['HTTP/1.1 500 No\r\ncontent-length: 2\r\n\r\n{}', false, 'HOST_REFUSED', /status 500/],
    ['HTTP/1.1 500 No\r\ncontent-length: 99999999\r\n\r\n{}', false, 'PROTOCOL', /99999999/],
    ['HTTP/1.1 400 No\r\ncontent-length: 27\r\n\r\n{"code":"NEW","details":{}}', false, 'HOST_REFUSED', /NEW/],
    ['HTTP/1.1 400 No\r\ncontent-length: 35\r\n\r\n{"code":"constructor","details":{}}', false, 'HOST_REFUSED', /./],
  ]
  for (const [answer, end, code, message] of answers) {
    const connection = await rude(t, (socket) => {
      socket.once('data', () => {
        socket.write(answer)
        if (end) setTimeout(() => socket.destroy(), 50)
      })
    })
    const asked = connection.request('GET', '/x', { maxBytes: 100, timeoutMs: 60_000 })
    const error = await t.throwsAsync(asked, { message }, answer)
    t.regex((error as { code?: string } | undefined)?.code ?? '', new RegExp(`^(?:${code})$`), answer)
  }
})

test('an answer that trickles ends by the deadline', async (t) => {
  const connection = await rude(t, (socket) => {
    socket.once('data', () => {
      socket.write('HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n')
      const timer = setInterval(() => socket.write('a'), 50)
      socket.once('close', () => clearInterval(timer))
    })
  })
  const asked = connection.request('GET', '/x', { maxBytes: 1000, timeoutMs: 800 })
  await t.throwsAsync(asked, { code: 'HOST_UNREACHABLE', message: /no answer within 0.8 s/ })
})

test('the signal interrupts, before and during', async (t) => {
  const lo = await loopback(t)
  const connection = lo.connection()
  const early = connection.request('GET', '/who/a', { maxBytes: 1000, signal: AbortSignal.abort() })
  await t.throwsAsync(early, { code: 'INTERRUPTED' })
  const stop = new AbortController()
  const asked = connection.request('GET', '/never', { maxBytes: 0, signal: stop.signal })
  while (lo.handled.length === 0) await sleep(5)
  stop.abort()
  await t.throwsAsync(asked, { code: 'INTERRUPTED' })
})

test('a kept socket that died is replaced for what may be repeated, and only for that', async (t) => {
  // Answers once on each connection, then hangs up on the next request.
  let connections = 0
  const connection = await rude(t, (socket) => {
    connections++
    let asked = 0
    socket.on('data', () => {
      if (asked++ > 0) socket.destroy()
      else socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok')
    })
  })
  const get = () => connection.request('GET', '/x', { maxBytes: 2 })
  t.is((await get()).status, 200)
  await sleep(20)
  t.is((await get()).status, 200)
  t.is(connections, 2)
  await sleep(20)
  await t.throwsAsync(connection.request('POST', '/x', { body: Buffer.from('x'), maxBytes: 2 }), {
    code: 'HOST_UNREACHABLE',
  })
  t.is(connections, 2)
})

test('sockets are kept between requests', async (t) => {
  let connections = 0
  const connection = await rude(t, (socket) => {
    connections++
    socket.on('data', () => socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok'))
  })
  for (let round = 0; round < 5; round++) {
    await Promise.all(Array.from({ length: 10 }, () => connection.request('GET', '/x', { maxBytes: 2 })))
  }
  t.true(connections <= 4, `${connections}`)
})
