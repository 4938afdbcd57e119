/** imager itself under measurement: a lab of real processes, and the verbs with `--json`. */
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { type Command, measure, type Run, readSoFar } from './measure.js'
import type { Source } from './sources.js'
import type { Figures, Mounting, Restored, Tool } from './tool.js'

export const PEERS = 6
export const SCHEME = '4+2'
export const MISSING = 2
export const DEAD = `${MISSING} of ${PEERS} dead`
const IMAGER = [process.execPath, 'build/bin/imager.cjs']

/** What is read of the last line of `snapshot --json`. */
interface Snapshot {
  readonly snapshot: string
  readonly allocatedBytes: number
  readonly readBytes: number
  readonly newBytes: number
}

interface Report {
  readonly coordinator: { readonly pid: number }
  readonly peers: readonly { readonly pid: number }[]
}

export class Lab implements Tool {
  readonly name = 'imager'
  readonly version = ''
  readonly files = true
  #coordinator = 0
  #peers: readonly number[] = []
  readonly #snapshots = new Map<string, string>()
  readonly #folder: string

  constructor(work: string) {
    this.#folder = join(work, 'lab')
  }

  get beside(): readonly number[] {
    return this.#peers.length > 0 ? [this.#coordinator, ...this.#peers] : []
  }

  has(label: string): boolean {
    return this.#peers.length === PEERS && this.#snapshots.has(label)
  }

  async reset(): Promise<void> {
    await this.close()
    const { stdout } = await measure({
      argv: [...IMAGER, 'lab', 'up', this.#folder, '--peers', String(PEERS), '--json'],
    })
    const { coordinator, peers } = JSON.parse(stdout) as Report
    this.#coordinator = coordinator.pid
    this.#peers = peers.map((peer) => peer.pid)
  }

  async backup({ image }: Source, label: string): Promise<Run & { figures: Figures }> {
    const before = readSoFar(this.#coordinator)
    const run = await measure(this.#command('snapshot', image, '--scheme', SCHEME, '--json'))
    const coordinatorBytes = readSoFar(this.#coordinator) - before
    const { snapshot, allocatedBytes, readBytes, newBytes } = JSON.parse(lastLine(run.stdout)) as Snapshot
    this.#snapshots.set(label, snapshot)
    return { ...run, figures: { allocatedBytes, readBytes, newBytes, coordinatorBytes } }
  }

  /** What lies on the peers, parity included. */
  get stored(): string {
    return join(this.#folder, 'peers')
  }

  readonly restore = async ({ sizeBytes }: Source, label: string): Promise<{ run: Run } & Restored> => {
    const path = `${this.#folder}.restored`
    rmSync(path, { force: true })
    const run = await measure(this.#command('restore', this.#snapshots.get(label)!, '--to', path, '--json'))
    return { run, path, startBytes: 0, endBytes: sizeBytes }
  }

  readonly mount = ({ path, image }: Source, label: string, mountpoint: string): Mounting => {
    const command = this.#command('mount', '--foreground', this.#snapshots.get(label)!, mountpoint)
    return { command, path: join(mountpoint, path === image ? 'disk.img' : 'files/1') }
  }

  /** What it keeps, it keeps in the memory of the mount. */
  forget(): void {}

  /** As many hosts as may be missing die, and stay dead until `reset`. */
  lose(): void {
    for (const pid of this.#peers.slice(0, MISSING)) process.kill(pid, 'SIGKILL')
    this.#peers = this.#peers.slice(MISSING)
  }

  async close(): Promise<void> {
    if (this.#peers.length > 0) await measure({ argv: [...IMAGER, 'lab', 'down', this.#folder] })
    this.#peers = []
    this.#snapshots.clear()
    rmSync(this.#folder, { recursive: true, force: true })
  }

  #command(...args: string[]): Command {
    return { argv: [...IMAGER, ...args], env: { IMAGER_STATE: join(this.#folder, 'appliance') } }
  }
}

export function lastLine(text: string): string {
  return text.trimEnd().split('\n').at(-1) ?? ''
}
