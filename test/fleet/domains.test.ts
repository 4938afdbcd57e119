import test from 'ava'
import { describeChange, domainChange } from '../../src/fleet/domains.js'

const [FIRST, SECOND, THIRD] = ['11', '22', '33'].map((text) => text.repeat(16)) as [string, string, string]

function row(applianceName: string, arrived: number, newBytes: number, ...domains: string[]) {
  return { applianceName, time: 9e15, arrived, summary: { domains, newBytes } }
}

test('under one key nothing is said, nor where a snapshot does not say its key', (t) => {
  t.is(domainChange([]), undefined)
  t.is(domainChange([row('a', 1, 10), row('a', 2, 10, FIRST), row('b', 3, 10, FIRST)]), undefined)
})

test('what is older, until when, and what is stored twice at most', (t) => {
  const rows = [
    row('a', 1, 100, FIRST),
    row('b', 2, 100, FIRST),
    row('b', 4, 5, SECOND, FIRST),
    // Begun before the change.
    row('a', 5, 1, FIRST),
  ]
  const both = { older: 3, until: 5, twiceBytes: 0, twiceBy: [] }
  t.deepEqual(domainChange(rows), both, 'who has both refers to what is there')
  t.regex(describeChange(both), /after 3 snapshots, .* on nothing newer\. Nothing is stored twice/)
  const joined = [...rows, row('d', 6, 70, SECOND), row('c', 7, 30, SECOND), row('c', 8, 7, SECOND)]
  t.deepEqual(domainChange(joined), { ...both, twiceBytes: 107, twiceBy: ['c', 'd'] })
  const again = [...joined, row('b', 9, 3, THIRD, SECOND, FIRST), row('c', 10, 4, THIRD, SECOND)]
  t.deepEqual(domainChange(again), { older: 7, until: 8, twiceBytes: 111, twiceBy: ['c', 'd'] })
  t.regex(describeChange({ ...both, twiceBytes: 111, twiceBy: ['c', 'd'] }), /At most 111 B of c, d are stored twice/)
})
