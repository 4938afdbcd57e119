import test from 'ava'
import { LEVELS, Leveller, nextLevel } from '../../../src/jobs/snapshot/compression-level.js'

const slow = { waitedForSending: 0.9, idleProcessors: 0.8 }
const crowded = { waitedForSending: 0.9, idleProcessors: 0.1 }
const flowing = { waitedForSending: 0.02, idleProcessors: 0.8 }

test('a slow network raises the level step by step, a free one lowers it, and it stays within its bounds', (t) => {
  const climb = LEVELS.map((level) => nextLevel(level, slow))
  t.deepEqual(climb, [...LEVELS.slice(1), LEVELS.at(-1)])
  t.deepEqual(
    LEVELS.map((level) => nextLevel(level, flowing)),
    [1, ...LEVELS.slice(0, -1)],
  )
})

test('without idle processors, and between the two marks, it stays', (t) => {
  for (const level of LEVELS) {
    t.is(nextLevel(level, crowded), level)
    t.is(nextLevel(level, { waitedForSending: 0.3, idleProcessors: 0.9 }), level)
  }
})

test('a run is judged every eight batches, by what it saw since the last time', async (t) => {
  const seen = { ms: 0, busy: 0, idle: 0 }
  const leveller = new Leveller({ now: () => seen.ms }, () => seen)
  const run = async (batches: number, waitMs: number, workMs: number) => {
    for (let batch = 0; batch < batches; batch++) {
      await leveller.waiting(
        Promise.resolve().then(() => {
          seen.ms += waitMs
          seen.idle += waitMs
        }),
      )
      seen.ms += workMs
      seen.busy += workMs
      leveller.batchDone()
    }
    return leveller.level
  }
  t.is(await run(7, 900, 100), 1)
  t.is(await run(1, 900, 100), 3)
  t.is(await run(8, 900, 100), 6)
  t.is(await run(8, 300, 700), 6)
  t.is(await run(8, 0, 1000), 3)
  t.is(await run(80, 0, 1000), 1)
})
