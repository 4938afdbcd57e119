import test from 'ava'
import { formatBytes, formatCount, formatSeconds, formatTime } from '../../src/base/units.js'

test('sizes read as disks are sold', (t) => {
  const cases: [number, string][] = [
    [0, '0 B'],
    [999, '999 B'],
    [1000, '1.0 kB'],
    [1500, '1.5 kB'],
    [2.9154518950437316, '2.9 B'],
    [312.7, '313 B'],
    [0.001, '0.0 B'],
    [65_536, '66 kB'],
    [999_600, '1.0 MB'],
    [6_442_450_944, '6.4 GB'],
    [Number.MAX_SAFE_INTEGER, '9.0 PB'],
  ]
  for (const [bytes, text] of cases) t.is(formatBytes(bytes), text)
})

test('times read as clocks do', (t) => {
  const cases: [number, string][] = [
    [0, '0.0 s'],
    [1.44, '1.4 s'],
    [9.96, '10 s'],
    [59.4, '59 s'],
    [59.6, '1m 00s'],
    [185, '3m 05s'],
    [3600, '1h 00m'],
    [3720, '1h 02m'],
    [90_000, '25h 00m'],
    [172_799, '47h 59m'],
    [172_800, '2 days'],
    [270_000, '3d 03h'],
    [2880 * 3600, '120 days'],
  ]
  for (const [seconds, text] of cases) t.is(formatSeconds(seconds), text)
})

test.serial('points in time are those of the place, with its zone', (t) => {
  const before = process.env.TZ
  t.teardown(() => {
    if (before === undefined) delete process.env.TZ
    else process.env.TZ = before
  })
  const [winter, summer] = [Date.UTC(2026, 0, 31, 23, 5, 9), Date.UTC(2026, 6, 31, 23, 5, 9)]
  const zones: [string, string, string][] = [
    ['UTC', '2026-01-31 23:05 UTC', '2026-07-31 23:05 UTC'],
    ['Europe/Berlin', '2026-02-01 00:05 +01:00', '2026-08-01 01:05 +02:00'],
    ['America/St_Johns', '2026-01-31 19:35 -03:30', '2026-07-31 20:35 -02:30'],
  ]
  for (const [zone, first, second] of zones) {
    process.env.TZ = zone
    t.deepEqual([formatTime(winter), formatTime(summer)], [first, second])
  }
  const precise = formatTime(winter, 'seconds')
  t.is(precise, '2026-01-31 19:35:09 -03:30')
  t.is(Date.parse(precise.replace(' ', 'T').replace(' ', '')), winter)
  t.is(formatTime(Number.NaN), '-')
  t.regex(formatTime(8.64e15), /^\+275760-09-12 /)
})

test('counts read as people say them', (t) => {
  t.deepEqual(
    [0, 1, 2].map((count) => formatCount(count, 'host')),
    ['0 hosts', '1 host', '2 hosts'],
  )
})
