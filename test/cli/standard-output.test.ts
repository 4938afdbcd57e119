/** Real processes whose standard output is full, cut off, or not read any more. */
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test, { type ExecutionContext } from 'ava'
import { Output } from '../../src/cli/output.js'
import { filesUnder, read, withoutComments } from '../sources.js'

const MAIN = fileURLToPath(new URL('../../bin/imager.cjs', import.meta.url))

/** `line` of a shell that knows `imager`; gives the exit code of its last word and what went to standard error. */
function shell(line: string, folder: string) {
  const script = `set -o pipefail; imager() { '${process.execPath}' '${MAIN}' "$@"; }; ${line}`
  const { status, stderr } = spawnSync('bash', ['-c', script], { cwd: folder, encoding: 'utf8' })
  return { code: status, stderr }
}

function folder(t: ExecutionContext): string {
  const path = mkdtempSync(join(tmpdir(), 'imager-stdout-'))
  t.teardown(() => rmSync(path, { recursive: true, force: true }))
  return path
}

/** A disk image with many files, so that its listing is longer than any buffer. */
function disk(t: ExecutionContext): string {
  const path = folder(t)
  const files = join(path, 'files')
  mkdirSync(files)
  for (let at = 0; at < 1000; at++) symlinkSync('target', join(files, `a-name-that-is-long-enough-${at}`))
  execFileSync('mkfs.ext4', ['-q', '-d', files, join(path, 'disk.img'), '16M'], { stdio: 'pipe' })
  return path
}

for (const line of [
  'imager --help',
  'imager --version',
  'imager hosts --help',
  'imager map disk.img',
  'imager map disk.img --json',
]) {
  test(`a full disk is told: ${line}`, (t) => {
    const where = disk(t)
    t.is(shell(`${line} >/dev/null`, where).code, 0)
    const { code, stderr } = shell(`${line} >/dev/full`, where)
    t.is(code, 1)
    t.regex(stderr, /^imager: The output cannot be written: the disk is full\nSend it .+\n$/)
  })
}

test('a disk that takes a part is told, and what is on it is the beginning', (t) => {
  const where = disk(t)
  shell('imager map disk.img --json >whole', where)
  const { code, stderr } = shell('ulimit -f 16; imager map disk.img --json >part', where)
  t.is(code, 1)
  t.regex(stderr, /cannot be written/)
  const [part, whole] = [readFileSync(join(where, 'part')), readFileSync(join(where, 'whole'))]
  t.true(part.length > 0 && part.length < whole.length)
  t.true(part.equals(whole.subarray(0, part.length)))
})

test('a reader that goes away is nobody who complains', (t) => {
  const where = disk(t)
  const { code, stderr } = shell('imager map disk.img --json | head -n 1 >/dev/null; exit $PIPESTATUS', where)
  t.is(code, 0)
  t.is(stderr, '')
})

test('an error that stdout does not take goes to stderr, and keeps its code', (t) => {
  const { code, stderr } = shell('imager hosts --json --state none >/dev/full', folder(t))
  t.is(code, 10)
  t.regex(stderr, /No fleet in/)
})

test('words that nobody could read found no fleet', (t) => {
  const where = folder(t)
  for (const form of ['', ' --json']) {
    t.is(shell(`imager init --state s${form} >/dev/full`, where).code, 1)
    t.is(shell(`imager init --state s${form} | true; exit $PIPESTATUS`, where).code, 1)
    t.throws(() => statSync(join(where, 's', 'home.json')), { code: 'ENOENT' })
  }
  t.is(shell('imager init --state s >words', where).code, 0)
})

test('EIO is told, once; the work goes on', (t) => {
  let stderr = ''
  const failing = () => {
    throw Object.assign(new Error('EIO: i/o error, write'), { code: 'EIO', syscall: 'write' })
  }
  const output = new Output(true, { stdout: { write: failing }, stderr: { write: (text) => (stderr += text) } })
  for (let at = 0; at < 3; at++) output.progress({ at }, String)
  output.report({ status: 'done' }, String)
  t.is(output.exit(0), 1)
  t.is(output.exit(8), 8)
  t.is(stderr.match(/the device answers with an error/g)?.length, 1)
  t.throws(() => output.lines([{}], String))
})

test('nobody writes to stdout but who sees whether it arrives', (t) => {
  const writers = filesUnder('src', '.ts').filter((file) =>
    /stdout\s*\.write|writeStdout/.test(withoutComments(read(file))),
  )
  t.deepEqual(writers, [
    ...['src/cli/main.ts', 'src/cli/output.ts', 'src/cli/standard-output.ts'],
    // Processes of their own, which speak to the one that started them.
    ...['src/daemon/auditor.ts', 'src/disk/watchdog.ts'],
  ])
})
