/**
 * `npm run bench [-- SCENARIO...] [--dry]`: how fast, how small, beside other tools on the same disk in the same run. Runs
 * alternate, so that whatever else the machine does meets all alike; figures are medians with their range. Results go to
 * bench/results and docs/performance.md, unless --dry.
 *
 *   CORPUS=DIR      the disks of bench/make-corpus.sh (needed by all but micro)
 *   BENCH_RUNS=N    runs of everything that is timed (default 3)
 *   BENCH_DIR=DIR   where repositories, labs and restored disks go (default: a folder under the system's temporary one)
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Neighbour, versionOf } from './contenders.js'
import { Lab } from './lab.js'
import { machine } from './measure.js'
import { FLOOR_CONTENDER, NEIGHBOURS } from './neighbours.js'
import { report, writePage } from './report.js'
import { keep, type Outcome, type Results } from './results.js'
import { Measured, type Scenario } from './scenario.js'
import { backup } from './scenarios/backup.js'
import { files } from './scenarios/files.js'
import { micro } from './scenarios/micro.js'
import { mountFiles } from './scenarios/mount-files.js'
import { mountImage } from './scenarios/mount-image.js'
import { restore } from './scenarios/restore.js'
import { run, Sources } from './sources.js'
import type { Tool } from './tool.js'

/** In the order in which one leaves to the next what that can use. */
const SCENARIOS: readonly Scenario[] = [backup, restore, mountImage, files, mountFiles, micro]

const tell = (text: string) => process.stderr.write(`${text}\n`)

async function main(args: readonly string[]): Promise<void> {
  const wanted = args.filter((arg) => arg !== '--dry')
  const unknown = wanted.find((name) => !SCENARIOS.some((scenario) => scenario.name === name))
  if (unknown) throw new Error(`${unknown}? There are ${SCENARIOS.map((scenario) => scenario.name).join(', ')}.`)
  const chosen = SCENARIOS.filter(({ name }) => wanted.length === 0 || wanted.includes(name))
  const date = new Date().toISOString()
  const scenarios = await measureAll(chosen, date)
  const results: Results = { version: 2, machine: machine(), scenarios }
  process.stdout.write(`${report(results, SCENARIOS)}\n`)
  if (args.includes('--dry')) return
  const kept = keep(date.slice(0, 10), results)
  writePage(kept.results, SCENARIOS)
  tell(`Written to ${kept.path} and docs/performance.md`)
}

async function measureAll(chosen: readonly Scenario[], date: string): Promise<Record<string, Outcome>> {
  const runs = Number(process.env.BENCH_RUNS ?? 3)
  if (!Number.isInteger(runs) || runs < 1) throw new Error('BENCH_RUNS must be 1 or more')
  const parent = process.env.BENCH_DIR ?? tmpdir()
  mkdirSync(parent, { recursive: true })
  const work = mkdtempSync(join(parent, 'imager-bench-'))
  let sources: Sources | undefined
  let tools: readonly Tool[] = []
  const outcomes: Record<string, Outcome> = {}
  // Ctrl-C ends the children too: what waits for one fails, and what was made is taken away below.
  process.on('SIGINT', () => tell('Interrupted'))
  try {
    for (const scenario of chosen) {
      if (scenario !== micro && !sources) {
        tell('Building the floor and the reader, reading the disks once')
        const build = ['build', '--quiet', '--release', '--no-default-features', '--examples']
        run('cargo', ...build, '--manifest-path', 'native/Cargo.toml')
        sources = Sources.open(corpus(), work)
        tools = toolsIn(work)
      }
      const measured = new Measured()
      await scenario.run({ sources: sources!, work, runs, tools, measured, tell })
      const versions = Object.fromEntries(tools.map(({ name, version }) => [name, version]))
      outcomes[scenario.name] = { date, runs, tools: versions, rows: measured.rows }
    }
    return outcomes
  } finally {
    for (const tool of tools) await tool.close()
    sources?.close()
    rmSync(work, { recursive: true, force: true })
  }
}

function corpus(): string {
  if (!process.env.CORPUS) throw new Error('Set CORPUS to the folder of the disks; bench/make-corpus.sh makes them.')
  return process.env.CORPUS
}

function toolsIn(work: string): Tool[] {
  const neighbours = [...NEIGHBOURS, FLOOR_CONTENDER].flatMap((contender) => {
    const version = versionOf(contender)
    if (version === undefined) tell(`${contender.name} is not installed, or too old`)
    return version === undefined ? [] : [new Neighbour(contender, version, work)]
  })
  return [new Lab(work), ...neighbours]
}

await main(process.argv.slice(2))
