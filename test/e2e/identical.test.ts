/**
 * Real images of every file system (native/tests/lab), taken into a lab of processes and restored: every byte in use is
 * the same, the file system's own check finds nothing, and other programs see the same files. One image of each file
 * system in every run; with IMAGER_IMAGES=all every image of the table.
 */
import { execFile } from 'node:child_process'
import { closeSync, existsSync, mkdtempSync, openSync, readSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import test, { type ExecutionContext } from 'ava'
import { MiB } from '../../src/base/units.js'
import { testWhere } from '../machine.js'
import { imager, TestLab } from './lab.js'

const LAB = fileURLToPath(new URL('../../../native/tests/lab/lab.py', import.meta.url))
const IMPOSSIBLE = 77
const all = process.env.IMAGER_IMAGES === 'all'
const closing: (() => void | Promise<void>)[] = []
const images = mkdtempSync(join(tmpdir(), 'imager-identical-'))
let peers: TestLab

interface Row {
  readonly name: string
  readonly seed: string
  /** Why nothing of it is mapped; empty for the others. */
  readonly raw: string
}

/** What lab.py prints; the reason where this machine cannot do it. */
async function lab(...words: string[]): Promise<{ text: string } | { impossible: string }> {
  try {
    const { stdout } = await promisify(execFile)('python3', ['-B', LAB, ...words], { maxBuffer: 512 * MiB })
    return { text: stdout }
  } catch (error) {
    const { code, stderr } = error as { code: number | string; stderr: string }
    if (code === IMPOSSIBLE || code === 'ENOENT') return { impossible: stderr.trim() || 'python3 is not installed' }
    throw error
  }
}

/** All images, or one of each file system; the reason where this machine makes none. */
async function rows(): Promise<Row[] | { impossible: string }> {
  const day = Math.floor(Date.now() / 86_400_000)
  const listed = await lab('list', ...(all ? ['--all'] : ['--seed', process.env.IMAGER_SEED ?? `${day}`]))
  if (!('text' in listed)) return listed
  const fields = listed.text.trim().split('\n')
  const found = fields
    .map((line) => line.split('\t'))
    .map(([name = '', seed = '', , , raw = '']) => ({ name, seed, raw }))
  if (all) return found
  return [...new Map(found.reverse().map((row) => [row.name.slice(0, row.name.indexOf('-')), row])).values()].reverse()
}

/** How many bytes are in use; the first that differs fails the test. */
async function sameBytes(t: ExecutionContext, image: string, restored: string): Promise<number> {
  const { stdout } = await imager('map', image, '--allocated', '--everything', '--json')
  const ranges = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { start: number; length: number })
  const files = [image, restored].map((path) => openSync(path, 'r'))
  const [one, other] = [Buffer.alloc(MiB), Buffer.alloc(MiB)]
  let compared = 0
  try {
    for (const { start, length } of ranges) {
      for (let at = start; at < start + length; at += MiB) {
        const wanted = Math.min(MiB, start + length - at)
        const [m, n] = [readSync(files[0]!, one, 0, wanted, at), readSync(files[1]!, other, 0, wanted, at)]
        if (m !== wanted || n !== wanted || one.compare(other, 0, n, 0, m) !== 0)
          t.fail(`the bytes from ${at} on differ`)
        compared += wanted
      }
    }
  } finally {
    files.forEach(closeSync)
  }
  return compared
}

const imageOf = ({ name, seed }: Row) => join(images, `${name}-${seed}`)

/** Makes the image and asks other programs what is in it; the reason where this machine cannot. */
async function prepare(row: Row): Promise<{ text: string } | { impossible: string }> {
  const made = await lab('make', row.name, row.seed, imageOf(row))
  return 'text' in made && row.raw === '' ? await lab('truth', row.name, imageOf(row)) : made
}

/** `truth`: what other programs saw in it; undefined where it is not made yet. */
async function comesBack(t: ExecutionContext, row: Row, truth: string | undefined): Promise<void> {
  const { name, raw } = row
  const [image, restored] = [imageOf(row), peers.path(`${name}.restored`)]
  try {
    const before = truth === undefined ? await prepare(row) : { text: truth }
    if ('impossible' in before) return t.fail(before.impossible)
    const id = await peers.snapshot(t, image, '--everything')
    const done = await imager('restore', id, '--to', restored, '--state', peers.lab.appliance.state, '--json')
    t.is(done.code, 0, done.stdout + done.stderr)
    const bytes = await sameBytes(t, image, restored)
    t.true(bytes > 0)
    t.log(`${bytes} bytes in use are the same`)
    if (raw !== '') return
    if (existsSync(`${image}.tree`)) symlinkSync(`${image}.tree`, `${restored}.tree`)
    await t.notThrowsAsync(lab('check', name, restored))
    const after = await lab('truth', name, restored)
    t.true('text' in after && after.text === before.text, 'other programs see the same files')
  } finally {
    for (const path of [image, restored, `${restored}.tree`, `${image}.tree`])
      rmSync(path, { recursive: true, force: true })
  }
}

/** Tests must be declared at one go, so whatever must be waited for comes before the first. */
const chosen = await rows()
const made = new Map<Row, { text: string } | { impossible: string }>()
if (Array.isArray(chosen)) {
  // All of them at once would fill the disk: those are made one after the other, and one that cannot be made fails.
  for (const row of all ? [] : chosen) made.set(row, await prepare(row))
}
test.before(async (t) => {
  if (Array.isArray(chosen)) peers = await TestLab.up({ is: t.is, teardown: (work) => closing.push(work) }, 3)
})
test.after.always(async () => {
  for (const close of closing) await close()
  rmSync(images, { recursive: true, force: true })
})
if (!Array.isArray(chosen)) testWhere(chosen.impossible)('restored images are the same', (t) => t.fail())
else {
  for (const row of chosen) {
    const one = made.get(row)
    const reason = one && 'impossible' in one ? one.impossible : undefined
    const truth = one && 'text' in one ? one.text : undefined
    testWhere(reason)(`${row.name} (${row.seed}) comes back as it was`, (t) => comesBack(t, row, truth))
  }
}
