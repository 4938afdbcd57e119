/** Disaster after disaster, with new servers in between, and clocks that are years off, as real processes: everything restores. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import type { HostRow, SnapshotRow } from '../../src/catalog/types.js'
import type { LabReport } from '../../src/daemon/lab.js'
import type { StatusReport } from '../../src/fleet/status.js'
import type { RecoverReport } from '../../src/jobs/recover/recover.js'
import { freePort } from '../free-port.js'
import { firstDifference } from './disks.js'
import { imager, lastLine, MAIN, type Outcome, start, TestLab } from './lab.js'

type Peer = LabReport['peers'][number]

async function recover({ lab }: TestLab, to: string, peer: Peer): Promise<Outcome> {
  const given = ['--words-file', lab.wordsFile, '--peer', peer.address, '--listen', `127.0.0.1:${await freePort()}`]
  return imager('recover', ...given, '--name', 'spare', '--state', to, '--json')
}

async function joinAs(t: ExecutionContext, lab: TestLab, coordinator: string, state: string, ...more: string[]) {
  const invited = await imager('invite', '--role', 'appliance', '--state', coordinator, '--json')
  t.is(invited.code, 0, invited.stdout + invited.stderr)
  const file = lab.path('token')
  writeFileSync(file, lastLine<{ token: string }>(invited).token, { mode: 0o600 })
  const joined = await imager('join', '--token-file', file, '--state', state, '--json', ...more)
  t.is(joined.code, 0, joined.stdout + joined.stderr)
}

async function listed(state: string): Promise<SnapshotRow[]> {
  return lastLine<{ snapshots?: SnapshotRow[] }>(await imager('snapshots', '--json', '--state', state)).snapshots ?? []
}

async function restores(t: ExecutionContext, lab: TestLab, state: string, id: string, disk: string, ...more: string[]) {
  const target = lab.path('target.img')
  rmSync(target, { force: true })
  rmSync(`${target}.imager-restore`, { force: true })
  const done = await imager('restore', id, '--to', target, '--force', '--json', '--state', state, ...more)
  t.is(done.code, 0, done.stdout + done.stderr)
  t.is(firstDifference(disk, target), undefined)
}

/** Ready when this returns. */
async function ready(t: ExecutionContext, child: ChildProcess): Promise<ChildProcess> {
  t.teardown(() => child.kill('SIGKILL'))
  await Promise.race([once(child.stdout as NodeJS.ReadableStream, 'data'), once(child, 'exit')])
  return child
}

const startPeer = (t: ExecutionContext, lab: TestLab, peer: Peer) =>
  ready(t, lab.startPeer(lab.lab.peers.indexOf(peer)))
const startCoordinator = (t: ExecutionContext, state: string) =>
  ready(t, start(['coordinator', '--state', state, '--json']))

async function until(t: ExecutionContext, what: string, isSo: () => Promise<boolean>, timeoutMs = 60_000) {
  for (const end = Date.now() + timeoutMs; Date.now() < end; await sleep(500)) if (await isSo()) return
  t.fail(what)
}

test('what peers bring that were away during a recovery appears and restores, without another one', async (t) => {
  const lab = await TestLab.up(t, 6)
  const { coordinator, peers, wordsFile } = lab.lab
  const disk = lab.makeDisk('disk.img', 6)
  const first = await lab.snapshot(t, disk, '--tolerate', '4')
  const [early, late] = [peers.slice(0, 2), peers.slice(2)]
  for (const { pid } of early) await lab.kill(pid)
  // Its keys, its snapshot and its shards are on the others alone.
  await joinAs(t, lab, coordinator.state, lab.path('two'), '--name', 'two')
  const other = lab.makeDisk('other.img', 6)
  const taken = await imager('snapshot', other, '--tolerate', '1', '--state', lab.path('two'), '--json')
  const second = lastLine<{ snapshot: string }>(taken).snapshot
  for (const { pid } of late) await lab.kill(pid)
  await lab.burn()
  for (const peer of early) await startPeer(t, lab, peer)
  const fresh = lab.path('new')
  let recovered = await recover(lab, fresh, early[0] as Peer)
  for (let tries = 0; tries < 10 && recovered.code === 4; tries++)
    recovered = await recover(lab, fresh, early[0] as Peer)
  t.is(recovered.code, 0, recovered.stdout + recovered.stderr)
  t.deepEqual(
    lastLine<RecoverReport>(recovered).snapshots.map(({ id }) => id),
    [first],
  )
  await startCoordinator(t, fresh)
  for (const peer of late) await startPeer(t, lab, peer)
  await until(t, 'the second snapshot appears', async () => (await listed(fresh)).some(({ id }) => id === second))
  await restores(t, lab, fresh, first, disk)
  await restores(t, lab, fresh, second, other, '--words-file', wordsFile)
})

/** The same numbers for the same seed. */
function random(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state / 2 ** 32
  }
}

/** A state folder whose host has a key that the seed chose: in which order hosts, keys and heads are met follows from it. */
function seeded(lab: TestLab, name: string, next: () => number): string {
  const state = lab.path(name)
  mkdirSync(state, { mode: 0o700 })
  const key = Buffer.from(Array.from({ length: 32 }, () => Math.floor(next() * 256)))
  writeFileSync(join(state, 'identity.key'), key, { mode: 0o600 })
  return state
}

test('after a third disaster, with new servers in between, everything restores', async (t) => {
  const seed = Number(process.env.IMAGER_SEED ?? Math.floor(Math.random() * 2 ** 31))
  t.log(`IMAGER_SEED=${seed}`)
  const next = random(seed)
  const lab = await TestLab.up(t, 4)
  const { peers, wordsFile } = lab.lab
  const any = () => peers[Math.floor(next() * peers.length)] as Peer
  const taken: [id: string, disk: string][] = []
  const disk = lab.makeDisk('disk-0.img', 6)
  taken.push([await lab.snapshot(t, disk), disk])
  await lab.burn()
  for (let disaster = 1; disaster <= 3; disaster++) {
    const state = seeded(lab, `coordinator-${disaster}`, next)
    const recovered = await recover(lab, state, any())
    t.is(recovered.code, 0, recovered.stdout + recovered.stderr)
    t.is(lastLine<RecoverReport>(recovered).term, disaster + 1)
    t.deepEqual(new Set((await listed(state)).map(({ id }) => id)), new Set(taken.map(([id]) => id)))
    const coordinator = await startCoordinator(t, state)
    const server = seeded(lab, `server-${disaster}`, next)
    const place = ['--replaces', 'appliance', '--even-if-alive', '--words-file', wordsFile]
    await joinAs(t, lab, state, server, ...(next() < 0.5 ? place : ['--name', `server-${disaster}`]))
    const own = lab.makeDisk(`disk-${disaster}.img`, 6)
    const outcome = await imager('snapshot', own, '--state', server, '--json')
    const report = lastLine<{ snapshot: string; receipted: number; target: number }>(outcome)
    // What it shares with older ones the peers may just be signing again.
    const isSealed = outcome.code === 4 && report.receipted < report.target
    t.true(outcome.code === 0 || isSealed, outcome.stdout + outcome.stderr)
    taken.push([report.snapshot, own])
    coordinator.kill('SIGKILL')
    await once(coordinator, 'exit')
    for (const folder of [state, server]) rmSync(folder, { recursive: true })
  }
  const last = seeded(lab, 'last', next)
  t.is((await recover(lab, last, any())).code, 0)
  for (const [id, disk] of taken) await restores(t, lab, last, id, disk)
})

const YEAR_MS = 365.25 * 86_400_000

/** A program whose clock is off by so many years; what counts time without a clock goes on as it does. */
class Shifted {
  readonly #shim: string

  constructor(lab: TestLab) {
    this.#shim = lab.path('shift.cjs')
    writeFileSync(
      this.#shim,
      `const off = Number(process.env.IMAGER_TEST_OFF_MS)
      const Real = Date
      globalThis.Date = class extends Real {
        constructor(...given) { given.length === 0 ? super(Real.now() + off) : super(...given) }
        static now() { return Real.now() + off }
      }`,
    )
  }

  start(years: number, ...argv: string[]): ChildProcess {
    const env = { ...process.env, IMAGER_TEST_OFF_MS: String(years * YEAR_MS) }
    return spawn(process.execPath, ['--require', this.#shim, MAIN, ...argv], { env, stdio: ['ignore', 'pipe', 'pipe'] })
  }

  async run(years: number, ...argv: string[]): Promise<Outcome> {
    const child = this.start(years, ...argv)
    let [stdout, stderr] = ['', '']
    child.stdout?.on('data', (chunk: Buffer) => (stdout += chunk.toString()))
    child.stderr?.on('data', (chunk: Buffer) => (stderr += chunk.toString()))
    const [code] = (await once(child, 'close')) as [number]
    return { code, stdout, stderr }
  }
}

test('clocks that are years off, of whichever host: what was acknowledged restores, nothing ends before its time, status names them', async (t) => {
  const lab = await TestLab.up(t, 4)
  const { coordinator, appliance, peers, wordsFile } = lab.lab
  const shifted = new Shifted(lab)
  const disk = lab.makeDisk('disk.img', 6)
  const first = await lab.snapshot(t, disk)
  const daemons: ChildProcess[] = []
  const coordinate = async (years: number, state = coordinator.state) => {
    const old = daemons.pop()
    old?.kill('SIGKILL')
    if (old) await once(old, 'exit')
    daemons.push(await ready(t, shifted.start(years, 'coordinator', '--state', state, '--json')))
  }
  for (const [at, years] of [4, -4].entries()) {
    const peer = peers[at] as Peer
    await lab.kill(peer.pid)
    const argv = ['peer', '--state', peer.state, '--store', peer.store, '--keep-free', '1M', '--json']
    await ready(t, shifted.start(years, ...argv))
  }
  await lab.kill(coordinator.pid)
  const taken = [first]
  for (const [own, server] of [
    [-3, 5],
    [6, -2],
    [0, 0],
  ] as const) {
    await coordinate(own)
    const is = async (outcome: Outcome) => t.is(outcome.code, 0, outcome.stdout + outcome.stderr)
    await until(t, `all are there at ${own} years`, async () => {
      const hosts =
        lastLine<{ hosts?: HostRow[] }>(await imager('hosts', '--json', '--state', appliance.state)).hosts ?? []
      return hosts.filter(({ role, away }) => role === 'peer' && !away).length === peers.length
    })
    const outcome = await shifted.run(server, 'snapshot', disk, '--state', appliance.state, '--json')
    await is(outcome)
    taken.push(lastLine<{ snapshot: string }>(outcome).snapshot)
    t.like(lastLine(outcome), { cosigned: true, state: 'protected' })
    // A token lives an hour by the coordinator's clock, wherever it is used.
    const invited = await shifted.run(own, 'invite', '--role', 'appliance', '--state', coordinator.state, '--json')
    await is(invited)
    const file = lab.path(`token-${own}`)
    writeFileSync(file, lastLine<{ token: string }>(invited).token, { mode: 0o600 })
    const state = lab.path(`server-${own}`)
    await is(
      await shifted.run(server, 'join', '--token-file', file, '--name', `s${taken.length}`, '--state', state, '--json'),
    )
    const said = lastLine<StatusReport>(await shifted.run(server, 'status', '--json', '--state', appliance.state))
    const clocks = said.problems
      .filter(({ code }) => code === 'CLOCK')
      .map(({ sentence }) => sentence)
      .join('\n')
    for (const peer of ['peer-1', 'peer-2']) t.regex(clocks, new RegExp(peer), JSON.stringify(said.problems))
    t.deepEqual(new Set((await listed(appliance.state)).map(({ id }) => id)), new Set(taken))
    t.true((await listed(appliance.state)).every(({ survives }) => survives > 0))
  }
  for (const id of taken) await restores(t, lab, appliance.state, id, disk)
  // Words and peers, on a host that is years ahead.
  await lab.kill(daemons[0]?.pid ?? 0)
  const fresh = lab.path('new')
  const given = [
    '--words-file',
    wordsFile,
    '--peer',
    (peers[2] as Peer).address,
    '--listen',
    `127.0.0.1:${await freePort()}`,
  ]
  const recovered = await shifted.run(9, 'recover', ...given, '--name', 'spare', '--state', fresh, '--json')
  t.is(recovered.code, 0, recovered.stdout + recovered.stderr)
  for (const id of taken) await restores(t, lab, fresh, id, disk, '--words-file', wordsFile)
})
