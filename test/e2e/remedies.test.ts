/**
 * The ways out of a red light that lead outside of imager, or to another host: the fleet is brought into each state, what `status`
 * says is done as it says it, and the light is green.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import type { Problem } from '../../src/fleet/problems.js'
import { imager, lastLine, MAIN, start, TestLab } from './lab.js'
import { codesOf, silence, started, status, until } from './told.js'

const HOUR_MS = 3_600_000

/** Ends with the test. */
async function running(t: ExecutionContext, child: ChildProcess): Promise<ChildProcess> {
  t.teardown(() => void child.kill('SIGKILL'))
  await started(child)
  return child
}

/** The first line to type, with the words that stand for what a person knows. */
function lineOf({ remedy }: Problem, known: Readonly<Record<string, string>> = {}): string[] {
  const [, line = ''] = /`([^`]+)`/.exec(remedy) ?? []
  return line.split(' ').map((word) => known[word] ?? word)
}

const only = ({ problems }: { problems: Problem[] }) => problems[0] as Problem

/** A clock that is ahead by what a file says, in milliseconds, for as long as it says so. */
class Clock {
  readonly #script: string
  readonly #ahead: string

  constructor(lab: TestLab) {
    this.#script = lab.path('clock.cjs')
    this.#ahead = lab.path('ahead')
    const read = `Number(require('fs').readFileSync(${JSON.stringify(this.#ahead)}, 'utf8'))`
    writeFileSync(this.#script, `const now = Date.now.bind(Date)\nDate.now = () => now() + ${read}\n`)
  }

  set(aheadMs: number): void {
    writeFileSync(this.#ahead, String(aheadMs))
  }

  start(...argv: string[]): ChildProcess {
    return spawn(process.execPath, ['--require', this.#script, MAIN, ...argv], { stdio: ['ignore', 'pipe', 'pipe'] })
  }

  async run(...argv: string[]): Promise<number> {
    const child = this.start(...argv)
    child.stdout?.resume()
    child.stderr?.resume()
    const [code] = (await once(child, 'close')) as [number]
    return code
  }
}

test.serial('nothing is backed up yet; a PC whose daemon does not run asks for itself', async (t) => {
  const lab = await TestLab.up(t, 2)
  const seen = await status(lab)
  t.deepEqual(codesOf(seen), ['NO_SNAPSHOT'])
  t.regex(only(seen).remedy, /` on the server,/)
  const [program, ...words] = lineOf(only(seen), { SOURCE: lab.makeDisk('disk.img', 8) })
  t.is(program, 'imager')
  t.is((await imager(...words, '--state', lab.lab.appliance.state)).code, 0)
  t.deepEqual(codesOf(await status(lab)), [])

  const { pid, state, store } = lab.lab.peers[0] as TestLab['lab']['peers'][number]
  const ask = () => imager('status', '--json', '--state', state)
  t.is((await ask()).code, 0)
  await lab.kill(pid)
  silence(lab, ['peer-1'])
  const away = await ask()
  t.is(away.code, 8)
  const { problems } = lastLine<{ problems: Problem[] }>(away)
  t.deepEqual(
    problems.map(({ code }) => code),
    ['PEER_AWAY'],
  )
  const [, ...line] = lineOf(only({ problems }), { DIR: store })
  t.true(line.includes(state), 'with the folder that was asked with')
  await running(t, start([...line, '--json']))
  const back = await ask()
  t.is(back.code, 0, back.stdout)
})

test.serial('clocks that are off: each is set, and it is heard', async (t) => {
  const { lab, state } = await TestLab.imaged(t, 2, 8)
  const clock = new Clock(lab)
  const { pid, state: own, store } = lab.lab.peers[0] as TestLab['lab']['peers'][number]
  await lab.kill(pid)
  clock.set(HOUR_MS)
  await running(t, clock.start('peer', '--state', own, '--store', store, '--json'))
  t.is(await clock.run('status', ...state), 8)
  const seen = await until(lab, ['CLOCK', 'CLOCK'])
  t.deepEqual(codesOf(seen), ['CLOCK', 'CLOCK'])
  t.deepEqual(
    seen.problems.map(({ sentence }) => sentence).sort(),
    ['appliance', 'peer-1'].map((name) => `The clock of ${name} is 1h 00m ahead`),
  )
  for (const problem of seen.problems) t.deepEqual(lineOf(problem), ['timedatectl', 'set-ntp', 'true'])
  t.regex(
    seen.problems.find(({ sentence }) => sentence.includes('appliance'))?.remedy ?? '',
    /`imager status` on appliance/,
  )
  clock.set(0)
  await clock.run('status', ...state)
  t.deepEqual(codesOf(await until(lab, [])), [])
})

test.serial(
  'a snapshot of the future whose arrival nobody knows: the clock is set, and the next one counts',
  async (t) => {
    const lab = await TestLab.up(t, 2)
    const disk = lab.makeDisk('disk.img', 8)
    const { appliance, coordinator, peers, wordsFile } = lab.lab
    const clock = new Clock(lab)
    clock.set(24 * HOUR_MS)
    t.is(await clock.run('snapshot', disk, '--state', appliance.state), 0)
    await lab.kill(coordinator.pid)
    rmSync(join(coordinator.state, 'catalog'), { recursive: true })
    const address = peers[0]?.address as string
    const healed = await imager('recover', '--words-file', wordsFile, '--peer', address, '--state', coordinator.state)
    t.is(healed.code, 0, healed.stdout + healed.stderr)
    await running(t, start(['coordinator', '--state', coordinator.state, '--json']))
    const seen = await until(lab, ['AGE_UNKNOWN'])
    t.deepEqual(codesOf(seen), ['AGE_UNKNOWN'])
    t.regex(only(seen).remedy, / on appliance: and set the clock there before/)
    const [program, ...words] = lineOf(only(seen))
    t.is(program, 'imager')
    t.is((await imager(...words, '--state', appliance.state)).code, 0)
    t.deepEqual(codesOf(await status(lab)), [])
    await lab.restoreLatest(t, disk)
  },
)

test.serial("too few peers take a new server's keys: more are switched on, and get them", async (t) => {
  const lab = await TestLab.up(t, 3)
  const office = ['--state', lab.lab.coordinator.state, '--json']
  const [, refusing, off] = lab.lab.peers as [unknown, { store: string }, { pid: number }]
  await lab.kill(off.pid)
  silence(lab, ['peer-3'])
  // One of two that are here cannot keep it: its folder for that is gone.
  renameSync(join(refusing.store, 'documents', 'key'), join(refusing.store, 'documents', 'away'))
  const { token } = lastLine<{ token: string }>(await imager('invite', '--role', 'appliance', ...office))
  const server = ['--state', lab.path('server')]
  t.is((await imager('join', token, '--name', 'server', ...server)).code, 0)
  const stored = await imager('snapshot', lab.makeDisk('disk.img', 8), '--tolerate', '1', ...server)
  t.is(stored.code, 4, stored.stdout + stored.stderr)
  const seen = await status(lab)
  t.deepEqual(codesOf(seen), ['KEYS_NOT_HELD'])
  t.regex(only(seen).remedy, /^Switch more peers on: /)
  const [, ...words] = lineOf(only(seen))
  const { stdout } = await imager(...words)
  t.regex(stdout, /peer-2 refused /)
  await running(t, lab.startPeer(2))
  t.deepEqual(codesOf(await until(lab, [])), [])
})

test.serial('the last run failed because a peer is full: it gets more, and the run is typed again', async (t) => {
  const { lab, state } = await TestLab.imaged(t, 2, 8)
  let pid = lab.lab.peers[0]?.pid as number
  const offer = async (maxBytes: string) => {
    await lab.kill(pid)
    pid = (await running(t, lab.startPeer(0, '--max-bytes', maxBytes))).pid as number
  }
  await offer('80M')
  const large = lab.makeDisk('large.img', 270)
  const failed = await imager('snapshot', large, '--json', ...state)
  t.is(failed.code, 1, failed.stdout)
  t.like(lastLine<object>(failed), { code: 'NOT_PLACED' })
  t.regex(failed.stdout, /the last said: peer-1 has no space left for imager: /)
  const seen = await status(lab)
  t.deepEqual(codesOf(seen), ['RUN_FAILED'])
  t.regex(only(seen).sentence, /large\.img on appliance came to nothing \(NOT_PLACED\)$/)
  const [, ...words] = lineOf(only(seen))
  // It says what is wrong: that has to be done before it is typed once more.
  const said = await imager(...words, ...state)
  t.is(said.code, 1)
  t.regex(said.stderr, /peer-1 has no space left|it has only .* free/)
  t.regex(said.stderr, /Give who is full more with `--max-bytes`/)
  t.deepEqual(codesOf(await status(lab)), ['RUN_FAILED'])
  await offer('1G')
  const done = await imager(...words, ...state)
  t.is(done.code, 0, done.stdout + done.stderr)
  t.deepEqual(codesOf(await status(lab)), [])
})
