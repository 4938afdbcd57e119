/** `imager init` as a real process, killed before each step that lasts: run again, it founds one fleet whose words are known. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test, { type ExecutionContext } from 'ava'
import { main } from '../../src/cli/main.js'
import { initFleet } from '../../src/fleet/init.js'
import { openHome } from '../../src/keys/home.js'
import { deriveRoot } from '../../src/keys/root.js'
import { Secret } from '../../src/native.js'

const MAIN = fileURLToPath(new URL('../../bin/imager.cjs', import.meta.url))
const MOST_STEPS = 30

/** Loaded before the program: ends it in front of its Nth step that others can see: a name that comes to be, the words. */
const KILLER = `
const fs = require('node:fs')
let words
let left = Number(process.env.KILL_BEFORE)
for (const name of ['mkdirSync', 'openSync', 'writeFileSync', 'fsyncSync', 'renameSync']) {
  const real = fs[name]
  fs[name] = (...args) => {
    const seen = /^(mkdir|rename)/.test(name) || args[0] === words || (name === 'openSync' && args[0] === process.env.WORDS)
    if (seen && --left === 0) process.kill(process.pid, 'SIGKILL')
    const result = real(...args)
    if (name === 'openSync' && args[0] === process.env.WORDS) words = result
    return result
  }
}
`

function folder(t: ExecutionContext): string {
  const path = mkdtempSync(join(tmpdir(), 'imager-init-'))
  t.teardown(() => rmSync(path, { recursive: true, force: true }))
  return path
}

/** undefined where it came to its end before the step. */
async function killedBefore(step: number, dir: string, argv: readonly string[]): Promise<string | undefined> {
  writeFileSync(join(dir, 'killer.cjs'), KILLER)
  const env = { ...process.env, KILL_BEFORE: String(step), WORDS: join(dir, 'words') }
  const child = spawn(process.execPath, ['--require', join(dir, 'killer.cjs'), MAIN, ...argv], { env })
  let stdout = ''
  child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()))
  const [code, signal] = (await once(child, 'close')) as [number | null, string | null]
  return signal === 'SIGKILL' || code !== 0 ? stdout : undefined
}

async function again(argv: readonly string[]) {
  let [stdout, stderr] = ['', '']
  const streams = {
    stdout: { write: (text: string) => (stdout += text) },
    stderr: { write: (text: string) => (stderr += text) },
  }
  return { code: await main(argv, streams, new AbortController().signal), stdout, said: () => stdout + stderr }
}

const rootOf = (words: string) => deriveRoot(Secret.fromWords(words)).rootKey

test('killed at any step, with a file for the words: run again, it ends as if it had never been cut short', async (t) => {
  let step = 1
  for (; step < MOST_STEPS; step++) {
    const dir = folder(t)
    const [state, words] = [join(dir, 'state'), join(dir, 'words')]
    const argv = ['init', '--state', state, '--words-file', words, '--json']
    if ((await killedBefore(step, dir, argv)) === undefined) break
    const { code, said } = await again(argv)
    // Only where the fleet was whole when it was killed.
    if (code !== 0) t.regex(said(), /STATE_EXISTS/, `step ${step}`)
    t.is(rootOf(readFileSync(words, 'utf8')), openHome(state).rootKey, `step ${step}`)
    t.is(statSync(words).mode & 0o777, 0o600)
  }
  t.log(`${step - 1} steps`)
  t.true(step > 8 && step < MOST_STEPS)
})

test('killed at any step, with the words shown: no fleet comes to be whose words were not', async (t) => {
  let step = 1
  let founded = 0
  for (; step < MOST_STEPS; step++) {
    const dir = folder(t)
    const state = join(dir, 'state')
    const argv = ['init', '--state', state, '--json']
    const stdout = await killedBefore(step, dir, argv)
    if (stdout === undefined) break
    const rerun = await again(argv)
    if (rerun.code !== 0) t.regex(rerun.said(), /STATE_EXISTS/, `step ${step}`)
    else founded++
    const shown = rerun.code === 0 ? rerun.stdout : stdout
    t.is(rootOf((JSON.parse(shown) as { words: string }).words), openHome(state).rootKey, `step ${step}`)
  }
  t.true(founded > 5 && step < MOST_STEPS)
})

test("nobody else's words are taken for those of a founding that was cut short", async (t) => {
  const dir = folder(t)
  const [state, words] = [join(dir, 'state'), join(dir, 'words')]
  const argv = ['init', '--state', state, '--words-file', words]
  const options = { state, name: 'c', domain: 'c', listen: '127.0.0.1:7420', address: '127.0.0.1:7420' }
  const cutShort = () => {
    throw new Error('the power is gone')
  }
  t.throws(() => initFleet({ ...options, keepWords: cutShort }), { message: /power/ })
  writeFileSync(words, `${Secret.random().words()}\n`, { mode: 0o600 })
  const { code, said } = await again(argv)
  t.is(code, 2)
  t.regex(said(), /may hold the words of another fleet/)
  t.throws(() => openHome(state), { code: 'NO_FLEET' })
})
