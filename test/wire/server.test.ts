import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import test from 'ava'
import { freePort } from '../free-port.js'
import { bare, identity, loopback } from './loopback.js'

test('a handler learns who calls, with what', async (t) => {
  const lo = await loopback(t)
  const reply = await lo.connection().request('GET', '/who/ann?x=1&y=a%20b', { range: [5, 9], maxBytes: 1000 })
  t.deepEqual(JSON.parse(reply.body.toString()), {
    host: lo.member.host,
    params: { name: 'ann' },
    query: { x: '1', y: 'a b' },
    range: [5, 9],
  })
})

test('errors arrive as what they were, and cannot rewrite a terminal', async (t) => {
  const reports: unknown[] = []
  const lo = await loopback(t, [], { report: (error) => reports.push(error) })
  const connection = lo.connection()
  const full = await t.throwsAsync(connection.request('GET', '/full', { maxBytes: 0 }), { code: 'HOST_FULL' })
  t.is(full?.message, 'pc-1 has no space left for imager: so?[2Jfull')
  const bug = await t.throwsAsync(connection.request('GET', '/bug', { maxBytes: 0 }), { code: 'HOST_REFUSED' })
  t.notRegex(bug?.message ?? '', /secret/)
  t.is(reports.length, 1)
  await t.throwsAsync(connection.request('GET', '/nowhere', { maxBytes: 0 }), { code: 'PROTOCOL', message: /nowhere/ })
  await t.throwsAsync(connection.request('GET', '/echo', { maxBytes: 0 }), { code: 'PROTOCOL' })
})

test("a stranger's certificate is refused and nothing of it is handled", async (t) => {
  const lo = await loopback(t)
  const stranger = lo.connection({ tls: identity() })
  await t.throwsAsync(stranger.request('GET', '/who/a', { maxBytes: 100 }), { code: 'NOT_ALLOWED', message: /member/ })
  await t.throwsAsync(stranger.request('PUT', '/echo', { body: Buffer.alloc(4 << 20), maxBytes: 100 }), {
    code: 'NOT_ALLOWED',
  })
  t.deepEqual(lo.handled, [])
})

test('no certificate, and a certificate of another kind of key, are refused', async (t) => {
  const lo = await loopback(t)
  const { socket, received, closed } = await bare(t, lo.address)
  socket.write('GET /who/a HTTP/1.1\r\nhost: x\r\n\r\n')
  await closed
  t.regex(received(), /^HTTP\/1.1 403 /)
  const folder = mkdtempSync(join(tmpdir(), 'imager-wire-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const [key, cert] = [join(folder, 'key'), join(folder, 'cert')]
  const options = 'req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:P-256 -subj /CN=x'.split(' ')
  execFileSync('openssl', [...options, '-keyout', key, '-out', cert], { stdio: 'ignore' })
  const other = await bare(t, lo.address, { key: readFileSync(key), cert: readFileSync(cert) })
  await other.closed
  t.regex(other.received(), /^HTTP\/1.1 403 /)
  t.deepEqual(lo.handled, [])
})

test('TLS 1.2 is refused', async (t) => {
  const lo = await loopback(t)
  const { key, cert } = lo.member
  await t.throwsAsync(bare(t, lo.address, { key, cert, minVersion: 'TLSv1.2', maxVersion: 'TLSv1.2' }), {
    message: /alert protocol version/,
  })
})

test('who is expelled is out at once, also on an open connection', async (t) => {
  const lo = await loopback(t)
  const connection = lo.connection()
  await connection.request('GET', '/who/a', { maxBytes: 1000 })
  lo.members.clear()
  await t.throwsAsync(connection.request('GET', '/who/a', { maxBytes: 1000 }), { code: 'NOT_ALLOWED' })
  t.is(lo.handled.length, 1)
})

test('a stranger may call an open route and no other', async (t) => {
  const open = { method: 'POST' as const, path: '/join', open: true, maxBytes: 100, handle: () => ({ status: 201 }) }
  const lo = await loopback(t, [open])
  const stranger = lo.connection({ tls: identity() })
  t.is((await stranger.request('POST', '/join', { body: Buffer.from('x'), maxBytes: 0 })).status, 201)
  await t.throwsAsync(stranger.request('GET', '/who/a', { maxBytes: 1000 }), { code: 'NOT_ALLOWED' })
  t.is(lo.handled.length, 1)
})

test('both ends see the same exporter, and another on another connection', async (t) => {
  const exporter = {
    method: 'POST' as const,
    path: '/exporter',
    maxBytes: 100,
    handle: async (request: { body(): Promise<Buffer>; exporter(): Buffer }) => {
      return { body: Buffer.concat([await request.body(), request.exporter()]) }
    },
  }
  const lo = await loopback(t, [exporter])
  const ask = async () => {
    const { body } = await lo.connection().request('POST', '/exporter', { body: (secret) => secret, maxBytes: 64 })
    t.is(body.length, 64)
    t.deepEqual(body.subarray(0, 32), body.subarray(32))
    return body.toString('hex')
  }
  t.not(await ask(), await ask())
})

test('an oversize body is refused before it is read', async (t) => {
  const lo = await loopback(t)
  const { key, cert } = lo.member
  const { socket, received, closed } = await bare(t, lo.address, { key, cert })
  socket.write('POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 9999999999\r\n\r\n')
  await closed
  t.regex(received(), /^HTTP\/1.1 400 .*at most 1000 are allowed/s)
  await t.throwsAsync(lo.connection().request('POST', '/echo', { body: Buffer.alloc(1001), maxBytes: 0 }), {
    code: 'PROTOCOL',
    message: /at most 1000/,
  })
  // With the length hidden, too.
  const hidden = await bare(t, lo.address, { key, cert })
  hidden.socket.write('POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n')
  await hidden.closed
  t.regex(hidden.received(), /without a length/)
})

test('a refused upload is not sent at all', async (t) => {
  const lo = await loopback(t)
  const connection = lo.connection()
  const body = Buffer.alloc(8 << 20)
  for (let round = 0; round < 10; round++) {
    await t.throwsAsync(connection.request('PUT', '/refuse', { body, maxBytes: 0 }), { code: 'NOT_ALLOWED' })
  }
  t.deepEqual(new Set(lo.handled), new Set(['expect']))
  const whole = await connection.request('PUT', '/echo', { body, maxBytes: 8 << 20 })
  t.true(whole.body.equals(body))
})

test('a caller that falls silent in the middle of its body is cut off', async (t) => {
  const lo = await loopback(t, [], { idleTimeoutMs: 200 })
  const { key, cert } = lo.member
  const { socket, closed } = await bare(t, lo.address, { key, cert })
  socket.write('PUT /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nabc')
  await closed
  t.pass()
})

test('two requests in one packet get two answers; an early answer ends the connection', async (t) => {
  const lo = await loopback(t)
  const { key, cert } = lo.member
  const { socket, received, closed } = await bare(t, lo.address, { key, cert })
  const get = 'GET /who/a HTTP/1.1\r\nhost: x\r\n\r\n'
  // The body of the refused one looks like a request.
  socket.write(`${get}${get}PUT /refuse HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n${get}`)
  await closed
  t.is(received().match(/HTTP\/1.1 200/g)?.length, 2)
  t.is(received().match(/HTTP\/1.1 403/g)?.length, 1)
})

test('closing ends what hangs', async (t) => {
  const lo = await loopback(t)
  const hanging = lo.connection().request('GET', '/never', { maxBytes: 0 })
  const outcome = t.throwsAsync(hanging, { code: 'HOST_UNREACHABLE' })
  while (lo.handled.length === 0) await sleep(5)
  await lo.close()
  await outcome
})

test('an address that is taken, or none of ours, is refused by name', async (t) => {
  const lo = await loopback(t)
  await t.throwsAsync(loopback(t, [], { listen: lo.address }), { code: 'ADDRESS_IN_USE', message: /127/ })
  await t.throwsAsync(loopback(t, [], { listen: '192.0.2.1:0' }), { code: 'SYSTEM', message: /EADDRNOTAVAIL/ })
  for (const listen of ['', 'x', '127.0.0.1', '127.0.0.1:99999', '::1:80', 'a b:1']) {
    await t.throwsAsync(loopback(t, [], { listen }), { code: 'INVALID' }, listen)
  }
})

test('where any port will do, one that is taken is passed over', async (t) => {
  const taken = await loopback(t, [], { listen: '127.0.0.1:0' })
  const free = await freePort()
  const drawn = [Number(taken.address.split(':')[1]), free]
  const lo = await loopback(t, [], { listen: '127.0.0.1:0', drawPort: () => drawn.shift() as number })
  t.is(lo.address, `127.0.0.1:${free}`)
  t.is(
    (await lo.connection().request('POST', '/echo', { body: Buffer.from('hello'), maxBytes: 5 })).body.toString(),
    'hello',
  )
})
