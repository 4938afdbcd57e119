import test from 'ava'
import { ImagerError } from '../../src/base/errors.js'
import { RUN_PATIENCE_MS } from '../../src/base/limits.js'
import { RemoteCatalog } from '../../src/coordinator/client.js'
import type { Patience } from '../../src/coordinator/patience.js'
import type { Requester } from '../../src/wire/client.js'
import { encodeMessage } from '../../src/wire/message.js'

const gone = () => new ImagerError('HOST_UNREACHABLE', { host: 'office', address: '127.0.0.1:1', why: 'refused' })

/** A coordinator that is back at a time of its own clock, which only the pauses move. */
function absentUntil(back: number, answer: object = { hosts: [] }) {
  const pauses: number[] = []
  const asked: string[] = []
  const heard: string[] = []
  let now = 0
  const abort = new AbortController()
  const connection: Requester = {
    async request(_method, path) {
      asked.push(path)
      if (now < back) throw gone()
      return { status: 200, headers: {}, body: encodeMessage(answer) }
    },
  }
  const patience: Patience = {
    clock: { now: () => now },
    signal: abort.signal,
    waiting: (error) => void heard.push(error.code),
    async sleep(ms) {
      pauses.push(ms)
      now += ms
    },
  }
  return { connection, patience, pauses, asked, heard, abort }
}

test('a run waits for a coordinator that is started anew, ever longer', async (t) => {
  const s = absentUntil(10_000)
  t.deepEqual(await new RemoteCatalog(s.connection, s.patience).hosts(), [])
  t.deepEqual(s.pauses, [250, 500, 1000, 2000, 4000, 4000])
  t.deepEqual([...new Set(s.heard)], ['COORDINATOR_UNREACHABLE'])
})

test('after a minute it says that it does not answer', async (t) => {
  const s = absentUntil(Number.POSITIVE_INFINITY)
  await t.throwsAsync(new RemoteCatalog(s.connection, s.patience).hosts(), { code: 'COORDINATOR_UNREACHABLE' })
  const waited = s.pauses.reduce((sum, ms) => sum + ms, 0)
  t.true(waited >= RUN_PATIENCE_MS && waited < RUN_PATIENCE_MS + 4_000, `${waited}`)
})

test('one that is not back soon is looked for, each time a long pause is made', async (t) => {
  const s = absentUntil(10_000)
  const sought: number[] = []
  const seek = async () => void sought.push(s.pauses.length)
  t.deepEqual(await new RemoteCatalog(s.connection, { ...s.patience, seek }).hosts(), [])
  t.deepEqual(sought, [5, 6], 'with the two of 4 s')
})

test('without patience a call is repeated once, and only where the coordinator answered before', async (t) => {
  const s = absentUntil(Number.POSITIVE_INFINITY)
  await t.throwsAsync(new RemoteCatalog(s.connection).hosts(), { code: 'COORDINATOR_UNREACHABLE' })
  t.is(s.asked.length, 1)
  let isThere = true
  const leaving: Requester = {
    request: (...args) => (isThere ? absentUntil(0).connection : s.connection).request(...args),
  }
  const catalog = new RemoteCatalog(leaving)
  await catalog.hosts()
  isThere = false
  await t.throwsAsync(catalog.hosts(), { code: 'COORDINATOR_UNREACHABLE' })
  t.is(s.asked.length, 3)
})

test('Ctrl-C ends the waiting', async (t) => {
  const s = absentUntil(Number.POSITIVE_INFINITY)
  const patience: Patience = { ...s.patience, sleep: async () => s.abort.abort(new ImagerError('INTERRUPTED')) }
  await t.throwsAsync(new RemoteCatalog(s.connection, patience).hosts(), { code: 'INTERRUPTED' })
})

test('what was not asked twice by anybody is asked once: a token is spent, a refusal stands', async (t) => {
  const s = absentUntil(1000)
  await t.throwsAsync(new RemoteCatalog(s.connection, s.patience).invite('peer'), { code: 'COORDINATOR_UNREACHABLE' })
  t.is(s.asked.length, 1)
  const refusing: Requester = {
    async request() {
      s.asked.push('refused')
      throw new ImagerError('LEASE_ENDED', { why: 'it is finished' })
    },
  }
  await t.throwsAsync(new RemoteCatalog(refusing, s.patience).hosts(), { code: 'LEASE_ENDED' })
  t.is(s.asked.length, 2)
})

test('a begin that is repeated names the same lease', async (t) => {
  const lease = '0a'.repeat(16)
  const named = (key: string, body: string) => new RegExp(`"${key}":"([0-9a-f]+)"`).exec(body)?.[1] ?? ''
  let other = ''
  const bodies: string[] = []
  const { patience } = absentUntil(0)
  const connection: Requester = {
    async request(_method, _path, { body }) {
      bodies.push(Buffer.from(body as Uint8Array).toString())
      if (bodies.length < 4) throw gone()
      const begun = { lease: named('lease', bodies[0] ?? ''), run: other || named('run', bodies[0] ?? '') }
      return { status: 200, headers: {}, body: encodeMessage({ ...begun, snapshot: lease, sequence: 1, parent: null }) }
    },
  }
  const request = { appliance: 'ab'.repeat(32), volume: lease, source: 'x', label: '' }
  await new RemoteCatalog(connection, patience).begin(request)
  t.deepEqual([bodies.length, new Set(bodies).size], [4, 1])
  t.regex(bodies[0] ?? '', /"lease":"[0-9a-f]{32}","run":"[0-9a-f]{16}"/)
  other = '0b'.repeat(8)
  await t.throwsAsync(new RemoteCatalog(connection, patience).begin(request), { code: 'HOST_LIED' })
})
