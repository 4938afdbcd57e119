/**
 * A whole fleet on this computer, as real processes over loopback: a coordinator, peers, and an appliance's state folder.
 * `lab.json` in the folder itself lists every process from the moment it exists, so that `lab down` finds them all, also
 * when `lab up` was killed half way or state folders are gone:
 *
 *   DIR/lab.json   DIR/words.txt   DIR/logs/   DIR/coordinator/   DIR/appliance/   DIR/peers/peer-1/{state,store}/
 */
import { existsSync, lstatSync, readFileSync, statSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import * as v from 'valibot'
import { ImagerError } from '../base/errors.js'
import { isAlive, type ProcessMark } from '../base/process-mark.js'
import { shellWord } from '../base/shell.js'
import { MiB } from '../base/units.js'
import { initFleet } from '../fleet/init.js'
import { joinFleet } from '../fleet/join.js'
import { type Fleet, openFleet } from '../fleet/open.js'
import { wordsInFile } from '../fleet/words-file.js'
import { makeFolder, writeDurable } from '../keys/durable.js'
import { hasHome, openHome } from '../keys/home.js'
import { refuseExposed } from '../keys/secret-files.js'
import { endProcesses, startDetached } from './process.js'

export interface LabReport {
  coordinator: { pid: number; address: string; state: string }
  peers: { name: string; pid: number; address: string; state: string; store: string }[]
  appliance: { state: string }
  wordsFile: string
}

export interface LabOptions {
  dir: string
  peers: number
  /** The file that `node` runs for a daemon. */
  program: string
  signal: AbortSignal
}

const LabFile = v.strictObject({
  version: v.literal(1),
  processes: v.array(v.strictObject({ name: v.string(), pid: v.number(), started: v.string(), boot: v.string() })),
})
type LabProcess = v.InferOutput<typeof LabFile>['processes'][number]

/** A lab must work on a small disk too. */
const KEEP_FREE_BYTES = 16 * MiB
/** Each takes its own when it first listens: one that was chosen before could be another's by then. */
const ANY_PORT = '127.0.0.1:0'
const READY_TIMEOUT_MS = 60_000
const POLL_MS = 25
const GRACE_MS = 5_000

/** Returns when every daemon is ready and every peer has told the coordinator its space. */
export async function labUp(options: LabOptions): Promise<LabReport> {
  const lab = new Lab(resolve(options.dir), options)
  lab.claim()
  try {
    return await lab.up()
  } catch (error) {
    await endProcesses(lab.processes, GRACE_MS)
    lab.save([])
    throw error
  }
}

/** Ends the lab's processes and nothing else; gives how many still ran. */
export async function labDown(dir: string): Promise<{ ended: number; folder: string }> {
  const folder = resolve(dir)
  const processes = readProcesses(folder)
  if (!processes) throw labError(`There is no lab in ${folder}`, 'Name the folder that was given to `imager lab up`')
  const ended = await endProcesses(processes, GRACE_MS)
  const left = processes.filter(isAlive)
  saveProcesses(folder, left)
  if (left.length > 0)
    throw labError(`These do not end: ${left.map((one) => one.name).join(', ')}`, 'Look at them with `ps -ef`')
  return { ended, folder }
}

interface Starting {
  name: string
  mark: ProcessMark
  log: string
  /** Where in the log this run begins. */
  from: number
}

interface Ready {
  name: string
  pid: number
  address: string
}

class Lab {
  processes: LabProcess[] = []

  constructor(
    readonly dir: string,
    readonly options: LabOptions,
  ) {}

  /** Refuses a lab that runs, one whose folders no longer fit together, and a folder in which others could write. */
  claim(): void {
    makeFolder(this.dir)
    refuseOthersFolder(this.dir)
    const running = readProcesses(this.dir)?.filter(isAlive) ?? []
    if (running.length > 0) {
      throw labError(
        `The lab in ${this.dir} is up already (${running.length} processes)`,
        `End it first: \`imager lab down ${this.dir}\``,
      )
    }
    const orphans = !hasHome(this.state('coordinator')) && this.missing().length < this.names().length
    const extra = hasHome(this.state(`peer-${this.options.peers + 1}`))
    if (extra || orphans) {
      throw labError(`${this.dir} holds another lab, or part of one`, 'Delete it, or choose another folder')
    }
    if (existsSync(this.wordsFile)) refuseExposed(this.wordsFile)
    makeFolder(join(this.dir, 'logs'))
    this.save([])
  }

  async up(): Promise<LabReport> {
    const state = this.state('coordinator')
    if (!hasHome(state)) {
      const address = ANY_PORT
      const words = wordsInFile(this.wordsFile, state)
      initFleet({ state, name: 'coordinator', domain: 'coordinator', listen: address, address, ...words })
    }
    const coordinator = await this.#ready(this.#start('coordinator', ['coordinator']))
    if (this.missing().length > 0) await this.#withFleet((fleet) => this.#joinMissing(fleet))
    const starting = Array.from({ length: this.options.peers }, (_, index) => this.#startPeer(`peer-${index + 1}`))
    const peers = await Promise.all(starting.map((peer) => this.#ready(peer)))
    await this.#withFleet((fleet) => this.#allSeen(fleet, peers.length))
    return {
      coordinator: { pid: coordinator.pid, address: coordinator.address, state },
      peers: peers.map(({ name, pid, address }) => ({
        name,
        pid,
        address,
        state: this.state(name),
        store: this.store(name),
      })),
      appliance: { state: this.state('appliance') },
      wordsFile: this.wordsFile,
    }
  }

  async #withFleet(task: (fleet: Fleet) => Promise<void>): Promise<void> {
    const fleet = await openFleet(openHome(this.state('coordinator')))
    try {
      await task(fleet)
    } finally {
      await fleet.close()
    }
  }

  get wordsFile(): string {
    return join(this.dir, 'words.txt')
  }

  names(): string[] {
    const peers = Array.from({ length: this.options.peers }, (_, index) => `peer-${index + 1}`)
    return ['coordinator', 'appliance', ...peers]
  }

  /** Who is in no fleet yet: all of a new lab, some of one that was cut short. */
  missing(): string[] {
    return this.names().filter((name) => !hasHome(this.state(name)))
  }

  state(name: string): string {
    return name.startsWith('peer-') ? join(this.dir, 'peers', name, 'state') : join(this.dir, name)
  }

  store(name: string): string {
    return join(this.dir, 'peers', name, 'store')
  }

  save(processes: LabProcess[]): void {
    this.processes = processes
    saveProcesses(this.dir, processes)
  }

  async #joinMissing(fleet: Fleet): Promise<void> {
    for (const name of this.missing()) {
      this.options.signal.throwIfAborted()
      const role = name === 'appliance' ? 'appliance' : 'peer'
      const { token } = await fleet.invite(role)
      const listen = role === 'peer' ? ANY_PORT : null
      await joinFleet({ token, state: this.state(name), name, domain: name, listen })
    }
  }

  #startPeer(name: string) {
    return this.#start(name, ['peer', '--store', this.store(name), '--keep-free', String(KEEP_FREE_BYTES)])
  }

  #start(name: string, verb: readonly string[]): Starting {
    const log = join(this.dir, 'logs', `${name}.log`)
    const from = existsSync(log) ? statSync(log).size : 0
    const mark = startDetached([this.options.program, ...verb, '--state', this.state(name), '--json'], log)
    this.save([...this.processes, { name, ...mark }])
    return { name, mark, log, from }
  }

  /** Waits for the daemon's one line; the last thing it said is the reason where it ended instead. */
  async #ready(daemon: Starting): Promise<Ready> {
    const deadline = performance.now() + READY_TIMEOUT_MS
    const see = `See ${daemon.log}`
    for (;;) {
      this.options.signal.throwIfAborted()
      const alive = isAlive(daemon.mark)
      const said = readFileSync(daemon.log).subarray(daemon.from).toString().split('\n').slice(0, -1)
      const address = said.map(readyAddress).find((one) => one !== undefined)
      if (address !== undefined) return { name: daemon.name, pid: daemon.mark.pid, address }
      if (!alive) throw labError(`${daemon.name} ended at once: ${said.at(-1) ?? 'no output'}`, see)
      if (performance.now() > deadline) throw labError(`${daemon.name} does not get ready`, see)
      await sleep(POLL_MS)
    }
  }

  /** Each peer told its space, and holds what a recovery needs: the membership, the keys of both, where all are. */
  async #allSeen({ catalog, peers }: Fleet, count: number): Promise<void> {
    const deadline = performance.now() + READY_TIMEOUT_MS
    const homes = ['coordinator', 'appliance'].map((name) => openHome(this.state(name)))
    const keys = homes.flatMap((home) => home.ownEntries())
    const holdsAll = async (host: string) => {
      const held: Buffer[] = []
      for await (const { bytes } of peers.get(host).fetchDocuments('key')) held.push(bytes)
      const addresses: unknown[] = []
      for await (const address of peers.get(host).fetchDocuments('address')) addresses.push(address)
      return addresses.length > count && keys.every((key) => held.some((one) => one.equals(key)))
    }
    for (;;) {
      this.options.signal.throwIfAborted()
      const hosts = await catalog.hosts()
      const seen = hosts.filter((host) => host.role === 'peer' && !host.away && host.storage !== '')
      const equipped = await Promise.all(seen.map(({ host }) => holdsAll(host)))
      if (equipped.filter(Boolean).length >= count) return
      if (performance.now() > deadline) {
        throw labError(`Only ${seen.length} of ${count} peers got ready`, `See ${join(this.dir, 'logs')}`)
      }
      await sleep(4 * POLL_MS)
    }
  }
}

/** Where others may write, they could put a link to where our files then go. */
function refuseOthersFolder(dir: string): void {
  const there = lstatSync(dir)
  const refuse = (what: string, todo: string) => {
    throw labError(`${dir} ${what}`, todo)
  }
  if (there.isSymbolicLink()) refuse('is a link', 'Name the folder that it leads to, or another one')
  if (there.uid !== process.getuid?.()) refuse('belongs to another user', 'Choose another folder')
  if ((there.mode & 0o022) !== 0)
    refuse('can be written by others', `Run \`chmod go-w ${shellWord(dir)}\`, or choose another folder`)
}

function readyAddress(line: string): string | undefined {
  if (!line.startsWith('{')) return undefined
  const said = JSON.parse(line) as { status?: unknown; address?: unknown }
  return said.status === 'ready' ? String(said.address) : undefined
}

function readProcesses(dir: string): LabProcess[] | undefined {
  const path = join(dir, 'lab.json')
  if (!existsSync(path)) return undefined
  try {
    return v.parse(LabFile, JSON.parse(readFileSync(path, 'utf8'))).processes
  } catch (cause) {
    throw labError(`${path} is damaged`, 'Find the processes with `ps -ef` and end them by hand', cause)
  }
}

function saveProcesses(dir: string, processes: readonly LabProcess[]): void {
  writeDurable(join(dir, 'lab.json'), Buffer.from(`${JSON.stringify({ version: 1, processes }, null, 2)}\n`))
}

function labError(what: string, todo: string, cause?: unknown): ImagerError {
  return new ImagerError('LAB', { what, todo }, { cause })
}
