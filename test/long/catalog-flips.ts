/**
 * 10,000 flipped bits in a coordinator's state folder in this process, and 200 with real processes:
 * `npm run long -- catalog-flips [SEED [IN-PROCESS [REAL]]]`.
 */
import { generator, makeBase, removeBase, tryFlip } from '../catalog/flips.js'
import { Flipper } from '../e2e/catalog-flips.js'
import { type Ground, TestLab } from '../e2e/lab.js'
import { runLong } from './run.js'

const given = process.argv.slice(2).map(Number)
const [seed = 13, inProcess = 10_000, real = 200] = given
const SAID_EVERY = 10

interface Part {
  readonly seed: number
  flips: number
  /** By file and outcome. */
  readonly counts: Record<string, Record<string, number>>
  readonly failures: string[]
}

const empty = (from: number): Part => ({ seed: from, flips: 0, counts: {}, failures: [] })

async function run(flips: number, part: Part, flip: () => Promise<{ file: string; kind: string }>): Promise<void> {
  while (part.flips < flips) {
    const outcome = await flip()
    const file = outcome.file.replace(/\d+(?=\.seg)/, 'N').replace(/^keys\/.*/, 'keys/')
    const counts = part.counts[file] ?? {}
    part.counts[file] = { ...counts, [outcome.kind]: (counts[outcome.kind] ?? 0) + 1 }
    if (outcome.kind === 'WRONG') {
      part.failures.push(JSON.stringify(outcome))
      process.stderr.write(`${JSON.stringify(outcome)}\n`)
    }
    part.flips++
    if (part.flips % SAID_EVERY === 0)
      process.stderr.write(`${part.seed}: ${part.flips} of ${flips}, ${part.failures.length} failures\n`)
  }
}

async function runInProcess(part: Part): Promise<void> {
  const base = await makeBase()
  try {
    const random = generator(part.seed)
    await run(inProcess, part, () => tryFlip(base, random))
  } finally {
    removeBase(base)
  }
}

async function runReal(t: Ground, part: Part): Promise<void> {
  const lab = await TestLab.up(t, 3)
  const disk = lab.makeDisk('disk.img', 8)
  await lab.snapshot(t, disk)
  await lab.kill(lab.lab.coordinator.pid)
  const flipper = new Flipper(lab, disk, generator(part.seed))
  t.teardown(() => flipper.end())
  await run(real, part, () => flipper.flip())
}

await runLong('catalog-flips', async (t) => {
  const parts = { inProcess: empty(seed), real: empty(seed + 1) }
  await Promise.all([runInProcess(parts.inProcess), runReal(t, parts.real)])
  return { ...parts, failures: [...parts.inProcess.failures, ...parts.real.failures] }
})
