/**
 * `npm run bench`: how fast, how small, beside other tools on the same disk in the same run. Runs alternate, so that
 * whatever else the machine does meets all alike; figures are medians with their range.
 *
 *   CORPUS=DIR      the disks of bench/make-corpus.sh (needed)
 *   BENCH_RUNS=N    runs of everything that is timed (default 3)
 *   BENCH_DIR=DIR   where repositories, labs and restored disks go (default: a folder under the system's temporary one)
 */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { median, showSpread, spread, table } from './arithmetic.js'
import { type Contender, installedContenders } from './contenders.js'
import { Lab, type Snapshot } from './lab.js'
import { machine, measure, type Run, warm } from './measure.js'

const PEERS = 6
const SCHEME = '4+2'
const MISSING = 2
const MB = 1e6
const MiB = 1024 * 1024

/** The measured runs of one tool. */
interface Series {
  readonly name: string
  readonly version: string
  readonly backup: Run[]
  readonly restore: Run[]
  readonly degraded: Run[]
}

interface Results {
  readonly date: string
  readonly machine: ReturnType<typeof machine>
  readonly runs: number
  readonly full: Snapshot
  readonly second: Snapshot
  readonly later: Snapshot
  readonly series: Series[]
}

const tell = (text: string) => process.stderr.write(`${text}\n`)
const secondsOf = (runs: readonly Run[]) => spread(runs.map((run) => run.seconds))

async function main(): Promise<void> {
  const corpus = process.env.CORPUS
  if (!corpus) throw new Error('Set CORPUS to the folder of the disks; bench/make-corpus.sh makes them.')
  const runs = Number(process.env.BENCH_RUNS ?? 3)
  const parent = process.env.BENCH_DIR ?? tmpdir()
  await mkdir(parent, { recursive: true })
  const work = await mkdtemp(join(parent, 'imager-bench-'))
  try {
    const results = await runAll(corpus, work, runs)
    const path = join('bench', 'results', `${results.date.slice(0, 10)}.json`)
    await mkdir(join('bench', 'results'), { recursive: true })
    await writeFile(path, `${JSON.stringify(withoutOutput(results), null, 2)}\n`)
    process.stdout.write(`${report(results)}\n\nWritten to ${path}\n`)
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}

async function runAll(corpus: string, work: string, runs: number): Promise<Results> {
  const [first, second, later] = ['A1', 'A2', 'A1b'].map((name) => join(corpus, `${name}.img`)) as [
    string,
    string,
    string,
  ]
  const imager: Series = { name: 'imager', version: '', backup: [], restore: [], degraded: [] }
  const others = installedContenders().map(({ contender, version }) => ({
    contender,
    series: { name: contender.name, version, backup: [], restore: [], degraded: [] } as Series,
  }))
  tell('Reading the disks once ...')
  for (const image of [first, second, later]) await warm(image)

  let lab: Lab | undefined
  let full: Snapshot | undefined
  try {
    for (let run = 0; run < runs; run++) {
      tell(`Full backup, run ${run + 1} of ${runs} ...`)
      await discard(lab)
      lab = await Lab.up(join(work, `lab-${run}`), PEERS)
      const taken = await lab.snapshot(first, SCHEME)
      full = taken.report
      imager.backup.push(taken.run)
      for (const { contender, series } of others) series.backup.push(await backup(contender, work, run, first))
    }
    if (!lab || !full) throw new Error('BENCH_RUNS must be 1 or more')
    tell('A second machine, and the first one a day later ...')
    const secondReport = (await lab.snapshot(second, SCHEME)).report
    const laterReport = (await lab.snapshot(later, SCHEME)).report
    for (let run = 0; run < runs; run++) {
      tell(`Restore, run ${run + 1} of ${runs} ...`)
      imager.restore.push(await restoreOnce(lab, full.snapshot, join(work, 'whole.img')))
      for (const { contender, series } of others) series.restore.push(await restore(contender, work, runs - 1))
    }
    lab.kill(MISSING)
    for (let run = 0; run < runs; run++) {
      tell(`Restore with ${MISSING} of ${PEERS} hosts dead, run ${run + 1} of ${runs} ...`)
      imager.degraded.push(await restoreOnce(lab, full.snapshot, join(work, 'degraded.img')))
    }
    await measure({ argv: ['cmp', join(work, 'whole.img'), join(work, 'degraded.img')] })
    const series = [imager, ...others.map((other) => other.series)]
    return {
      date: new Date().toISOString(),
      machine: machine(),
      runs,
      full,
      second: secondReport,
      later: laterReport,
      series,
    }
  } finally {
    await discard(lab)
  }
}

async function discard(lab: Lab | undefined): Promise<void> {
  if (!lab) return
  await lab.down()
  await rm(lab.folder, { recursive: true, force: true })
}

async function restoreOnce(lab: Lab, snapshot: string, target: string): Promise<Run> {
  await rm(target, { force: true })
  return lab.restore(snapshot, target)
}

const repositoryOf = (contender: Contender, work: string, run: number) => join(work, `${contender.name}-${run}`)

async function backup(contender: Contender, work: string, run: number, image: string): Promise<Run> {
  if (run > 0) await rm(repositoryOf(contender, work, run - 1), { recursive: true, force: true })
  const repository = repositoryOf(contender, work, run)
  await measure(contender.create(repository))
  return measure(contender.backup(repository, image))
}

async function restore(contender: Contender, work: string, run: number): Promise<Run> {
  const folder = join(work, `${contender.name}-restored`)
  await rm(folder, { recursive: true, force: true })
  await mkdir(folder)
  return measure(contender.restore(repositoryOf(contender, work, run), folder))
}

function report({ series, full, second, later, runs, machine: host }: Results): string {
  const imager = series[0]!
  const restic = series.find((one) => one.name === 'restic')
  const times = series.map((one) => [
    `${one.name} ${one.version}`.trim(),
    showSpread(secondsOf(one.backup)),
    showSpread(spread(one.backup.map((run) => run.cpuSeconds))),
    showSpread(spread(one.backup.map((run) => run.peakBytes / MiB)), 0),
    showSpread(secondsOf(one.restore)),
    one.degraded.length > 0 ? showSpread(secondsOf(one.degraded)) : '',
  ])
  const slowdown = secondsOf(imager.degraded).median / secondsOf(imager.restore).median
  const peak = Math.max(...imager.backup.map((run) => run.peakBytes)) / MiB
  const goals = [
    [
      'new bytes of a second machine, MB',
      (second.newBytes / MB).toFixed(0),
      '230 at most',
      second.newBytes <= 230 * MB,
    ],
    ['peak memory of a snapshot, MiB', peak.toFixed(0), 'under 400', peak < 400],
    [`restore, ${MISSING} of ${PEERS} hosts dead / all there`, slowdown.toFixed(2), '1.5 at most', slowdown <= 1.5],
  ] as [string, string, string, boolean][]
  if (restic) {
    const ratio = median(imager.backup.map((run) => run.seconds)) / median(restic.backup.map((run) => run.seconds))
    goals.unshift(['full snapshot, imager / restic', ratio.toFixed(2), '1 at most', ratio <= 1])
  }
  return [
    `${host.processor}, ${host.cores} cores, ${host.memoryGiB} GiB, Linux ${host.kernel}, Node ${host.node}; ${runs} runs, alternating`,
    table([['A1 (6 GiB)', 'full, s', 'CPU, s', 'peak, MiB', 'restore, s', `${MISSING} of ${PEERS} dead, s`], ...times]),
    table([
      ['imager, 4+2', 'read, MB', 'new, MB', 'on the peers, MB', 's'],
      ...(
        [
          ['A1', full],
          ['A2 after A1', second],
          ['A1b after A1', later],
        ] as [string, Snapshot][]
      ).map(([name, of]) => [
        name,
        ...[of.readBytes, of.newBytes, of.storedBytes].map((bytes) => (bytes / MB).toFixed(0)),
        of.seconds.toFixed(1),
      ]),
    ]),
    table([
      ['goal', 'measured', 'wanted', 'reached'],
      ...goals.map(([name, got, wanted, reached]) => [name, got, wanted, reached ? 'yes' : 'NO']),
    ]),
  ].join('\n\n')
}

/** What the commands printed is no result. */
function withoutOutput(results: Results): unknown {
  return JSON.parse(JSON.stringify(results, (key, value: unknown) => (key === 'stdout' ? undefined : value)))
}

await main()
