import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { expectation, recordMonth, tryRollback } from './rollbacks.js'
import type { Host } from './site.js'

const SEEDS = [48, 49, 54]
const DAYS = 4

test('hosts put back to copies of while they ran, clocks years off: every acknowledged snapshot restores', async (t) => {
  t.timeout(180_000)
  const folder = mkdtempSync(join(tmpdir(), 'imager-rollbacks-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const month = await recordMonth(join(folder, 'month'), 47, DAYS)
  t.is(month.snapshots.length, DAYS)
  for (const seed of SEEDS) {
    const outcome = await tryRollback(month, seed, 1)
    t.log(JSON.stringify(outcome))
    t.deepEqual(outcome.failures, [], `seed ${seed}`)
  }
})

test('what is expected of a snapshot depends on who was put back to before it', (t) => {
  const month = { moments: [0, 5], m: 2, witnesses: new Set(['peer-1', 'peer-2', 'peer-3']) }
  const of = (back: [Host, number][], at: number) => expectation(month, new Map(back), at)
  t.is(
    of(
      [
        ['coordinator', 0],
        ['peer-1', 0],
        ['peer-2', 0],
      ],
      3,
    ),
    'restored',
  )
  const three: [Host, number][] = [
    ['peer-1', 0],
    ['peer-2', 0],
    ['peer-3', 0],
  ]
  t.is(of(three, 3), 'said')
  t.is(of([...three, ['coordinator', 1]], 3), 'said', 'the coordinator was put back to after it')
  t.is(of([...three, ['coordinator', 0]], 3), 'nowhere')
})
