/** imager itself under measurement: a lab of real processes, and the verbs with `--json`. */
import { join } from 'node:path'
import { measure, type Run } from './measure.js'

const IMAGER = [process.execPath, 'build/src/cli/main.js']

/** The last line of `snapshot --json`. */
export interface Snapshot {
  readonly snapshot: string
  readonly sourceBytes: number
  readonly allocatedBytes: number
  readonly readBytes: number
  readonly newBytes: number
  readonly storedBytes: number
  readonly blocks: number
  readonly newBlocks: number
  readonly seconds: number
  readonly survives: number
  readonly state: string
}

export class Lab {
  private constructor(
    readonly folder: string,
    readonly peers: readonly { pid: number }[],
  ) {}

  static async up(folder: string, peers: number): Promise<Lab> {
    const { stdout } = await measure({ argv: [...IMAGER, 'lab', 'up', folder, '--peers', String(peers), '--json'] })
    return new Lab(folder, (JSON.parse(stdout) as { peers: { pid: number }[] }).peers)
  }

  run(...args: string[]): Promise<Run> {
    return measure({ argv: [...IMAGER, ...args], env: { IMAGER_STATE: join(this.folder, 'appliance') } })
  }

  async snapshot(image: string, scheme: string): Promise<{ run: Run; report: Snapshot }> {
    const run = await this.run('snapshot', image, '--scheme', scheme, '--json')
    return { run, report: JSON.parse(lastLine(run.stdout)) as Snapshot }
  }

  restore(snapshot: string, target: string): Promise<Run> {
    return this.run('restore', snapshot, '--to', target, '--json')
  }

  kill(count: number): void {
    for (const { pid } of this.peers.slice(0, count)) process.kill(pid, 'SIGKILL')
  }

  async down(): Promise<void> {
    await this.run('lab', 'down', this.folder)
  }
}

export function lastLine(text: string): string {
  return text.trimEnd().split('\n').at(-1) ?? ''
}
