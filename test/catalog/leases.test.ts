import test from 'ava'
import { withoutForerunners } from '../../src/catalog/leases.js'
import type { RunRow } from '../../src/catalog/types.js'

const run = (volume: string, source: string, started: number, appliance = 'aa'): RunRow => {
  const failure = 'TOO_FEW_HOSTS'
  return { appliance, applianceName: 'srv', volume, source, started, ended: started, failure, finished: false }
}
const volumes = (rows: readonly { kept: boolean; row: RunRow }[]) => withoutForerunners(rows).map((row) => row.volume)

test('what failed before its disk was known is told until a run of that path gets further', (t) => {
  const early = { kept: false, row: run('path', '/dev/sdb', 1) }
  t.deepEqual(volumes([early]), ['path'])
  t.deepEqual(volumes([early, { kept: false, row: run('other', '/dev/sdc', 2) }]), ['path', 'other'])
  t.deepEqual(volumes([early, { kept: false, row: run('else', '/dev/sdb', 2, 'bb') }]), ['path', 'else'])
  t.deepEqual(volumes([early, { kept: true, row: run('disk', '/dev/sdb', 2) }]), ['disk'])
  t.deepEqual(volumes([early, { kept: false, row: run('disk', '/dev/sdb', 2) }]), ['disk'])
})

test('a disk that has snapshots is told of, whatever stands at its path since', (t) => {
  const disk = { kept: true, row: run('disk', '/dev/sda', 1) }
  t.deepEqual(volumes([disk, { kept: true, row: run('next', '/dev/sda', 2) }]), ['disk', 'next'])
})
