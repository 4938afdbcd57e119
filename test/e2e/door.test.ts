/** What a user of this machine could get at, tried on real processes: memory, debugger, files, tokens. */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  chownSync,
  closeSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import test, { type ExecutionContext } from 'ava'
import { imager, lastLine, TestLab } from './lab.js'

const MAIN = fileURLToPath(new URL('../../bin/imager.cjs', import.meta.url))
const NOBODY = 65_534
const isRoot = process.getuid?.() === 0
const user = isRoot ? { uid: NOBODY, gid: NOBODY } : {}

/** Sits at a terminal: waits for the question, pastes what standard input holds, and prints what the screen shows. */
const PERSON = `
import os, pty, sys
pid, screen = pty.fork()
if pid == 0: os.execv(sys.argv[1], sys.argv[1:])
shown, asked = b'', False
while True:
    try: more = os.read(screen, 4096)
    except OSError: break
    if not more: break
    shown += more
    if b'shown): ' in shown and not asked: asked = os.write(screen, sys.stdin.read().encode() + b'\\r') > 0
sys.stdout.buffer.write(shown)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
`

function folder(t: ExecutionContext): string {
  const path = mkdtempSync(join(tmpdir(), 'imager-door-'))
  t.teardown(() => rmSync(path, { recursive: true, force: true }))
  return path
}

/** A fleet of one in a folder of a plain user, and its coordinator, ready. */
async function coordinator(t: ExecutionContext, ...node: string[]) {
  const dir = folder(t)
  if (isRoot) chownSync(dir, NOBODY, NOBODY)
  const state = join(dir, 'state')
  const at = ['--state', state, '--listen', '127.0.0.1:0']
  const options = { ...user, cwd: '/', stdio: 'pipe' as const, env: { ...process.env, HOME: dir } }
  execFileSync(process.execPath, [MAIN, 'init', ...at, '--words-file', join(dir, 'words')], options)
  const daemon = spawn(process.execPath, [...node, MAIN, 'coordinator', ...at], options)
  t.teardown(() => daemon.kill('SIGKILL'))
  await once(daemon.stdout as NodeJS.ReadableStream, 'data')
  return { daemon, state, dir }
}

async function said(child: ChildProcess, what: RegExp, withinMs: number): Promise<boolean> {
  let text = ''
  child.stderr?.on('data', (chunk: Buffer) => (text += chunk.toString()))
  for (let waited = 0; waited < withinMs && !what.test(text); waited += 20) await sleep(20)
  return what.test(text)
}

test('SIGUSR1 opens no debugger, in a daemon and in a command', async (t) => {
  const plain = spawn(process.execPath, ['--inspect-port=0', '-e', 'setInterval(() => {}, 1000)'])
  t.teardown(() => plain.kill('SIGKILL'))
  const { daemon } = await coordinator(t, '--inspect-port=0')
  await sleep(200)
  plain.kill('SIGUSR1')
  t.true(await said(plain, /Debugger listening/, 5000), 'what node does by itself')
  daemon.kill('SIGUSR1')
  t.false(await said(daemon, /Debugger listening/, 500))
  t.is(daemon.exitCode, null)
  daemon.kill('SIGTERM')
  t.deepEqual(await once(daemon, 'exit'), [0, null])
})

test('a debugger that was opened while a process started is closed again', async (t) => {
  const one = async (afterMs: number) => {
    const child = spawn(process.execPath, ['--inspect-port=0', MAIN, 'join', '-', '--state', '/nowhere'])
    t.teardown(() => child.kill('SIGKILL'))
    let text = ''
    child.stderr.on('data', (chunk: Buffer) => (text += chunk.toString()))
    await sleep(afterMs)
    child.kill('SIGUSR1')
    await sleep(900)
    const port = /Debugger listening on ws:\/\/127\.0\.0\.1:(\d+)/.exec(text)?.[1]
    if (port === undefined) return
    const reached = await new Promise((resolve) => {
      const socket = connect(Number(port), '127.0.0.1', () => resolve(true)).on('error', () => resolve(false))
      t.teardown(() => socket.destroy())
    })
    t.false(reached, `after ${afterMs} ms`)
  }
  await Promise.all([10, 20, 40].map(one))
  t.pass()
})

test('the memory of a process with keys is closed to others of the same user, and goes into no core', async (t) => {
  const { daemon } = await coordinator(t)
  const plain = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], { ...user, cwd: '/' })
  t.teardown(() => plain.kill('SIGKILL'))
  await sleep(200)
  const look = (pid = 0) => spawnSync('head', ['-c', '1', `/proc/${pid}/environ`], { ...user, cwd: '/' }).status
  t.is(look(plain.pid), 0)
  t.not(look(daemon.pid), 0)
  t.is(statSync(`/proc/${daemon.pid}/mem`).uid, 0, 'the kernel gives it to root')
  t.regex(readFileSync(`/proc/${daemon.pid}/limits`, 'utf8'), /Max core file size +0 +0 /)
})

test('secrets that others may read are refused, with what to type; a token and the words come in by no argument', async (t) => {
  const lab = await TestLab.up(t, 1)
  const { state } = lab.lab.coordinator
  for (const name of ['identity.key', 'catalog/catalog.db']) {
    chmodSync(join(state, name), 0o640)
    const refused = await imager('hosts', '--state', state, '--json')
    t.is(refused.code, 12)
    const { code, message, remedy } = lastLine<Record<string, string>>(refused)
    t.is(code, 'SECRET_EXPOSED')
    t.true(message?.includes(join(state, name)) && message.includes('0640'))
    execFileSync('sh', ['-c', /`(chmod [^`]+)`/.exec(remedy ?? '')?.[1] ?? 'false'])
    t.is((await imager('hosts', '--state', state)).code, 0)
  }

  const token = async () => (await imager('invite', '--role', 'admin', '--state', state)).stdout
  const joined = (input: string, ...argv: string[]) =>
    spawnSync(process.execPath, [MAIN, 'join', ...argv], { input, encoding: 'utf8' })
  t.is(joined(await token(), '-', '--name', 'a', '--state', lab.path('a')).status, 0)
  t.is(joined(`\n  ${await token()}more\n`, '--name', 'b', '--state', lab.path('b'), '-').status, 0)
  writeFileSync(lab.path('token'), await token(), { mode: 0o600 })
  t.is(joined('', '--token-file', lab.path('token'), '--name', 'c', '--state', lab.path('c')).status, 0)
  const person = [PERSON, process.execPath, MAIN, 'join', '--name', 'e', '--state', lab.path('e')]
  const pasted = (await token()).trim()
  const typed = spawnSync('python3', ['-c', ...person], { input: pasted, encoding: 'utf8' })
  t.is(typed.status, 0, typed.stdout)
  t.regex(typed.stdout, /Join token \(not shown\): \s*e is now a member/)
  t.false(typed.stdout.includes(pasted))
  const none = joined('', '--state', lab.path('d'))
  t.is(none.status, 2)
  t.regex(none.stderr, /`imager join -` reads it from standard input/)
  const both = joined('', 'imager1.x', '--token-file', lab.path('token'), '--state', lab.path('d'))
  t.is(both.status, 2)

  // The words as well, as they stand on paper: in lines, with their numbers. They are this fleet's; what is not there is the snapshot.
  const words = readFileSync(lab.lab.wordsFile, 'utf8').trim().split(' ')
  const list = words.map((word, index) => `${index + 1}. ${word}${index % 8 === 7 ? '\r' : ' '}`).join('')
  const reader = [PERSON, process.execPath, MAIN, 'ls', 'latest', '--words-file', '-', '--state', state]
  const asked = spawnSync('python3', ['-c', ...reader], { input: list, encoding: 'utf8' })
  t.is(asked.status, 10, asked.stdout)
  t.regex(asked.stdout, /Recovery words \(not shown\): \s*imager: No snapshot yet/)
  t.false(asked.stdout.includes(words[0] as string))
})

test('a lab follows no link, and takes no folder and no words that others can reach', async (t) => {
  const dir = folder(t)
  const refused = async (what: RegExp) => {
    const { code, stderr } = await imager('lab', 'up', join(dir, 'lab'), '--peers', '1')
    t.not(code, 0)
    t.regex(stderr, what)
    return stderr
  }
  mkdirSync(join(dir, 'elsewhere'))
  symlinkSync(join(dir, 'elsewhere'), join(dir, 'lab'))
  await refused(/is a link/)
  rmSync(join(dir, 'lab'))
  mkdirSync(join(dir, 'lab'))
  chmodSync(join(dir, 'lab'), 0o777)
  await refused(/can be written by others/)
  if (isRoot) {
    chmodSync(join(dir, 'lab'), 0o700)
    chownSync(join(dir, 'lab'), NOBODY, NOBODY)
    await refused(/belongs to another user/)
    chownSync(join(dir, 'lab'), 0, 0)
  }
  chmodSync(join(dir, 'lab'), 0o755)
  symlinkSync(join(dir, 'elsewhere', 'stolen'), join(dir, 'lab', 'words.txt'))
  await refused(/words\.txt exists already/)
  t.throws(() => lstatSync(join(dir, 'elsewhere', 'stolen')), { code: 'ENOENT' })
  rmSync(join(dir, 'lab', 'words.txt'))
  writeFileSync(join(dir, 'lab', 'words.txt'), '')
  chmodSync(join(dir, 'lab', 'words.txt'), 0o666)
  t.regex(await refused(/others may read or change it \(mode 0666\)/), /`chmod 600 /)
})

test('a daemon whose output is lost says so and goes on', async (t) => {
  const dir = folder(t)
  const at = ['--state', join(dir, 'state'), '--listen', '127.0.0.1:0']
  t.is((await imager('init', ...at, '--words-file', join(dir, 'words'))).code, 0)
  const full = openSync('/dev/full', 'w')
  t.teardown(() => closeSync(full))
  const daemon = spawn(process.execPath, [MAIN, 'coordinator', ...at], { stdio: ['ignore', full, 'pipe'] })
  t.teardown(() => daemon.kill('SIGKILL'))
  t.true(await said(daemon, /The output cannot be written: the disk is full/, 10_000))
  await sleep(300)
  t.is(daemon.exitCode, null)
  daemon.kill('SIGTERM')
  t.deepEqual(await once(daemon, 'exit'), [1, null])
})

test('a plain user is told of sudo; a folder that is gone, and a terminal that was closed, are said', async (t) => {
  const { daemon, dir } = await coordinator(t)
  const as = (options: object, ...argv: string[]) =>
    spawnSync(process.execPath, [MAIN, ...argv], { cwd: '/', encoding: 'utf8', ...options })
  if (isRoot) {
    const locked = folder(t)
    writeFileSync(join(locked, 'home.json'), '{}')
    writeFileSync(join(dir, 'disk.img'), '', { mode: 0o600 })
    for (const argv of [
      ['hosts', '--state', locked],
      ['map', join(dir, 'disk.img')],
    ]) {
      const { stderr, status } = as(user, ...argv)
      t.not(status, 0)
      t.regex(stderr, /`?sudo`?/, argv.join(' '))
      t.notRegex(stderr, /cable|imager init/)
    }
  }
  const gone = join(dir, 'gone')
  const there = spawnSync('sh', [
    '-c',
    `mkdir ${gone}; cd ${gone}; rmdir ${gone}; exec ${process.execPath} ${MAIN} map x`,
  ])
  t.is(there.status, 1)
  t.regex(there.stderr.toString(), /does not exist any more/)
  daemon.kill('SIGHUP')
  t.true(await said(daemon, /SIGHUP/, 5000))
  if (daemon.exitCode === null) await once(daemon, 'exit')
  t.is(daemon.exitCode, 0)
})

test('recover takes the usual port of a peer, and wrong words are not answered with tokens', async (t) => {
  const dir = folder(t)
  writeFileSync(join(dir, 'words'), `${'abandon '.repeat(23)}zoo\n`, { mode: 0o600 })
  const argv = ['recover', '--state', join(dir, 'state'), '--words-file', join(dir, 'words'), '--peer', '127.0.0.1']
  const wrong = await imager(...argv)
  t.is(wrong.code, 12)
  t.regex(wrong.stderr, /Compare the words with the paper/)
  t.notRegex(wrong.stderr, /token/)
  writeFileSync(join(dir, 'words'), `${'abandon '.repeat(23)}art\n`, { mode: 0o600 })
  t.regex((await imager(...argv)).stderr, /127\.0\.0\.1:7421/)
})
