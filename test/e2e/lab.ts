/** A lab of real processes in a folder of its own, a small real disk, and what is done to them. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { closeSync, mkdirSync, mkdtempSync, openSync, readSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { ExecutionContext } from 'ava'
import { MiB } from '../../src/base/units.js'
import type { LabReport } from '../../src/daemon/lab.js'
import type { RestoreReport } from '../../src/jobs/restore/disk.js'
import type { SnapshotReader } from '../../src/retrieve/reader.js'
import { firstDifference } from './disks.js'

export const MAIN = fileURLToPath(new URL('../../bin/imager.cjs', import.meta.url))

export interface Outcome {
  code: number
  stdout: string
  stderr: string
}

/** What a lab needs of a test, or of whoever runs it as long as one. */
export interface Ground {
  is(actual: unknown, expected: unknown, message?: string): unknown
  teardown(work: () => void | Promise<void>): void
}

export function start(argv: readonly string[]): ChildProcess {
  return spawn(process.execPath, [MAIN, ...argv], { stdio: ['ignore', 'pipe', 'pipe'] })
}

export async function imager(...argv: string[]): Promise<Outcome> {
  const child = start(argv)
  let [stdout, stderr] = ['', '']
  child.stdout?.on('data', (chunk: Buffer) => (stdout += chunk.toString()))
  child.stderr?.on('data', (chunk: Buffer) => (stderr += chunk.toString()))
  const [code] = (await once(child, 'close')) as [number]
  return { code, stdout, stderr }
}

/** The last line of `--json`. */
export function lastLine<T>({ stdout }: Outcome): T {
  return JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as T
}

export class TestLab {
  private constructor(
    readonly folder: string,
    readonly lab: LabReport,
  ) {}

  static async up(t: Ground, peers: number): Promise<TestLab> {
    const folder = mkdtempSync(join(tmpdir(), 'imager-e2e-'))
    t.teardown(async () => {
      await imager('lab', 'down', join(folder, 'lab'))
      rmSync(folder, { recursive: true, force: true })
    })
    const outcome = await imager('lab', 'up', join(folder, 'lab'), '--peers', String(peers), '--json')
    t.is(outcome.code, 0, outcome.stdout + outcome.stderr)
    return new TestLab(folder, lastLine<LabReport>(outcome))
  }

  /** A lab with one snapshot of one disk; `state`: the options that name the appliance. */
  static async imaged(t: ExecutionContext, peers: number, sizeMiB: number) {
    const lab = await TestLab.up(t, peers)
    const disk = lab.makeDisk('disk.img', sizeMiB)
    await lab.snapshot(t, disk)
    return { lab, disk, state: ['--state', lab.lab.appliance.state] }
  }

  path(name: string): string {
    return join(this.folder, name)
  }

  /** An ext4 file system with some files, as large ones as small ones. */
  makeDisk(name: string, sizeMiB: number): string {
    const files = this.path(`${name}.files`)
    mkdirSync(join(files, 'folder'), { recursive: true })
    writeFileSync(join(files, 'large'), randomBytes(Math.floor((sizeMiB * MiB) / 3)))
    for (let index = 0; index < 200; index++) {
      writeFileSync(join(files, 'folder', `file ${index}`), randomBytes(index * 50))
    }
    const path = this.path(name)
    execFileSync('mkfs.ext4', ['-q', '-d', files, path, `${sizeMiB}M`], { stdio: 'pipe' })
    rmSync(files, { recursive: true })
    return path
  }

  async snapshot(t: Pick<Ground, 'is'>, disk: string, ...more: string[]): Promise<string> {
    const outcome = await imager('snapshot', disk, ...more, '--state', this.lab.appliance.state, '--json')
    t.is(outcome.code, 0, outcome.stdout + outcome.stderr)
    return lastLine<{ snapshot: string }>(outcome).snapshot
  }

  /** Restores the latest snapshot beside its disk, and compares them. */
  async restoreLatest(t: ExecutionContext, disk: string, name = 'target.img'): Promise<RestoreReport> {
    const target = this.path(name)
    const done = await imager('restore', 'latest', '--to', target, '--json', '--state', this.lab.appliance.state)
    t.is(done.code, 0, done.stdout + done.stderr)
    t.is(firstDifference(disk, target), undefined)
    return lastLine<RestoreReport>(done)
  }

  /** A folder to mount on; nothing is mounted there when the test ends. */
  mountpoint(t: ExecutionContext): string {
    const path = this.path('mnt')
    mkdirSync(path)
    t.teardown(() => imager('unmount', path))
    return path
  }

  /** Kills a process of the lab, and waits until it is gone. */
  async kill(pid: number): Promise<void> {
    process.kill(pid, 'SIGKILL')
    for (;;) {
      try {
        process.kill(pid, 0)
      } catch {
        return
      }
      await sleep(10)
    }
  }

  /** Appliance and coordinator burn, with all that they knew. */
  async burn(): Promise<void> {
    await this.kill(this.lab.coordinator.pid)
    for (const { state } of [this.lab.coordinator, this.lab.appliance]) rmSync(state, { recursive: true })
  }

  startPeer(index: number, ...more: string[]): ChildProcess {
    const { state, store } = this.lab.peers[index] as LabReport['peers'][number]
    return start(['peer', '--state', state, '--store', store, '--keep-free', '1M', ...more, '--json'])
  }
}

/** Every byte; free space, which is not kept, must read as zeros wherever it does not read as on the disk. */
export async function sameDisk(t: ExecutionContext, path: string, snapshot: SnapshotReader): Promise<void> {
  const { size } = statSync(path)
  t.is(snapshot.sizeBytes, size)
  const file = openSync(path, 'r')
  try {
    for (let at = 0; at < size; at += 8 * MiB) {
      const length = Math.min(8 * MiB, size - at)
      const window = Buffer.alloc(length)
      readSync(file, window, 0, length, at)
      const read = await snapshot.readDisk(at, length)
      t.true(window.equals(read.take()), `the window at ${at}`)
    }
  } finally {
    closeSync(file)
  }
}
