import test from 'ava'
import type { EventRow } from '../../src/catalog/registry.js'
import { Follower } from '../../src/cli/follow.js'

const event = (n: number, time: number, count = 1): EventRow => ({
  ...{ n, time, kind: 'refusal', host: 'aa'.repeat(32), sentence: `event ${n}`, count },
})
const shown = (rows: readonly EventRow[]) => rows.map(({ n, count }) => [n, count])

test('a new event is shown at once, and once more with its whole count when its minute is over', (t) => {
  const follower = new Follower()
  t.is(follower.after, 0)
  t.deepEqual(shown(follower.take([event(1, 0, 9), event(2, 100_000)], 100_000)), [
    [1, 9],
    [2, 1],
  ])
  t.is(follower.after, 1, 'the second may still be counted')
  t.deepEqual(shown(follower.take([event(2, 100_000, 5), event(3, 101_000)], 101_000)), [[3, 1]])
  t.deepEqual(shown(follower.take([event(2, 100_000, 700), event(3, 101_000)], 170_500)), [[2, 700]])
  t.is(follower.after, 2)
  t.deepEqual(shown(follower.take([event(3, 101_000)], 200_000)), [])
  t.is(follower.after, 3)
  t.deepEqual(shown(follower.take([], 300_000)), [])
})
