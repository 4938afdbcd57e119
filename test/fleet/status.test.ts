import test from 'ava'
import type { HostRow, SnapshotRow } from '../../src/catalog/types.js'
import { findProblems } from '../../src/fleet/status.js'

const peer = (name: string, away: boolean, usedBytes = 1) => ({ host: `id-${name}`, name, away, usedBytes }) as HostRow
const snapshot = (survives: number, tolerate = 1, state: SnapshotRow['state'] = 'protected') =>
  ({
    id: 'ab'.repeat(16),
    applianceName: 'server',
    source: '/dev/sda',
    state,
    survives,
    summary: { tolerate, perHost: { 'id-sent': 9 } as Record<string, number> },
  }) as SnapshotRow

test('all here, and as many losses survived as asked: nothing to say', (t) => {
  t.deepEqual(findProblems([peer('a', false)], [snapshot(1)]), [])
  t.deepEqual(findProblems([peer('a', true)], []), [])
  t.deepEqual(findProblems([peer('empty', true, 0)], [snapshot(1)]), [])
  t.deepEqual(findProblems([peer('a', true)], [snapshot(2)]), [])
})

test('each thing that is less than safe is said', (t) => {
  const only = (problems: string[], sentence: RegExp) => {
    t.is(problems.length, 1)
    t.regex(problems[0] ?? '', sentence)
  }
  only(findProblems([], [snapshot(0)]), /does not survive the loss of any host/)
  only(findProblems([], [snapshot(1, 2)]), /survives 1 losses, asked: 2/)
  only(findProblems([], [snapshot(-1, 1, 'incomplete')]), /incomplete/)
  only(findProblems([peer('a', true)], [snapshot(1)]), /bears no further loss now: a away/)
  only(findProblems([peer('sent', true, 0)], [snapshot(1)]), /bears no further loss now: sent away/)
  only(findProblems([peer('a', true), peer('b', true)], [snapshot(1)]), /may not be restorable now: a, b away/)
})
