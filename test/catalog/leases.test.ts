import test from 'ava'
import { withoutForerunners } from '../../src/catalog/leases.js'
import type { RunRow } from '../../src/catalog/types.js'

const run = (volume: string, source: string, started: number, kept: boolean, appliance = 'aa'): RunRow => {
  const failure = 'TOO_FEW_HOSTS'
  return { appliance, applianceName: 'srv', volume, source, kept, started, ended: started, failure, finished: false }
}
const volumes = (rows: readonly RunRow[]) => withoutForerunners(rows).map((row) => row.volume)

test('what failed before its disk was known is told until a run of that path gets further', (t) => {
  const early = run('path', '/dev/sdb', 1, false)
  t.deepEqual(volumes([early]), ['path'])
  t.deepEqual(volumes([early, run('other', '/dev/sdc', 2, false)]), ['path', 'other'])
  t.deepEqual(volumes([early, run('else', '/dev/sdb', 2, false, 'bb')]), ['path', 'else'])
  t.deepEqual(volumes([early, run('disk', '/dev/sdb', 2, true)]), ['disk'])
  t.deepEqual(volumes([early, run('disk', '/dev/sdb', 2, false)]), ['disk'])
})

test('a disk that has snapshots is told of, whatever stands at its path since', (t) => {
  const disk = run('disk', '/dev/sda', 1, true)
  t.deepEqual(volumes([disk, run('next', '/dev/sda', 2, true)]), ['disk', 'next'])
})
