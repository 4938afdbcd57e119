/**
 * 100 rollbacks of a recorded month in this process, and 12 with real processes:
 * `npm run long -- rollbacks [SEED [IN-PROCESS [REAL [DAYS]]]]`. On a tmpfs (TMPDIR) it takes minutes, on a disk much longer.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { RealMonth, type RealOutcome } from '../e2e/rollbacks.js'
import { type Outcome, recordMonth, tryRollback } from '../sim/rollbacks.js'
import { runLong } from './run.js'

const given = process.argv.slice(2).map(Number)
const [seed = 47, inProcess = 100, real = 12, days = 30] = given
const REAL_DAYS = 6

const failuresOf = (outcomes: readonly (Outcome | RealOutcome)[]) =>
  outcomes.flatMap((one) => one.failures.map((what) => `seed ${one.seed}: ${what}`))

function say(part: string, outcome: Outcome | RealOutcome): void {
  process.stderr.write(
    `${part} ${outcome.seed}: ${outcome.restored} restored, ${outcome.failures.join('; ') || 'well'}\n`,
  )
}

await runLong('rollbacks', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'imager-rollbacks-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const month = await recordMonth(join(folder, 'month'), seed, days)
  process.stderr.write(`recorded: ${month.snapshots.length} snapshots, ${month.moments.length} moments\n`)
  const simulated: Outcome[] = []
  const processes: RealOutcome[] = []
  const runSimulated = async () => {
    for (let at = 0; at < inProcess; at++) {
      const outcome = await tryRollback(month, seed + at, 1)
      say('in process', outcome)
      simulated.push(outcome)
    }
  }
  const runReal = async () => {
    const recorded = await RealMonth.record(t, seed, REAL_DAYS)
    for (let at = 0; at < real; at++) {
      const outcome = await recorded.try(seed + at)
      say('real', outcome)
      processes.push(outcome)
    }
  }
  await Promise.all([runSimulated(), ...(real > 0 ? [runReal()] : [])])
  const facts = { snapshots: month.snapshots.length, moments: month.moments.length, days, m: month.m }
  return { ...facts, inProcess: simulated, real: processes, failures: failuresOf([...simulated, ...processes]) }
})
