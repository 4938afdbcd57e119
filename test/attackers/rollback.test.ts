/** A coordinator that was set back, doubled or replaced, as real processes: nothing that was acknowledged vanishes without a word. */
import { cpSync, existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import type { LabReport } from '../../src/daemon/lab.js'
import type { StatusReport } from '../../src/fleet/status.js'
import { witnessesOf } from '../../src/keys/checkpoint.js'
import { openHome } from '../../src/keys/home.js'
import {
  type Coordinator,
  type Problem,
  problems,
  startCoordinator,
  typeRemedy,
  untilTold,
} from '../e2e/coordinator.js'
import { firstDifference } from '../e2e/disks.js'
import { imager, lastLine, start, TestLab } from '../e2e/lab.js'
import { freePort } from '../free-port.js'
import { attacking } from './attacks.js'
import { coordinatorOf, Hands, outcomeOf } from './hands.js'

type Peer = LabReport['peers'][number]

/** A lab whose coordinator the test holds, with one snapshot, and its state folder of that moment. */
class Fleet {
  coordinator!: Coordinator
  readonly disk: string

  constructor(
    readonly t: ExecutionContext,
    readonly lab: TestLab,
  ) {
    this.disk = lab.makeDisk('disk.img', 8)
  }

  static async up(t: ExecutionContext, peers: number): Promise<Fleet> {
    const fleet = new Fleet(t, await TestLab.up(t, peers))
    await fleet.lab.kill(fleet.lab.lab.coordinator.pid)
    await fleet.startCoordinator()
    return fleet
  }

  get state(): string {
    return this.lab.lab.coordinator.state
  }

  async startCoordinator(): Promise<void> {
    this.coordinator = startCoordinator(this.lab)
    this.t.teardown(() => this.coordinator.kill())
    this.t.true(await this.coordinator.ready, this.coordinator.said())
  }

  /** The coordinator is off meanwhile. */
  async whileOff(work: () => void | Promise<void>): Promise<void> {
    await this.coordinator.kill()
    await work()
    await this.startCoordinator()
  }

  keep(folder: string): void {
    cpSync(folder, `${folder}.kept`, { recursive: true })
  }

  putBack(folder: string): void {
    rmSync(folder, { recursive: true })
    cpSync(`${folder}.kept`, folder, { recursive: true })
  }

  witnesses(): Peer[] {
    const hosts = witnessesOf(openHome(this.state).membership()).map(({ name }) => name)
    return this.lab.lab.peers.filter(({ name }) => hosts.includes(name))
  }

  readonly #started = new Map<string, number>()

  startPeer(peer: Peer): void {
    const child = this.lab.startPeer(this.lab.lab.peers.indexOf(peer))
    this.#started.set(peer.name, child.pid ?? 0)
    this.t.teardown(() => child.kill('SIGKILL'))
  }

  killPeer({ name, pid }: Peer): Promise<void> {
    return this.lab.kill(this.#started.get(name) ?? pid)
  }

  async snapshot(disk = this.disk): Promise<string> {
    return this.lab.snapshot(this.t, disk)
  }

  async listed(state = this.lab.lab.appliance.state): Promise<string[]> {
    const outcome = await imager('snapshots', '--json', '--state', state)
    this.t.is(outcome.code, 0, outcome.stdout + outcome.stderr)
    return lastLine<{ snapshots: { id: string }[] }>(outcome).snapshots.map(({ id }) => id)
  }

  async status(state = this.lab.lab.appliance.state): Promise<StatusReport> {
    return lastLine<StatusReport>(await imager('status', '--json', '--state', state))
  }

  /** All of them are listed and restored, and another one is taken. */
  async allIsWell(snapshots: readonly [id: string, disk: string][]): Promise<void> {
    const { t, lab } = this
    const ids = snapshots.map(([id]) => id)
    t.deepEqual((await this.listed()).toSorted(), ids.toSorted())
    for (const [id, disk] of snapshots) {
      const target = lab.path(`${id}.img`)
      const done = await imager('restore', id, '--to', target, '--json', '--state', lab.lab.appliance.state)
      t.is(done.code, 0, done.stdout + done.stderr)
      t.is(firstDifference(disk, target), undefined)
    }
    const next = await this.snapshot()
    t.deepEqual((await this.listed()).toSorted(), [...ids, next].toSorted())
    await this.#untilSafe()
  }

  /** What peers hold that were away when it caught up is found once they were heard of. */
  async #untilSafe(): Promise<void> {
    let report = await this.status()
    for (let tries = 0; tries < 40 && !report.safe; tries++) report = await this.status()
    this.t.true(report.safe, JSON.stringify(report.problems))
  }
}

test('a coordinator that is set back says so, is read-only until a majority answers, and catches up by itself', async (t) => {
  const tried = attacking(t)
  const fleet = await Fleet.up(t, 4)
  const first = await fleet.snapshot()
  await fleet.whileOff(() => fleet.keep(fleet.state))
  const other = fleet.lab.makeDisk('other.img', 8)
  const later = [await fleet.snapshot(), await fleet.snapshot(other)] as const
  t.is((await imager('rename', 'peer-4', 'lobby', '--state', fleet.state)).code, 0)
  const [one, two] = fleet.witnesses() as [Peer, Peer]
  await fleet.whileOff(async () => {
    fleet.putBack(fleet.state)
    for (const peer of [one, two]) await fleet.killPeer(peer)
  })
  // One of three answers: that is enough to know that something is missing, and not enough to go on.
  const told = await untilTold(fleet.lab, 'COORDINATOR_READ_ONLY')
  t.true(told !== undefined && told !== true && /1 of 3 have answered, it waits for 1 more/.test(told.sentence))
  t.regex(told === true ? '' : (told?.remedy ?? ''), new RegExp(`${one.name}|${two.name}`))
  const refused = await imager('snapshot', fleet.disk, '--state', fleet.lab.lab.appliance.state, '--json')
  t.is(refused.code, 1, refused.stdout)
  t.regex(lastLine<{ code: string }>(refused).code, /COORDINATOR_READ_ONLY|ROLLED_BACK/)
  t.true((await fleet.listed()).includes(first), 'reads go on')
  // Nor from a server that does not know better.
  const server = openHome(fleet.lab.lab.appliance.state)
  const run = { appliance: server.host, volume: 'ab'.repeat(16), source: '/dev/sda', label: '' }
  const asked = new Hands(t, server.secret).catalog(coordinatorOf(fleet.lab)).begin(run)
  t.is(await outcomeOf(asked), 'COORDINATOR_READ_ONLY')
  tried('set-back-writes')

  fleet.startPeer(one)
  fleet.startPeer(two)
  t.true(await untilTold(fleet.lab, 'COORDINATOR_READ_ONLY', false))
  t.regex(
    fleet.coordinator.said(),
    /stood at checkpoint \d+ of term 1, its witnesses at \d+ of term 1; 2 snapshots are not known here/,
  )
  t.regex(fleet.coordinator.said(), /2 snapshots were brought back from the peers, 0 were not/)
  await fleet.allIsWell([
    [first, fleet.disk],
    [later[0], fleet.disk],
    [later[1], other],
  ])
  t.regex((await imager('hosts', '--state', fleet.state)).stdout, /lobby/, 'the membership is the newest, too')
  const events = await imager('events', '--state', fleet.state)
  t.regex(events.stdout, /This coordinator stood at checkpoint/)
  tried('set-back')
})

test('the same with one witness set back together with it', async (t) => {
  const tried = attacking(t)
  const fleet = await Fleet.up(t, 3)
  const first = await fleet.snapshot()
  const [witness] = fleet.witnesses() as [Peer]
  await fleet.whileOff(async () => {
    fleet.keep(fleet.state)
    await fleet.killPeer(witness)
    fleet.keep(join(witness.store, 'witness'))
    fleet.startPeer(witness)
  })
  const later = [await fleet.snapshot(), await fleet.snapshot()] as const
  await fleet.whileOff(async () => {
    fleet.putBack(fleet.state)
    await fleet.killPeer(witness)
    fleet.putBack(join(witness.store, 'witness'))
    fleet.startPeer(witness)
  })
  t.true(await untilTold(fleet.lab, 'COORDINATOR_READ_ONLY', false))
  await fleet.allIsWell([first, ...later].map((id) => [id, fleet.disk]))
  tried('set-back-together')
})

test('what the peers cannot give back keeps it read-only, is named, and the line that is printed heals it', async (t) => {
  const tried = attacking(t)
  const fleet = await Fleet.up(t, 3)
  const first = await fleet.snapshot()
  await fleet.whileOff(() => fleet.keep(fleet.state))
  const later = await fleet.snapshot()
  await fleet.whileOff(() => {
    fleet.putBack(fleet.state)
    for (const { store } of fleet.witnesses()) spoilEntry(join(store, 'witness/log'), later)
  })
  const told = await untilSaid(fleet.lab, new RegExp(`could not be brought back: ${later.slice(0, 8)}`))
  t.truthy(told)
  t.is((await imager('snapshot', fleet.disk, '--state', fleet.lab.lab.appliance.state)).code, 1)
  await fleet.whileOff(async () => {
    const healed = await typeRemedy(fleet.lab, told?.remedy ?? '')
    t.is(healed.code, 0, healed.stdout + healed.stderr)
  })
  t.true(await untilTold(fleet.lab, 'COORDINATOR_READ_ONLY', false))
  await fleet.allIsWell([first, later].map((id) => [id, fleet.disk]))
  tried('set-back-for-good')
})

async function untilSaid(lab: TestLab, sentence: RegExp): Promise<Problem | undefined> {
  for (let tries = 0; tries < 60; tries++) {
    const found = (await problems(lab)).find((one) => sentence.test(one.sentence))
    if (found) return found
  }
  return undefined
}

/** Of the entry that is kept of this snapshot, one bit. */
function spoilEntry(log: string, snapshot: string): void {
  const bytes = readFileSync(log)
  const at = bytes.indexOf(Buffer.from(snapshot, 'hex')) + 16 + 40
  bytes[at] = (bytes[at] as number) ^ 1
  writeFileSync(log, bytes)
}

test('two coordinators: the newer term wins, the old one is told and named, and its appliances follow', async (t) => {
  const tried = attacking(t)
  const fleet = await Fleet.up(t, 3)
  const { lab } = fleet
  const first = await fleet.snapshot()
  await fleet.coordinator.kill()
  const listen = `127.0.0.1:${await freePort()}`
  const [peer] = lab.lab.peers as [Peer]
  const given = ['--words-file', lab.lab.wordsFile, '--peer', peer.address, '--listen', listen, '--name', 'spare']
  const recovered = await imager('recover', ...given, '--state', lab.path('new'), '--json')
  t.is(recovered.code, 0, recovered.stdout + recovered.stderr)
  const successor = start(['coordinator', '--state', lab.path('new')])
  t.teardown(() => successor.kill('SIGKILL'))
  await fleet.startCoordinator()

  const told = await untilOld(fleet)
  // By its key: names are sealed to members.
  t.regex(told.message, /was replaced: [0-9a-f]{8} at 127\.0\.0\.1:\d+ is the coordinator of its fleet \(term 2\)/)
  t.is(told.code, 'REPLACED')
  const named = await untilNamed(lab.path('new'))
  t.regex(named ?? '', /former coordinator.* was replaced, and runs again/i)

  // The appliance asks the old one, as it always did.
  const next = await fleet.snapshot()
  t.deepEqual(await fleet.listed(), [first, next])
  t.is(openHome(lab.lab.appliance.state).membership().term, 2)
  await fleet.coordinator.kill()
  await fleet.lab.restoreLatest(t, fleet.disk)
  tried('two-coordinators')
})

async function untilOld({ state }: Fleet): Promise<{ code: string; message: string }> {
  for (let tries = 0; ; tries++) {
    const told = lastLine<{ code: string; message: string }>(await imager('status', '--json', '--state', state))
    if (told.code !== undefined || tries > 60) return told
  }
}

async function untilNamed(state: string): Promise<string | undefined> {
  for (let tries = 0; tries < 60; tries++) {
    const report = lastLine<StatusReport>(await imager('status', '--json', '--state', state))
    const found = report.problems?.find(({ code }) => code === 'REPLACED_BACK')
    if (found) return found.sentence
  }
  return undefined
}

test('a list that too few witnesses signed protects nothing yet: exit 4, and they sign as soon as they can', async (t) => {
  const tried = attacking(t)
  const fleet = await Fleet.up(t, 3)
  const [one, two] = fleet.witnesses() as [Peer, Peer]
  const folder = ({ store }: Peer) => join(store, 'witness')
  for (const peer of [one, two]) renameSync(folder(peer), `${folder(peer)}.away`)
  const outcome = await imager('snapshot', fleet.disk, '--state', fleet.lab.lab.appliance.state, '--json')
  t.is(outcome.code, 4, outcome.stdout + outcome.stderr)
  t.like(lastLine(outcome), { state: 'sealed', cosigned: false, survives: 1, target: 1 })
  const [told, ...more] = await problems(fleet.lab)
  t.is(told?.code, 'NOT_COSIGNED', JSON.stringify([told, ...more]))
  t.regex(told?.sentence ?? '', /1 of 3 witnesses have signed the newest list of snapshots, 2 are needed/)
  t.deepEqual(more, [])
  for (const peer of [one, two]) renameSync(`${folder(peer)}.away`, folder(peer))
  t.true(await untilTold(fleet.lab, 'NOT_COSIGNED', false))
  t.like(await fleet.status(), { safe: true, notes: [] })
  tried('witness-withholds')
})

test('with two peers nobody watches the coordinator, and status says so without a red light', async (t) => {
  const fleet = await Fleet.up(t, 2)
  await fleet.snapshot()
  const { safe, notes, problems } = await fleet.status()
  t.true(safe, JSON.stringify(problems))
  t.regex(notes.join(), /Nobody watches the coordinator/)
  t.false(existsSync(join(fleet.lab.lab.appliance.state, 'checkpoint.bin')))
})
