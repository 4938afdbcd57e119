import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync, statfsSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import test, { type ExecutionContext } from 'ava'
import type { HostRow } from '../../src/catalog/types.js'
import type { LabReport } from '../../src/daemon/lab.js'

const MAIN = fileURLToPath(new URL('../../bin/imager.cjs', import.meta.url))

function start(argv: readonly string[], state?: string): ChildProcess {
  const env = { ...process.env, ...(state !== undefined && { IMAGER_STATE: state }) }
  return spawn(process.execPath, [MAIN, ...argv], { stdio: ['ignore', 'pipe', 'pipe'], env })
}

/** Resolves when the process has ended *and* nobody holds its output any more. */
async function finish(child: ChildProcess) {
  let [stdout, stderr] = ['', '']
  child.stdout?.on('data', (chunk: Buffer) => (stdout += chunk.toString()))
  child.stderr?.on('data', (chunk: Buffer) => (stderr += chunk.toString()))
  const [code] = (await once(child, 'close')) as [number]
  return { code, stdout, stderr }
}

const imager = (argv: readonly string[], state?: string) => finish(start(argv, state))

function labFolder(t: ExecutionContext): string {
  const parent = mkdtempSync(join(tmpdir(), 'imager-lab-'))
  t.teardown(async () => {
    await imager(['lab', 'down', join(parent, 'lab')])
    rmSync(parent, { recursive: true, force: true })
  })
  return join(parent, 'lab')
}

async function up(t: ExecutionContext, dir: string, peers: number): Promise<LabReport> {
  const { code, stdout, stderr } = await imager(['lab', 'up', dir, '--peers', String(peers), '--json'])
  t.is(code, 0, stderr + stdout)
  t.regex(stdout, /^[^\n]+\n$/)
  return JSON.parse(stdout) as LabReport
}

async function hosts(state: string): Promise<HostRow[]> {
  const { stdout } = await imager(['hosts', '--json'], state)
  return (JSON.parse(stdout) as { hosts: HostRow[] }).hosts
}

const pidsOf = (lab: LabReport) => [lab.coordinator, ...lab.peers].map((one) => one.pid)

function runs(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return false
  }
}

test('a lab of three: ready when it says so, seen by the appliance, ended without a trace', async (t) => {
  const dir = labFolder(t)
  const lab = await up(t, dir, 3)
  t.deepEqual(Object.keys(lab), ['coordinator', 'peers', 'appliance', 'wordsFile'])
  t.deepEqual(Object.keys(lab.coordinator), ['pid', 'address', 'state'])
  for (const peer of lab.peers) t.deepEqual(Object.keys(peer), ['name', 'pid', 'address', 'state', 'store'])
  t.true(pidsOf(lab).every(runs))
  t.regex(readFileSync(lab.wordsFile, 'utf8'), /^([a-z]+ ){23}[a-z]+\n$/)
  t.is(statSync(lab.wordsFile).mode & 0o777, 0o600)
  t.false([lab.coordinator, lab.appliance, ...lab.peers].some(({ state }) => lab.wordsFile.startsWith(`${state}/`)))

  const peers = (await hosts(lab.appliance.state)).filter((host) => host.role === 'peer')
  t.is(peers.length, 3)
  t.true(peers.every((peer) => peer.freeBytes > 0 && !peer.away))
  t.is(new Set(peers.map((peer) => peer.domain)).size, 3)
  const disk = statfsSync(dir)
  t.true(peers.reduce((sum, peer) => sum + peer.freeBytes, 0) <= disk.bavail * disk.bsize * 1.05)
  t.is((await imager(['status'], lab.appliance.state)).code, 8, 'without a snapshot nothing is safe')
  const { stdout } = await imager(['hosts'], lab.appliance.state)
  t.regex(stdout, /peer-3 +peer +peer-3 +here/)

  const again = await imager(['lab', 'up', dir, '--peers', '3', '--json'])
  t.is(again.code, 1)
  t.like(JSON.parse(again.stdout), { status: 'error', code: 'LAB' })
  t.true(pidsOf(lab).every(runs))

  t.is((await imager(['lab', 'down', dir])).code, 0)
  t.false(pidsOf(lab).some(runs))
  t.is((await imager(['lab', 'down', dir])).code, 0)
  const gone = await imager(['hosts', '--json'], lab.appliance.state)
  t.is(gone.code, 1)
  t.like(JSON.parse(gone.stdout), { code: 'COORDINATOR_UNREACHABLE' })
})

test('a lab comes up again as the same fleet; down works after kill -9 and without state folders', async (t) => {
  const dir = labFolder(t)
  const first = await up(t, dir, 2)
  const before = await hosts(first.appliance.state)
  await imager(['lab', 'down', dir])
  const lab = await up(t, dir, 2)
  t.deepEqual(
    (await hosts(lab.appliance.state)).map((host) => host.host),
    before.map((host) => host.host),
  )
  const fewer = await imager(['lab', 'up', dir, '--peers', '1'])
  t.is(fewer.code, 1)
  process.kill(lab.peers[0]?.pid ?? 0, 'SIGKILL')
  for (const { state } of [lab.coordinator, lab.appliance, ...lab.peers]) rmSync(state, { recursive: true })
  t.is((await imager(['lab', 'down', dir])).code, 0)
  t.false(pidsOf(lab).some(runs))
  t.is((await imager(['lab', 'down', join(dir, 'nowhere')])).code, 1)
})

test('killed peers are away after a while, and back when they run again', async (t) => {
  const dir = labFolder(t)
  const lab = await up(t, dir, 3)
  const victim = lab.peers[1]
  process.kill(victim?.pid ?? 0, 'SIGKILL')
  const row = async () => (await hosts(lab.appliance.state)).find((host) => host.name === victim?.name)
  t.false((await row())?.away)
  const deadline = performance.now() + 60_000
  while (!(await row())?.away && performance.now() < deadline) await sleep(2000)
  t.true((await row())?.away)
  t.is((await hosts(lab.appliance.state)).filter((host) => host.role === 'peer' && !host.away).length, 2)
  const back = start(['peer', '--store', victim?.store ?? '', '--keep-free', '0', '--json'], victim?.state)
  const [line] = (await once(back.stdout as NodeJS.ReadableStream, 'data')) as [Buffer]
  t.like(JSON.parse(line.toString()), { status: 'ready', address: victim?.address })
  while ((await row())?.away && performance.now() < deadline) await sleep(100)
  t.false((await row())?.away)
  back.kill('SIGTERM')
  t.is((await finish(back)).code, 0)
})

test('invite and join from the command line: once, for its role, and not by everybody', async (t) => {
  const dir = labFolder(t)
  const lab = await up(t, dir, 1)
  const refused = await imager(['invite', '--json'], lab.appliance.state)
  t.is(refused.code, 12)
  t.like(JSON.parse(refused.stdout), { code: 'NOT_ALLOWED' })
  const invited = await imager(['invite', '--role', 'admin'], lab.coordinator.state)
  t.is(invited.code, 0)
  t.regex(invited.stdout, /^imager1\.[\w-]+\n$/)
  const token = invited.stdout.trim()
  const admin = join(dir, 'admin')
  const joined = await imager(['join', token, '--name', 'desk', '--json'], admin)
  t.is(joined.code, 0, joined.stdout)
  t.like(JSON.parse(joined.stdout), { status: 'done', role: 'admin', name: 'desk' })
  const twice = await imager(['join', token, '--name', 'other', '--json'], join(dir, 'other'))
  t.is(twice.code, 12)
  t.like(JSON.parse(twice.stdout), { code: 'WRONG_KEY' })
  t.is((await imager(['hosts'], join(dir, 'other'))).code, 10)
  t.is((await imager(['invite'], admin)).code, 0)
  const late = (await imager(['invite'], admin)).stdout.trim()
  await imager(['lab', 'down', dir])
  const unreachable = await imager(['join', late, '--json'], join(dir, 'late'))
  t.is(unreachable.code, 1)
  t.like(JSON.parse(unreachable.stdout), { code: 'COORDINATOR_UNREACHABLE' })
})

test('Ctrl-C while a lab comes up leaves no process, and no folder that has to go', async (t) => {
  const dir = labFolder(t)
  const child = start(['lab', 'up', dir, '--peers', '2'])
  const ended = finish(child)
  const record = join(dir, 'lab.json')
  const listed = () => (existsSync(record) ? [...readFileSync(record, 'utf8').matchAll(/"pid": (\d+)/g)] : [])
  while (listed().length === 0) await sleep(5)
  const pids = listed().map((match) => Number(match[1]))
  child.kill('SIGINT')
  t.is((await ended).code, 130)
  t.false(pids.some(runs))
  t.is(listed().length, 0)
  t.is((await up(t, dir, 2)).peers.length, 2, 'it goes on where it was')
})
