import test from 'ava'
import { RealMonth } from './rollbacks.js'

const SEEDS = [47, 48]
const DAYS = 2

test('folders copied while daemons run and put back: every acknowledged snapshot restores', async (t) => {
  t.timeout(180_000)
  const month = await RealMonth.record(t, 47, DAYS)
  for (const seed of SEEDS) {
    const outcome = await month.try(seed)
    t.log(JSON.stringify(outcome))
    t.deepEqual(outcome.failures, [], `seed ${seed}`)
    t.is(outcome.restored, DAYS + 1)
  }
})
