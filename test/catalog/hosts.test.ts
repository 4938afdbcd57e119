import test, { type ExecutionContext } from 'ava'
import fc from 'fast-check'
import { AWAY_AFTER_MS, HEARTBEAT_MS } from '../../src/base/limits.js'
import { shareSpace } from '../../src/catalog/hosts.js'
import type { HostRow } from '../../src/catalog/types.js'
import { hex, member, offer, openPlain, TurnedClock, temporaryFolder } from './harness.js'

/** A catalog whose one member has not been heard of yet. */
function onePeer(t: ExecutionContext) {
  const folder = temporaryFolder()
  t.teardown(folder.remove)
  const clock = new TurnedClock()
  const catalog = openPlain(folder.path, clock)
  t.teardown(() => catalog.close())
  const host = hex(32)
  catalog.members.admit(member(host, 'peer', 'pc1'))
  return { clock, catalog, host }
}

test('uptime is the time seen over the time since admission', async (t) => {
  const { clock, catalog, host } = onePeer(t)
  t.like((await catalog.hosts())[0], { away: true, uptime: 0 })

  const beatFor = (ms: number) => {
    for (let passed = 0; passed < ms; passed += HEARTBEAT_MS) {
      clock.time += HEARTBEAT_MS
      catalog.members.heartbeat(host, offer('disk'))
    }
  }
  beatFor(600_000)
  t.like((await catalog.hosts())[0], { away: false, uptime: 1 })
  clock.time += 600_000
  const [gone] = await catalog.hosts()
  t.true(gone?.away)
  t.is(gone?.uptime, 0.5)
  beatFor(400_000)
  const [back] = await catalog.hosts()
  t.false(back?.away)
  t.true(Math.abs((back?.uptime ?? 0) - 990 / 1600) < 1e-9)

  clock.time -= 3_600_000
  t.false(catalog.members.heartbeat(host, offer('disk')), 'a clock set back does no harm')
  const [set] = await catalog.hosts()
  t.true((set?.uptime ?? -1) >= 0 && (set?.uptime ?? 2) <= 1)
})

test('a host is away after three missed heartbeats, and renewed admission keeps what was measured', async (t) => {
  const { clock, catalog, host } = onePeer(t)
  catalog.members.heartbeat(host, offer('disk', 500))
  clock.time += AWAY_AFTER_MS
  t.false((await catalog.hosts())[0]?.away)
  clock.time += 1
  t.true((await catalog.hosts())[0]?.away)
  catalog.members.admit(member(host, 'peer', 'renamed'))
  t.like((await catalog.hosts())[0], { name: 'renamed', freeBytes: 500, storage: 'disk' })
  t.true(catalog.members.heartbeat(host, { ...offer('disk', 500), addresses: ['10.0.0.9:7'] }), 'a new address is told')
  t.deepEqual((await catalog.hosts())[0]?.addresses, ['10.0.0.9:7'])
  t.false(catalog.members.heartbeat(hex(32), offer('disk')), 'a stranger is not noted')
  t.is((await catalog.hosts()).length, 1)
})

test('while the coordinator is started anew nobody can be heard, and nobody is away for that', async (t) => {
  const { clock, catalog, host } = onePeer(t)
  const office = hex(32)
  catalog.members.admit(member(office, 'coordinator', 'office'))
  const peer = async () => (await catalog.hosts()).find((one) => one.host === host)
  catalog.members.heartbeat(host, offer('disk', 500))
  clock.time += 5_000
  catalog.members.seen(office)
  clock.time += 50_000
  t.true((await peer())?.away)
  catalog.members.listen(office)
  t.false((await peer())?.away)
  clock.time += AWAY_AFTER_MS - 5_000
  t.false((await peer())?.away)
  clock.time += 1
  t.true((await peer())?.away, 'it had the time to beat')
  catalog.members.heartbeat(host, offer('disk', 500))
  catalog.members.seen(office)
  clock.time += 3_600_000
  catalog.members.listen(office)
  t.true((await peer())?.away, 'what was heard an hour ago is old')
})

const row = (over: Partial<HostRow>): HostRow => ({
  host: hex(32),
  name: 'pc',
  role: 'peer',
  domain: 'd',
  addresses: [],
  freeBytes: 0,
  usedBytes: 0,
  capacityBytes: 0,
  storage: '',
  lastSeen: 0,
  uptime: 1,
  away: false,
  state: 'here',
  suspect: '',
  store: '',
  clockSkewMs: null,
  ...over,
})

test('hosts on one file system share its free space', (t) => {
  const rows = shareSpace([
    row({ storage: 'a', freeBytes: 900 }),
    row({ storage: 'a', freeBytes: 900 }),
    row({ storage: 'a', freeBytes: 100 }),
    row({ storage: 'a', freeBytes: 5000, away: true }),
    row({ storage: 'b', freeBytes: 700 }),
    row({ storage: '', freeBytes: 1 }),
    row({ storage: '', freeBytes: 2 }),
  ])
  t.deepEqual(
    rows.map((r) => r.freeBytes),
    [400, 400, 100, 0, 700, 1, 2],
  )
})

test('a shared file system is never counted twice', (t) => {
  const claims = fc.array(fc.integer({ min: 0, max: 1e12 }), { minLength: 1, maxLength: 12 })
  fc.assert(
    fc.property(claims, (free) => {
      const parts = shareSpace(free.map((freeBytes) => row({ storage: 's', freeBytes }))).map((r) => r.freeBytes)
      const sum = parts.reduce((a, b) => a + b, 0)
      return sum <= Math.max(...free) && parts.every((part, i) => part <= (free[i] ?? 0))
    }),
  )
  t.pass()
})
