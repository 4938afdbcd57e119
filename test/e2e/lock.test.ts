/** Who may read whose snapshots, and for how long: the keys that a recovery opens, `imager lock`, and the words for one command. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import { openLocalCatalog } from '../../src/fleet/local-catalog.js'
import type { StatusReport } from '../../src/fleet/status.js'
import type { RecoverReport } from '../../src/jobs/recover/recover.js'
import { type KeyEntry, readEntry } from '../../src/keys/entry.js'
import { type Home, openHome } from '../../src/keys/home.js'
import { Secret } from '../../src/native.js'
import { freePort } from '../free-port.js'
import { fuseTest } from '../mount/mounting.js'
import { firstDifference } from './disks.js'
import { imager, lastLine, MAIN, type Outcome, TestLab } from './lab.js'

const DAY_MS = 24 * 3_600_000
const OPENED = ['opened-clock.bin', 'opened-keys.bin']

interface Refusal {
  code: string
  message: string
  remedy: string
}

/** Has a process believe that it is so much later, or earlier. */
function shifted(ms: number): NodeJS.ProcessEnv {
  const script = `const now = Date.now.bind(Date); Date.now = () => now() + ${ms}`
  return { ...process.env, NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(script)}` }
}

interface Surroundings {
  readonly env?: NodeJS.ProcessEnv
  readonly cwd?: string
  readonly input?: string
}

async function run(argv: readonly string[], { env, cwd, input = '' }: Surroundings = {}): Promise<Outcome> {
  const child = spawn(process.execPath, [MAIN, ...argv], { env, cwd })
  let [stdout, stderr] = ['', '']
  child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()))
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()))
  child.stdin.on('error', () => undefined).end(input)
  const [code] = (await once(child, 'close')) as [number]
  return { code, stdout, stderr }
}

async function recover(t: ExecutionContext, lab: TestLab, name: string, ...more: string[]): Promise<Outcome> {
  const given = ['--words-file', lab.lab.wordsFile, '--peer', lab.lab.peers[0]?.address ?? '', '--name', 'spare']
  const listen = `127.0.0.1:${await freePort()}`
  const outcome = await imager('recover', ...given, '--listen', listen, '--state', lab.path(name), ...more)
  t.is(outcome.code, 0, outcome.stdout + outcome.stderr)
  return outcome
}

/** What it ended with, and the line that it says. */
function refused(t: ExecutionContext, outcome: Outcome): string {
  t.is(outcome.code, 12, outcome.stdout + outcome.stderr)
  const { code, message, remedy } = lastLine<Refusal>(outcome)
  t.is(code, 'KEYS_LOCKED', message)
  t.regex(message, /^This host holds no key to the snapshots of appliance/)
  return /^Type `imager ([^`]+)`/.exec(remedy)?.[1] ?? remedy
}

/** Every key entry that lies in the state folder, in its catalog, and on the peers. */
async function entriesOf(lab: TestLab, home: Home): Promise<KeyEntry[]> {
  const catalog = await openLocalCatalog(home, { now: () => Date.now() })
  const spread = catalog.registry.documents('key').map(({ bytes }) => bytes)
  catalog.close()
  for (const { store } of lab.lab.peers) {
    const folder = join(store, 'documents', 'key')
    for (const name of readdirSync(folder)) spread.push(readFileSync(join(folder, name)))
  }
  return [...home.keyStatements(), ...spread].map((bytes) => readEntry(bytes).entry)
}

test('who was never given the keys needs the words, for each command; its own snapshots an appliance always reads', async (t) => {
  const { lab, disk, state: own } = await TestLab.imaged(t, 3, 12)
  const { coordinator, wordsFile } = lab.lab
  const token = (await imager('invite', '--role', 'admin', '--state', coordinator.state)).stdout.trim()
  t.is((await imager('join', token, '--name', 'desk', '--state', lab.path('admin'))).code, 0)
  const words = readFileSync(wordsFile, 'utf8')
  writeFileSync(lab.path('list'), '/0/folder/file 7\n')
  writeFileSync(lab.path('others.txt'), Secret.random().words(), { mode: 0o600 })

  for (const [name, state] of Object.entries({ office: coordinator.state, desk: lab.path('admin') })) {
    const at = ['--state', state, '--json']
    const commands = [
      ['restore', 'latest', '--to', lab.path(`${name}.img`)],
      ['restore', 'latest', '--files', lab.path('list'), '--to', lab.path('files')],
      ['ls', 'latest', '/0/folder'],
      ['show', 'latest'],
    ]
    for (const command of name === 'office' ? commands : commands.slice(0, 1)) {
      const line = refused(t, await imager(...command, ...at))
      t.is(line, [...command, ...at, '--words-file words.txt'].join(' '))
      const wrong = await imager(...command, ...at, '--words-file', lab.path('others.txt'))
      t.like({ ...wrong, ...lastLine<Refusal>(wrong) }, { code: 'WRONG_WORDS' })
      // As it is said, in the folder where the words are.
      const typed = await run(line.split(' '), { cwd: join(wordsFile, '..') })
      t.is(typed.code, 0, typed.stdout + typed.stderr)
    }
    t.is(firstDifference(disk, lab.path(`${name}.img`)), undefined)
    t.false(existsSync(join(state, 'opened-keys.bin')), 'the words leave nothing behind')
    refused(t, await imager('ls', 'latest', ...at))
  }

  t.is(readFileSync(lab.path('files/0/folder/file 7')).length, 350)
  const at = ['--state', coordinator.state]
  const numbered = words.split(' ').map((word, index) => `${index + 1}. ${word}`)
  const given = await run(['ls', 'latest', '/', ...at, '--words-file', '-'], { input: numbered.join('\n') })
  t.regex(given.stdout, /^\/0 +ext4/, given.stderr)
  const both = await imager('restore', 'latest', '--files', '-', '--to', '/x', ...at, '--words-file', '-')
  t.is(both.code, 2, both.stderr)
  const few = await run(['ls', 'latest', ...at, '--words-file', '-'], { input: words.split(' ').slice(1).join(' ') })
  t.regex(few.stderr, /there are 23 of them, not 24/)
  const nothing = await imager('lock', ...at)
  t.is(nothing.code, 0)
  t.regex(nothing.stdout, /^Nothing to lock/)

  t.is((await imager('ls', 'latest', ...own)).code, 0)
  t.is((await imager('ls', 'latest', ...own, '--words-file', wordsFile)).code, 0)
  await lab.restoreLatest(t, disk)
})

test('after a recovery the host reads everything until it is locked or seven days are over, then with the words', async (t) => {
  const { lab, disk } = await TestLab.imaged(t, 3, 12)
  await lab.burn()
  const { keysOpenUntil, host } = lastLine<RecoverReport>(await recover(t, lab, 'new', '--json'))
  for (const copy of ['kept', 'back', 'daemon', 'damaged']) cpSync(lab.path('new'), lab.path(copy), { recursive: true })
  t.true(Math.abs((keysOpenUntil ?? 0) - Date.now() - 7 * DAY_MS) < 60_000)
  const state = lab.path('new')
  const at = ['--state', state]
  const restored = await imager('restore', 'latest', '--to', lab.path('open.img'), ...at)
  t.is(restored.code, 0, restored.stderr)
  t.is(firstDifference(disk, lab.path('open.img')), undefined)
  const before = lastLine<StatusReport>(await imager('status', '--json', ...at))
  t.deepEqual(before.keysOpenFor, ['appliance'])
  t.true(Math.abs((before.keysOpenUntil ?? 0) - (keysOpenUntil ?? 0)) < 1000)
  const line =
    /^Keys: this host opens the snapshots of appliance without the words until .*; `imager (lock .*)` ends that$/m
  const [, lock = ''] = line.exec((await imager('status', ...at)).stdout) ?? []

  const entries = await entriesOf(lab, openHome(state))
  t.true(
    entries.some(({ purpose }) => purpose === 'manifest'),
    'those that are sealed to the words are there',
  )
  t.deepEqual(
    entries.filter(({ purpose, reader }) => purpose === 'manifest' && reader === host),
    [],
    'no key of an appliance is sealed to the coordinator, here or on a peer',
  )

  const locked = await imager(...lock.split(' '))
  t.is(locked.code, 0, locked.stderr)
  t.regex(locked.stdout, /^Locked: the keys to the snapshots of appliance are gone/)
  t.deepEqual(
    readdirSync(state).filter((name) => name.includes('opened')),
    [],
  )
  const again = await imager('lock', '--json', ...at)
  t.is(again.code, 0)
  t.like(lastLine<object>(again), { status: 'nothing', appliances: [] })
  const after = lastLine<StatusReport>(await imager('status', '--json', ...at))
  t.deepEqual([after.keysOpenUntil, after.keysOpenFor], [null, []])

  const typed = refused(t, await imager('restore', 'latest', '--to', lab.path('closed.img'), '--json', ...at))
  t.false(existsSync(lab.path('closed.img')))
  const done = await run(typed.split(' '), { cwd: join(lab.lab.wordsFile, '..') })
  t.is(done.code, 0, done.stdout + done.stderr)
  t.is(firstDifference(disk, lab.path('closed.img')), undefined)
  t.deepEqual(
    readdirSync(state).filter((name) => name.includes('opened')),
    [],
  )
  await sevenDays(t, lab)
})

/** Of the copies that were made when the keys were just opened: whichever way the clock is set, and by the daemon alone. */
async function sevenDays(t: ExecutionContext, lab: TestLab): Promise<void> {
  const look = (name: string, days: number) =>
    run(['ls', 'latest', '--json', '--state', lab.path(name)], { env: shifted(days * DAY_MS) })
  const opened = (name: string) => readdirSync(lab.path(name)).filter((file) => file.includes('opened'))

  t.is((await look('kept', 6.9)).code, 0)
  const over = await look('kept', 7)
  t.regex(lastLine<Refusal>(over).message, /appliance, as the seven days after the recovery are over$/)
  refused(t, over)
  t.deepEqual(opened('kept'), [])

  t.is((await look('back', 6)).code, 0)
  t.is((await look('back', -1)).code, 0)
  t.is((await look('back', -0.1)).code, 0, 'a day was left')
  refused(t, await look('back', 0.1))

  t.deepEqual(opened('daemon'), OPENED)
  const argv = [MAIN, 'coordinator', '--listen', '127.0.0.1:0', '--state', lab.path('daemon')]
  const daemon = spawn(process.execPath, argv, { env: shifted(8 * DAY_MS), stdio: ['ignore', 'ignore', 'pipe'] })
  t.teardown(() => daemon.kill('SIGKILL'))
  let log = ''
  daemon.stderr.on('data', (chunk: Buffer) => (log += chunk.toString()))
  for (let patience = 100; patience > 0 && opened('daemon').length > 0; patience--) await sleep(100)
  t.deepEqual(opened('daemon'), [])
  daemon.kill('SIGTERM')
  await once(daemon, 'close')
  t.regex(log, /keys: This host opens no snapshots any more, as the seven days after the recovery are over/)

  const bytes = readFileSync(lab.path('damaged/opened-keys.bin'))
  bytes[200] = (bytes[200] as number) ^ 1
  writeFileSync(lab.path('damaged/opened-keys.bin'), bytes)
  const damaged = await look('damaged', 0)
  t.regex(lastLine<Refusal>(damaged).message, /opened-keys\.bin was damaged$/)
  refused(t, damaged)
  t.deepEqual(opened('damaged'), [])
}

fuseTest('a mount goes on with the keys it opened; the next one takes the words, in the background too', async (t) => {
  const { lab, disk } = await TestLab.imaged(t, 3, 12)
  await lab.burn()
  const { stdout } = await recover(t, lab, 'new')
  t.regex(
    stdout,
    /^Until \d{4}-.* this host opens these snapshots without the words; `imager lock --state \S+` ends that\.$/m,
  )
  const at = ['--state', lab.path('new')]
  const mountpoint = lab.mountpoint(t)
  t.is((await imager('mount', 'latest', mountpoint, ...at)).code, 0)
  t.is((await imager('lock', ...at)).code, 0)
  t.is(firstDifference(disk, join(mountpoint, 'disk.img')), undefined)
  await imager('unmount', mountpoint)

  const line = refused(t, await imager('mount', 'latest', mountpoint, '--json', ...at))
  t.is(line, ['mount', 'latest', mountpoint, '--json', ...at, '--words-file words.txt'].join(' '))
  const typed = await run(line.split(' '), { cwd: join(lab.lab.wordsFile, '..') })
  t.is(typed.code, 0, typed.stdout + typed.stderr)
  const { pid } = lastLine<{ pid: number }>(typed)
  const words = readFileSync(lab.lab.wordsFile, 'utf8').split(' ')
  for (const file of ['cmdline', 'environ']) t.false(readFileSync(`/proc/${pid}/${file}`, 'utf8').includes(words[0]!))
  t.false(readFileSync(lab.path('new/mount.log'), 'utf8').includes(words.slice(0, 3).join(' ')))
  t.is(firstDifference(disk, join(mountpoint, 'disk.img')), undefined)
  mkdirSync(lab.path('other'))
  const wrong = ['--words-file', '-', ...at, '--json']
  const other = await run(['mount', 'latest', lab.path('other'), ...wrong], { input: Secret.random().words() })
  t.is(other.code, 12)
  t.is(lastLine<Refusal>(other).code, 'WRONG_WORDS')
})
