/**
 * Restores that are killed at a seeded byte, and what is done to their target or journal before the same command is run
 * again: for ten of them in every test run (`reimage.test.ts`), for two hundred in a long one (`test/long`).
 */
import { once } from 'node:events'
import {
  closeSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { KiB, MiB } from '../../src/base/units.js'
import type { RestoreReport } from '../../src/jobs/restore/disk.js'
import { firstDifference } from './disks.js'
import { imager, lastLine, start } from './lab.js'

/** 0 up to, not including, 1: the same for the same seed (mulberry32). */
export function randomOf(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/** What a change is made to. */
interface Scene {
  readonly target: string
  readonly journal: string | undefined
  /** An image that is no part of the snapshot, as long as the disk. */
  readonly other: string
  readonly sizeBytes: number
  readonly random: () => number
}

function write(path: string, at: number, bytes: Buffer): void {
  const file = openSync(path, 'r+')
  writeSync(file, bytes, 0, bytes.length, at)
  closeSync(file)
}

function noise({ random }: Scene, bytes: number): Buffer {
  return Buffer.from(Uint8Array.from({ length: bytes }, () => Math.floor(random() * 256)))
}

const below = ({ random }: Scene, limit: number) => Math.floor(random() * limit)

/** A window that the journal knows; any where it knows none yet. */
function someWindow(scene: Scene): number {
  const starts = [...readFileSync(scene.journal ?? '/dev/null', 'utf8').matchAll(/"start":(\d+)/g)]
  const known = starts.map(([, start]) => Number(start)).filter((start) => start > 0)
  return known[below(scene, known.length)] ?? below(scene, scene.sizeBytes - MiB)
}

export const CHANGES: Readonly<Record<string, (scene: Scene) => void>> = {
  nothing: () => {},
  'a finished window touched': (scene) => write(scene.target, someWindow(scene), noise(scene, 4 * KiB)),
  'made anew with the same inode': (scene) => {
    truncateSync(scene.target, 0)
    if (scene.random() < 0.5) truncateSync(scene.target, scene.sizeBytes)
  },
  truncated: (scene) => truncateSync(scene.target, below(scene, scene.sizeBytes)),
  grown: (scene) => write(scene.target, scene.sizeBytes, noise(scene, 1 + below(scene, 300 * KiB))),
  zeros: (scene) => {
    for (let at = 0; at < scene.sizeBytes; at += MiB) {
      write(scene.target, at, Buffer.alloc(Math.min(MiB, scene.sizeBytes - at)))
    }
  },
  'another image': (scene) => write(scene.target, 0, readFileSync(scene.other)),
  'table overwritten': (scene) => write(scene.target, 0, noise(scene, MiB)),
  'journal flipped': (scene) => {
    if (scene.journal === undefined) return
    const bytes = readFileSync(scene.journal)
    const bit = below(scene, bytes.length * 8)
    bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7))
    writeFileSync(scene.journal, bytes)
  },
  'journal removed': ({ journal }) => rmSync(journal ?? '', { force: true }),
}

export interface Stage {
  readonly folder: string
  /** State folder of the appliance. */
  readonly state: string
  readonly disk: string
  readonly other: string
  /** Bytes of the disk that are in use. */
  readonly usedBytes: number
  /** It is killed when its journal calls the first section finished, not at a seeded byte. */
  readonly afterSection?: boolean
}

export interface Interruption {
  readonly seed: number
  readonly change: string
  /** What the killed run had written, by the kernel's count. */
  readonly killedAtBytes: number
  /** What the journal called finished then. */
  readonly sectionsDone: number
  /** What of the disk stood right on the target when the same command was run again. */
  readonly rightBytes: number
  /** `goes on`: 0. `refused`: TARGET_NOT_EMPTY, and with `--delta --force` it went on. */
  readonly outcome: 'goes on' | 'refused'
  readonly writtenBytes: number
  /** What stood right and was written once more, as a share of all that is in use. */
  readonly writtenAgain: number
  /** What is wrong; undefined where nothing is. */
  readonly failure: string | undefined
}

/** Pages of the disk that hold something, and those of them that the target holds too. */
export function rightBytes(disk: string, target: string): { used: number; right: number } {
  const [left, right] = [openSync(disk, 'r'), openSync(target, 'r')]
  try {
    const [one, two] = [Buffer.alloc(MiB), Buffer.alloc(MiB)]
    const zeros = Buffer.alloc(4 * KiB)
    const counted = { used: 0, right: 0 }
    for (let at = 0; at < statSync(disk).size; at += MiB) {
      const length = readSync(left, one, 0, MiB, at)
      two.fill(0xff)
      readSync(right, two, 0, MiB, at)
      for (let page = 0; page < length; page += zeros.length) {
        const wanted = one.subarray(page, page + zeros.length)
        if (wanted.equals(zeros)) continue
        counted.used += wanted.length
        if (wanted.equals(two.subarray(page, page + zeros.length))) counted.right += wanted.length
      }
    }
    return counted
  } finally {
    closeSync(left)
    closeSync(right)
  }
}

/** Kills a restore once it `isDue`, told what it has written; gives that, or undefined where it was done before. */
async function killWhen(isDue: (written: number) => boolean, command: readonly string[]): Promise<number | undefined> {
  const child = start(command)
  const ended = once(child, 'close')
  let written = 0
  while (child.exitCode === null && child.signalCode === null) {
    const found = /^write_bytes: (\d+)$/m.exec(readIo(child.pid ?? 0))?.[1]
    written = Math.max(written, Number(found ?? 0))
    if (isDue(written)) break
    await sleep(1)
  }
  child.kill('SIGKILL')
  const [code] = (await ended) as [number | null]
  return code === null ? written : undefined
}

/** What the journal in a state folder calls finished. */
function sectionsIn(state: string): number {
  const journal = readdirSync(state).find((name) => name.endsWith('.journal'))
  return Number(/"next":(\d+)/.exec(journal ? readFileSync(join(state, journal), 'utf8') : '')?.[1] ?? 0)
}

function readIo(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/io`, 'utf8')
  } catch {
    return ''
  }
}

export async function interruptOnce(stage: Stage, seed: number): Promise<Interruption> {
  const { folder, state, disk, other, usedBytes } = stage
  const random = randomOf(seed)
  const names = Object.keys(CHANGES)
  const change = names[seed % names.length] as string
  const target = join(folder, `target-${seed}.img`)
  const command = ['restore', 'latest', '--to', target, '--json', '--state', state]
  let killedAtBytes: number | undefined
  for (let tries = 0; killedAtBytes === undefined; tries++) {
    if (tries === 20) throw new Error(`seed ${seed}: every restore was faster than its signal`)
    rmSync(target, { force: true })
    const due = Math.floor((0.02 + 0.9 * random()) * usedBytes)
    const isDue = stage.afterSection ? () => sectionsIn(state) > 0 : (written: number) => written >= due
    killedAtBytes = await killWhen(isDue, command)
  }
  const journal = readdirSync(state).find((name) => name.endsWith('.journal'))
  const sectionsDone = sectionsIn(state)
  const { size: sizeBytes } = statSync(disk)
  CHANGES[change]?.({ target, journal: journal && join(state, journal), other, sizeBytes, random })
  const { right } = rightBytes(disk, target)
  const again = await finish(stage, command, target)
  const needed = usedBytes - right
  const writtenAgain = Math.max(0, again.writtenBytes - needed) / usedBytes
  rmSync(target, { force: true })
  return { seed, change, killedAtBytes, sectionsDone, rightBytes: right, writtenAgain, ...again }
}

async function finish({ state, disk }: Stage, command: readonly string[], target: string) {
  let outcome: Interruption['outcome'] = 'goes on'
  let done = await imager(...command)
  if (done.code !== 0) {
    const { code, message } = lastLine<{ code: string; message: string }>(done)
    if (code !== 'TARGET_NOT_EMPTY' || !message.includes(target)) {
      return { outcome, writtenBytes: 0, failure: `it ends with ${done.code}, ${code}: ${message}` }
    }
    outcome = 'refused'
    done = await imager(...command, '--delta', '--force')
  }
  if (done.code !== 0) return { outcome, writtenBytes: 0, failure: `with --force it ends with ${done.code}` }
  const { writtenBytes } = lastLine<RestoreReport>(done)
  const at = firstDifference(disk, target)
  const left = readdirSync(state).filter((name) => name.endsWith('.journal'))
  const failure =
    at !== undefined ? `it ended 0, and byte ${at} is wrong` : left.length > 0 ? 'a journal is left' : undefined
  return { outcome, writtenBytes, failure }
}
