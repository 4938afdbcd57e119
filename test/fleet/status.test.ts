import test from 'ava'
import type { HostRow, RunRow, SnapshotRow, VolumePolicy } from '../../src/catalog/types.js'
import { DAY_MS, maxAge } from '../../src/fleet/age.js'
import { compareMembers } from '../../src/fleet/members.js'
import { findProblems, newestOf, strangers } from '../../src/fleet/problems.js'

const NOW = 1_800_000_000_000

const peer = (name: string, over: Partial<HostRow> = {}) =>
  ({
    host: `id-${name}`,
    name,
    domain: name,
    role: 'peer',
    away: false,
    storage: 'disk',
    suspect: '',
    clockSkewMs: null,
    ...over,
  }) as HostRow
const snapshot = (over: Partial<SnapshotRow> = {}) =>
  ({
    id: 'ab'.repeat(16),
    appliance: 'server',
    applianceName: 'server',
    volume: 'v1',
    source: '/dev/sda',
    state: 'protected',
    receipted: 1,
    cosigned: true,
    time: NOW - 1000,
    arrived: 0,
    survives: 1,
    target: 1,
    now: { survives: 1, suffice: [] },
    ...over,
  }) as SnapshotRow
const policy = (over: Partial<VolumePolicy> = {}) =>
  ({ appliance: 'server', volume: 'v1', maxAgeMs: null, retired: false, ...over }) as VolumePolicy
const run = (over: Partial<RunRow>) =>
  ({ appliance: 'server', applianceName: 'server', volume: 'v1', source: '/dev/sda', failure: null, ...over }) as RunRow
const problems = (
  hosts: HostRow[],
  snapshots: SnapshotRow[],
  volumes: VolumePolicy[] = [],
  runs: RunRow[] = [run({ finished: true })],
) => findProblems({ hosts, snapshots, volumes, runs, now: NOW })

test('all here, and as many losses survived as there should be: nothing to say', (t) => {
  t.deepEqual(problems([peer('a')], [snapshot()]), [])
  t.deepEqual(problems([peer('a', { clockSkewMs: 299_000 })], [snapshot({ state: 'verified' })]), [])
})

test('each thing that is less than safe is said, with what to type', (t) => {
  const away = { away: true }
  const cases: [code: string, remedy: RegExp, hosts: HostRow[], snapshots: SnapshotRow[]][] = [
    ['NO_SNAPSHOT', /`imager snapshot SOURCE`/, [peer('a')], []],
    ['LOST', /`imager snapshot \/dev\/sda` on server/, [peer('a')], [snapshot({ state: 'incomplete', survives: -1 })]],
    [
      'NOT_NOW',
      /Switch on b\..*`imager remove b`/,
      [peer('a'), peer('b', away)],
      [snapshot({ now: { survives: -1, suffice: ['id-b'] } })],
    ],
    ['NO_MARGIN', /Switch on b\./, [peer('a'), peer('b', away)], [snapshot({ now: { survives: 0, suffice: [] } })]],
    [
      'BELOW_TARGET',
      /`imager snapshot \/dev\/sda` on server/,
      [peer('a'), peer('b')],
      [snapshot({ state: 'sealed', survives: 0, receipted: 0, now: { survives: 0, suffice: [] } })],
    ],
    [
      'BELOW_TARGET',
      /`imager policy set \/dev\/sda --tolerate 1`/,
      [peer('a'), peer('b')],
      [snapshot({ state: 'sealed', survives: 1, target: 2 })],
    ],
    ['NOT_RECEIPTED', /Keep the peers on/, [peer('a')], [snapshot({ state: 'sealed', receipted: 0 })]],
    ['KEYS_NOT_HELD', /Switch more peers on/, [peer('a')], [snapshot({ state: 'sealed' })]],
    ['NOT_COSIGNED', /Switch more peers on/, [peer('a')], [snapshot({ state: 'sealed', cosigned: false })]],
    [
      'OLD',
      /`imager snapshot \/dev\/sda`.*`imager retire \/dev\/sda`/,
      [peer('a')],
      [snapshot({ time: NOW - 9 * DAY_MS })],
    ],
    [
      'SUSPECT',
      /`imager check`/,
      [peer('a', { suspect: 'its store holds 0 B, 5.0 MB were placed there' })],
      [snapshot()],
    ],
    ['CLOCK', /`timedatectl set-ntp true`/, [peer('a', { clockSkewMs: -3_600_000 })], [snapshot()]],
  ]
  for (const [code, remedy, hosts, snapshots] of cases) {
    const found = problems(hosts, snapshots)
    t.deepEqual(
      found.map((one) => one.code),
      [code] as string[],
    )
    t.regex(found[0]?.remedy ?? '', remedy)
  }
})

test('a run that came to nothing is said, also where there is no snapshot yet; a retired volume fails no more', (t) => {
  const failed = [run({ failure: 'HOST_FULL' })]
  const [found] = problems([peer('a')], [snapshot()], [], failed)
  t.is(found?.sentence, 'The last run of /dev/sda on server came to nothing (HOST_FULL)')
  t.regex(found?.remedy ?? '', /`imager snapshot \/dev\/sda` on server/)
  const codes = problems([peer('a')], [], [], failed).map(({ code }) => code)
  t.deepEqual(codes, ['NO_SNAPSHOT', 'RUN_FAILED'])
  t.deepEqual(problems([peer('a')], [snapshot()], [policy({ retired: true })], failed), [])
})

test('times to come are no age; what arrived is as old as that', (t) => {
  const ahead = { time: NOW + 365 * DAY_MS }
  t.deepEqual(problems([peer('a')], [snapshot({ ...ahead, arrived: NOW - 1 })]), [])
  t.deepEqual(
    problems([peer('a')], [snapshot(ahead)]).map(({ code }) => code),
    ['AGE_UNKNOWN'],
  )
  const old = snapshot({ ...ahead, arrived: NOW - 400 * DAY_MS })
  t.deepEqual(
    problems([peer('a')], [old]).map(({ code }) => code),
    ['OLD'],
  )
})

test('a storm of absences is one sentence', (t) => {
  const hosts = Array.from({ length: 40 }, (_, i) => peer(`pc${i}`, { away: true }))
  const rows = Array.from({ length: 30 }, (_, i) =>
    snapshot({ volume: `v${i}`, now: { survives: -1, suffice: ['id-pc1'] } }),
  )
  t.deepEqual(
    problems(hosts, rows).map(({ sentence }) => sentence),
    ['The newest snapshots of 30 volumes cannot be restored now: 40 hosts away'],
  )
})

test('of each volume the newest counts, and a retired one does not', (t) => {
  const rows = [
    snapshot({ id: 'old' }),
    snapshot({ volume: 'v2', id: 'other', time: NOW - 99 * DAY_MS }),
    snapshot({ id: 'new' }),
  ]
  const ids = (volumes: VolumePolicy[]) => newestOf({ snapshots: rows, volumes }).map(({ row }) => row.id)
  t.deepEqual(ids([]), ['new', 'other'])
  t.deepEqual(ids([policy({ volume: 'v2', retired: true })]), ['new'])
  t.deepEqual(problems([peer('a')], rows, [policy({ volume: 'v2', maxAgeMs: 0 })]), [])
})

test('an alarm is due at twice the usual interval, within 26 hours and 8 days; what a person decided goes before', (t) => {
  const every = (ms: number, count: number) => Array.from({ length: count }, (_, i) => i * ms)
  const HOUR = 3_600_000
  t.is(maxAge(every(DAY_MS, 2), null), 8 * DAY_MS)
  t.is(maxAge(every(HOUR, 9), null), 26 * HOUR)
  t.is(maxAge(every(DAY_MS, 9), null), 2 * DAY_MS)
  t.is(maxAge(every(30 * DAY_MS, 9), null), 8 * DAY_MS)
  t.is(maxAge([0, DAY_MS, 2 * DAY_MS, 40 * DAY_MS, 41 * DAY_MS], null), 2 * DAY_MS, 'one long pause changes nothing')
  t.is(maxAge(every(DAY_MS, 9), 5), 5)
  t.is(maxAge(every(DAY_MS, 9), 0), undefined)
})

test('who is signed in and not listed, or listed and not signed in, is told, also where only the role differs', (t) => {
  const [a, b, c] = ['a', 'b', 'c'].map((name) => peer(name, { role: 'peer' })) as [HostRow, HostRow, HostRow]
  const signed = (...hosts: HostRow[]) => ({ hosts: hosts.map((one) => ({ ...one, sealing: '' })) })
  t.deepEqual(strangers(compareMembers(signed(a, b), [a, b])), [])
  const { unlisted, unsigned } = compareMembers(signed(a, b), [b, c])
  t.deepEqual([unlisted.map(({ name }) => name), unsigned.map(({ name }) => name)], [['a'], ['c']])
  const admin = compareMembers(signed(a, { ...b, role: 'admin' }), [a, b])
  t.deepEqual(admin.unlisted, [{ host: b.host, name: 'b', role: 'admin' }])
  const [first, second] = strangers({ unlisted, unsigned })
  t.regex(first?.sentence ?? '', /^a \(peer, key .*signed in, and not in/)
  t.regex(second?.sentence ?? '', /^c \(peer, .*no peer believes it/)
  t.like(first, { code: 'STRANGER' })
})
