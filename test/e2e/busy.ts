/** What `busy-writer.py` leaves, and whether it can be of one moment. */
import { deepEqual, equal, ok } from 'node:assert/strict'
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { KiB } from '../../src/base/units.js'

const WRITER = fileURLToPath(new URL('../../../test/e2e/busy-writer.py', import.meta.url))
const SIZES = { 'in-place': 1024, mapped: 256, renamed: 50 } as const

export async function startWriter(pauseSeconds: number, generations: number, folder: string): Promise<ChildProcess> {
  const writer = spawn('python3', [WRITER, String(pauseSeconds), String(generations), folder], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  await once(writer.stdout, 'data')
  return writer
}

export async function stopWriter(writer: ChildProcess): Promise<void> {
  if (writer.exitCode !== null || writer.signalCode !== null) return
  writer.kill('SIGKILL')
  await once(writer, 'exit')
}

/** Mounts a copy of the disk and looks; the kernel replays the journal, if there is anything in it. */
export function atOneMoment(image: string, mountpoint: string, ...options: string[]): number {
  mkdirSync(mountpoint, { recursive: true })
  execFileSync('mount', ['-o', ['loop', ...options].join(','), image, mountpoint])
  try {
    return generationAt(mountpoint)
  } finally {
    execFileSync('umount', [mountpoint])
  }
}

/** The generation that was being written. Throws where the files are not of one moment. */
export function generationAt(folder: string): number {
  const inPlace = generationsOf(folder, 'in-place')
  const mapped = generationsOf(folder, 'mapped')
  const renamed = generationsOf(folder, 'renamed')
  const lines = readFileSync(`${folder}/appended`, 'latin1').trimEnd().split('\n').map(Number)
  deepEqual(
    lines,
    Array.from({ length: lines.length }, (_, line) => line),
    'every line, and none twice',
  )
  for (const { first, last } of [inPlace, mapped]) ok(first - last <= 1, `${first} after ${last}`)
  equal(renamed.first, renamed.last)
  const appended = lines.length - 1
  const order = [inPlace.first, inPlace.last, mapped.first, mapped.last, appended, renamed.first]
  deepEqual(
    order,
    [...order].sort((a, b) => b - a),
    `written in this order: ${order.join(' ')}`,
  )
  ok(inPlace.first - renamed.first <= 1, `${inPlace.first} and ${renamed.first}`)
  return inPlace.first
}

/** A file is written from its beginning to its end: so it is of one generation up to some block, of the one before behind. */
function generationsOf(folder: string, name: keyof typeof SIZES): { first: number; last: number } {
  const bytes = readFileSync(`${folder}/${name}`)
  equal(bytes.length, SIZES[name] * 4 * KiB)
  const generations: number[] = []
  for (let at = 0; at < bytes.length; at += 4 * KiB) {
    const block = bytes.subarray(at, at + 4 * KiB)
    const first = block.toString('latin1', 0, 16)
    // A store to memory may be seen half done, a write may not.
    if (name !== 'mapped') ok(block.equals(Buffer.alloc(4 * KiB, first)), `${name} at ${at}`)
    generations.push(Number(first))
  }
  const falling = [...generations].sort((a, b) => b - a)
  ok(
    generations.every((generation, at) => generation === falling[at]),
    `${name}: ${[...new Set(generations)].join(' ')}`,
  )
  return { first: generations[0] ?? -1, last: generations.at(-1) ?? -1 }
}
