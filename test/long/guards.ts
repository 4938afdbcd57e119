/**
 * Takes each guard of `test/guards/guards.ts` out of a copy of this repository, and runs the test that is to notice it. What
 * the copy runs is the same as here, but for that one file and the program that holds it. With arguments, only the guards
 * whose file or line has one of these words.
 */
import { execFileSync, spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { transformSync } from 'esbuild'
import { GUARDS, type Guard } from '../guards/guards.js'
import { runLong } from './run.js'

const COPIED = [
  'src',
  'test',
  'scripts',
  'fixtures',
  'build',
  'native/index.js',
  'native/index.d.ts',
  'native/package.json',
  'package.json',
  'tsconfig.json',
]
const LIMIT_MS = 300_000

interface Row extends Pick<Guard, 'promise' | 'file' | 'line'> {
  readonly test: string
  readonly noticed: boolean
}

function copyHere(): string {
  const folder = mkdtempSync(join(tmpdir(), 'imager-guards-'))
  mkdirSync(join(folder, 'native'))
  for (const path of [...COPIED, ...addon()]) cpSync(path, join(folder, path), { recursive: true })
  symlinkSync(join(process.cwd(), 'node_modules'), join(folder, 'node_modules'))
  return folder
}

function addon(): string[] {
  return execFileSync('find', ['native', '-maxdepth', '1', '-name', '*.node'], { encoding: 'utf8' }).trim().split('\n')
}

/** What stands in `build` of that source file. */
function compile(folder: string, file: string, source: string): void {
  const { code } = transformSync(source, { loader: 'ts', format: 'esm', target: 'es2023', sourcefile: file })
  writeFileSync(join(folder, 'build', file.replace(/\.ts$/, '.js')), code)
  execFileSync(process.execPath, ['scripts/bundle.mjs'], { cwd: folder, stdio: 'pipe' })
}

function withoutGuard({ file, line, without }: Guard): string {
  const lines = readFileSync(file, 'utf8').split('\n')
  if (!lines.some((one) => one.trim() === line)) throw new Error(`${file} has no line ${line}`)
  return lines.map((one) => (one.trim() === line ? without : one)).join('\n')
}

/** Only a test that ran and failed has noticed anything. */
function runTest(folder: string, [file, title]: Guard['test']): 'passed' | 'failed' | 'did not run' {
  const match = title.replace(/[\\*!]/g, '\\$&')
  const built = join('build', dirname(file), `${basename(file, '.ts')}.js`)
  const options = { cwd: folder, encoding: 'utf8', timeout: LIMIT_MS } as const
  const { stdout } = spawnSync('npx', ['ava', '--tap', built, `--match=${match}`], options)
  const verdict = stdout.split('\n').find((line) => /^(?:not )?ok \d/.test(line) && line.endsWith(title))
  if (verdict === undefined) return 'did not run'
  return verdict.startsWith('ok') ? 'passed' : 'failed'
}

await runLong('guards', async ({ teardown }) => {
  const words = process.argv.slice(2)
  const chosen = GUARDS.filter(
    ({ file, line }) => words.length === 0 || words.some((one) => `${file} ${line}`.includes(one)),
  )
  const folder = copyHere()
  teardown(() => rmSync(folder, { recursive: true, force: true }))
  const failures: string[] = []
  const sound = new Set<string>()
  const rows: Row[] = []
  for (const guard of chosen) {
    const { promise, file, line, test } = guard
    const key = test.join(': ')
    if (!sound.has(key) && runTest(folder, test) !== 'passed') {
      failures.push(`With all guards "${key}" does not pass`)
      continue
    }
    sound.add(key)
    compile(folder, file, withoutGuard(guard))
    const outcome = runTest(folder, test)
    compile(folder, file, readFileSync(file, 'utf8'))
    const noticed = outcome === 'failed'
    rows.push({ promise, file, line, test: key, noticed })
    if (!noticed) failures.push(`Without "${line}" of ${file}: "${key}" ${outcome}`)
    process.stderr.write(`${rows.length} of ${chosen.length}: ${noticed ? 'noticed' : outcome}: ${file}: ${line}\n`)
  }
  return { guards: rows.length, noticed: rows.filter((one) => one.noticed).length, rows, failures }
})
