import test from 'ava'
import { formatBytes, formatCount, formatSeconds } from '../../src/base/units.js'

test('sizes read as disks are sold', (t) => {
  const cases: [number, string][] = [
    [0, '0 B'],
    [999, '999 B'],
    [1000, '1.0 kB'],
    [1500, '1.5 kB'],
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
  ]
  for (const [seconds, text] of cases) t.is(formatSeconds(seconds), text)
})

test('counts read as people say them', (t) => {
  t.deepEqual(
    [0, 1, 2].map((count) => formatCount(count, 'host')),
    ['0 hosts', '1 host', '2 hosts'],
  )
})
