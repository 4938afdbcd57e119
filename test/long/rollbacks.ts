/**
 * 100 rollbacks of a recorded month in this process, and 12 with real processes:
 * `npm run long -- rollbacks [SEED [IN-PROCESS [REAL [DAYS]]]]`. On a tmpfs (TMPDIR) it takes minutes, on a disk much longer.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { RealMonth, type RealOutcome } from '../e2e/rollbacks.js'
import { type Month, type Outcome, recordMonth, tryRollback } from '../sim/rollbacks.js'
import { runLong } from './run.js'

const given = process.argv.slice(2).map(Number)
const [seed = 47, inProcess = 100, real = 12, days = 30] = given
const REAL_DAYS = 6
const LANES = 2

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
  // Two at once: each month has ports of its own.
  const recording = Array.from({ length: LANES }, (_, lane) =>
    recordMonth(join(folder, `month-${lane}`), seed + lane, days),
  )
  const months = await Promise.all(recording)
  process.stderr.write(`recorded: ${months.map(({ snapshots }) => snapshots.length).join(' and ')} snapshots\n`)
  const simulated: Outcome[] = []
  const processes: RealOutcome[] = []
  const runSimulated = async (month: Month, lane: number) => {
    for (let at = lane; at < inProcess; at += LANES) {
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
  await Promise.all([...months.map(runSimulated), ...(real > 0 ? [runReal()] : [])])
  simulated.sort((a, b) => a.seed - b.seed)
  const facts = {
    days,
    months: months.map(({ snapshots, moments, m }) => ({ snapshots: snapshots.length, moments: moments.length, m })),
  }
  return { ...facts, inProcess: simulated, real: processes, failures: failuresOf([...simulated, ...processes]) }
})
