/**
 * `npm run long -- restore-interrupted [COUNT]`: COUNT (200) restores over a lab's real peers, each killed at a seeded byte; one of
 * ten things is done to the target or the journal, and the same command is run again. Then a disk of more than 500,000
 * blocks, which a restore takes in two sections: whole, and interrupted in either.
 */
import { rmSync } from 'node:fs'
import { CHANGES, type Interruption, interruptOnce, rightBytes, type Stage } from '../e2e/interrupted.js'
import { type Ground, TestLab } from '../e2e/lab.js'
import { makeManyBlocks } from './many-blocks.js'
import { runLong } from './run.js'

const DISK_MIB = 64
const GOES_ON_LEAST = 0.75
const WRITTEN_AGAIN_MOST = 0.2

async function stageOf(ground: Ground, name: string, make: (lab: TestLab, path: string) => void): Promise<Stage> {
  const lab = await TestLab.up(ground, 3)
  const disk = lab.path(name)
  make(lab, disk)
  await lab.snapshot(ground, disk)
  const other = lab.makeDisk('other.img', DISK_MIB)
  const { used } = rightBytes(disk, disk)
  return { folder: lab.folder, state: lab.lab.appliance.state, disk, other, usedBytes: used }
}

function failuresOf(all: readonly Interruption[]): string[] {
  return all.flatMap(({ seed, change, failure, writtenAgain }) => {
    if (failure !== undefined) return [`seed ${seed}, ${change}: ${failure}`]
    if (writtenAgain < WRITTEN_AGAIN_MOST) return []
    return [`seed ${seed}, ${change}: ${(100 * writtenAgain).toFixed(1)} % written again`]
  })
}

/** How often each outcome came, and the most that was written again. */
function summed(all: readonly Interruption[]) {
  const outcome = (what: string) => all.filter((one) => one.outcome === what && one.failure === undefined).length
  const writtenAgainMost = Number(Math.max(...all.map(({ writtenAgain }) => writtenAgain)).toFixed(4))
  return { count: all.length, goesOn: outcome('goes on'), refused: outcome('refused'), writtenAgainMost }
}

async function interruptMany(ground: Ground, count: number) {
  const stage = await stageOf(ground, 'disk.img', (lab) => lab.makeDisk('disk.img', DISK_MIB))
  const all: Interruption[] = []
  for (let seed = 0; seed < count; seed++) {
    all.push(await interruptOnce(stage, seed))
    if (seed % 10 === 9) process.stdout.write(`${seed + 1} of ${count}: ${JSON.stringify(summed(all))}\n`)
  }
  const byChange = Object.keys(CHANGES).map((change) => [change, all.filter((one) => one.change === change)] as const)
  const kills = all.map(({ killedAtBytes }) => killedAtBytes)
  const total = summed(all)
  const few = total.goesOn < GOES_ON_LEAST * count ? [`only ${total.goesOn} of ${count} went on`] : []
  return {
    seeds: [0, count - 1],
    usedBytes: stage.usedBytes,
    killedAtBytes: { least: Math.min(...kills), most: Math.max(...kills) },
    ...total,
    changes: Object.fromEntries(
      byChange.flatMap(([change, some]) => (some.length > 0 ? [[change, summed(some)]] : [])),
    ),
    failures: [...failuresOf(all), ...few],
  }
}

async function manyBlocks(ground: Ground) {
  let blocks = 0
  const stage = await stageOf(ground, 'many.img', (_, path) => {
    blocks = makeManyBlocks(path)
  })
  process.stdout.write(`${blocks} blocks\n`)
  const all: Interruption[] = []
  // In the first section; in the second, as it is, with a piece touched, with tables overwritten.
  for (const [seed, afterSection] of [
    [0, false],
    [10, true],
    [1, true],
    [7, true],
  ] as const) {
    all.push(await interruptOnce({ ...stage, afterSection }, seed))
    process.stdout.write(`${JSON.stringify(all.at(-1))}\n`)
  }
  rmSync(stage.disk)
  const single = blocks > 500_000 ? [] : [`only ${blocks} blocks`]
  const sections = all.some(({ sectionsDone }) => sectionsDone > 0)
    ? []
    : ['no section was finished when it was killed']
  return { blocks, usedBytes: stage.usedBytes, ...summed(all), failures: [...failuresOf(all), ...single, ...sections] }
}

await runLong('restore-interrupted', async (ground) => {
  const interruptions = await interruptMany(ground, Number(process.argv[2] ?? 200))
  const many = await manyBlocks(ground)
  return { interruptions, manyBlocks: many, failures: [...interruptions.failures, ...many.failures] }
})
