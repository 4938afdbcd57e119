/**
 * `npm run build:ts && CORPUS=DIR node build/bench/map.js`: how long it takes to learn what a file system holds, beside
 * partclone (which blocks are in use) and sleuthkit (every name), on the images of bench/make-many.sh. Each command runs
 * once unmeasured, so that all find the metadata in the page cache; then the tools alternate. What they print is dropped.
 *
 *   CORPUS=DIR      where the images are (needed)
 *   BENCH_RUNS=N    runs of everything that is timed (default 5)
 */
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { showSpread, spread, table } from './arithmetic.js'
import { machine, measure, type Run } from './measure.js'

const MiB = 1024 * 1024
const IMAGER = [process.execPath, 'build/bin/imager.cjs', 'map']

interface Image {
  readonly type: 'ext4' | 'xfs' | 'btrfs' | 'ntfs'
  readonly files: number
  readonly path: string
}

interface Tool {
  readonly name: string
  /** The command that prints its version, where it is not imager itself. */
  readonly version?: readonly string[]
  /** Undefined where the tool does not read that file system. */
  argv(image: Image, work: string): readonly string[] | undefined
}

interface Series {
  readonly image: string
  readonly files: number
  readonly tool: string
  readonly runs: Run[]
}

const TOOLS: readonly Tool[] = [
  { name: 'imager map', argv: ({ path }) => [...IMAGER, path] },
  { name: 'imager map --json', argv: ({ path }) => [...IMAGER, path, '--json'] },
  {
    name: 'partclone -D',
    version: ['partclone.extfs', '--version'],
    argv: ({ type, path }, work) => {
      const log = ['-L', join(work, 'partclone.log'), '-q']
      return [`partclone.${type.replace('ext4', 'extfs')}`, '-D', '-s', path, '-o', join(work, 'domain'), ...log]
    },
  },
  {
    name: 'fls -r -p',
    version: ['fls', '-V'],
    argv: ({ type, path }) => (type === 'ext4' || type === 'ntfs' ? ['fls', '-r', '-p', path] : undefined),
  },
]

const IMAGES: readonly [Image['type'], number][] = [
  ['ext4', 40_000],
  ['ext4', 1_000_000],
  ['xfs', 40_000],
  ['btrfs', 40_000],
  ['ntfs', 40_000],
]

async function main(): Promise<void> {
  const corpus = process.env.CORPUS
  if (!corpus) throw new Error('Set CORPUS to the folder of the images; bench/make-many.sh makes them.')
  const images = IMAGES.map(([type, files]) => ({ type, files, path: join(corpus, `many-${type}-${files}.img`) }))
  const tools = TOOLS.filter(({ version }) => !version || versionOf(version) !== undefined)
  const work = await mkdtemp(join(tmpdir(), 'imager-bench-'))
  try {
    const series: Series[] = []
    for (const image of images.filter(({ path }) => existsSync(path))) {
      series.push(...(await compare(image, tools, work, Number(process.env.BENCH_RUNS ?? 5))))
    }
    const versions = Object.fromEntries(
      tools.flatMap(({ name, version }) => (version ? [[name, versionOf(version)]] : [])),
    )
    const results = { date: new Date().toISOString(), machine: machine(), versions, series }
    const path = join('bench', 'results', `${results.date.slice(0, 10)}-map.json`)
    await mkdir(join('bench', 'results'), { recursive: true })
    await writeFile(path, `${JSON.stringify(results, null, 2)}\n`)
    process.stdout.write(`${report(results)}\n\nWritten to ${path}\n`)
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}

async function compare(image: Image, tools: readonly Tool[], work: string, runs: number): Promise<Series[]> {
  process.stderr.write(`${image.path} ...\n`)
  const lines = await measure({ argv: ['sh', '-c', '"$@" | wc -l', 'sh', ...IMAGER, image.path, '--json'] })
  if (Number(lines.stdout) < image.files) throw new Error(`${image.path}: only ${lines.stdout.trim()} files`)
  const contenders = tools.flatMap((tool) => {
    const argv = tool.argv(image, work)
    const series: Series = { image: image.type, files: image.files, tool: tool.name, runs: [] }
    // `exec`, so that the time and memory are the tool's own.
    return argv ? [{ argv: ['sh', '-c', 'exec "$@" >/dev/null', 'sh', ...argv], series }] : []
  })
  for (let run = -1; run < runs; run++) {
    for (const { argv, series } of contenders) {
      await rm(join(work, 'domain'), { force: true })
      const measured = await measure({ argv })
      if (run >= 0) series.runs.push(measured)
    }
  }
  return contenders.map(({ series }) => series)
}

function versionOf([command = '', ...args]: readonly string[]): string | undefined {
  const { stdout, stderr } = spawnSync(command, args, { encoding: 'utf8' })
  return /\d+(\.\d+)+/.exec(`${stdout ?? ''}${stderr ?? ''}`)?.[0]
}

interface Results {
  readonly machine: ReturnType<typeof machine>
  readonly versions: Readonly<Record<string, string | undefined>>
  readonly series: readonly Series[]
}

function report({ machine: host, versions, series }: Results): string {
  const runs = series[0]?.runs.length ?? 0
  const rows = series.map(({ image, files, tool, runs: of }) => [
    `${image}, ${files.toLocaleString('en')}`,
    `${tool} ${versions[tool] ?? ''}`.trim(),
    showSpread(spread(of.map((run) => run.seconds)), 2),
    showSpread(spread(of.map((run) => run.cpuSeconds)), 2),
    showSpread(spread(of.map((run) => run.peakBytes / MiB)), 0),
  ])
  return [
    `${host.processor}, ${host.cores} cores, ${host.memoryGiB} GiB, Linux ${host.kernel}, Node ${host.node}; ${runs} runs, alternating`,
    table([['files', 'command', 'time, s', 'CPU, s', 'peak, MiB'], ...rows]),
    table([['goal', 'measured', 'wanted', 'reached'], ...goals(series)]),
  ].join('\n\n')
}

/** Medians of time, the most of memory. */
function goals(series: readonly Series[]): string[][] {
  return series.flatMap(({ image, files, tool, runs }) => {
    if (!tool.startsWith('imager')) return []
    const seconds = spread(runs.map((run) => run.seconds)).median
    const peak = spread(runs.map((run) => run.peakBytes / MiB)).most
    const what = `${tool}, ${image}, ${files.toLocaleString('en')} files`
    const row = (unit: string, measured: number, most: number, digits: number) => {
      return [`${what}, ${unit}`, measured.toFixed(digits), `under ${most}`, measured < most ? 'yes' : 'NO']
    }
    return files === 40_000 ? [row('s', seconds, 0.5, 2)] : [row('s', seconds, 6, 2), row('MiB', peak, 500, 0)]
  })
}

await main()
