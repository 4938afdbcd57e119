/** The coordinator of a lab ended and started again in its own folder, what `status` says, and the line that it says to type. */
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { imager, lastLine, type Outcome, start, type TestLab } from './lab.js'

export interface Problem {
  code: string
  sentence: string
  remedy: string
}

export interface Coordinator {
  readonly child: ChildProcess
  /** What it said on stderr. */
  said(): string
  /** False where it ended instead of becoming ready. */
  readonly ready: Promise<boolean>
  kill(): Promise<void>
}

export function startCoordinator(lab: TestLab): Coordinator {
  const child = start(['coordinator', '--state', lab.lab.coordinator.state, '--json'])
  let said = ''
  child.stderr?.on('data', (chunk: Buffer) => (said += chunk.toString()))
  const ended = once(child, 'exit')
  const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream })
  lines.on('line', (line) => (said += line))
  const ready = Promise.race([
    once(lines, 'line').then(([line]) => /"ready"/.test(String(line))),
    ended.then(() => false),
  ])
  return {
    child,
    said: () => said,
    ready,
    async kill() {
      child.kill('SIGKILL')
      await ended
    },
  }
}

export function status(lab: TestLab): Promise<Outcome> {
  return imager('status', '--json', '--state', lab.lab.appliance.state)
}

/** Where `status` itself fails, its error is the problem. */
export async function problems(lab: TestLab): Promise<Problem[]> {
  const outcome = await status(lab)
  const line = lastLine<{ problems?: Problem[]; code?: string; message?: string; remedy?: string }>(outcome)
  if (line.problems) return line.problems
  return [{ code: line.code ?? '', sentence: line.message ?? '', remedy: line.remedy ?? '' }]
}

/** Waits until `status` tells of `code`, or no longer does; undefined where that does not come. */
export async function untilTold(
  lab: TestLab,
  code: string,
  isTold = true,
  timeoutMs = 30_000,
): Promise<Problem | true | undefined> {
  for (const end = Date.now() + timeoutMs; Date.now() < end; await sleep(300)) {
    const found = (await problems(lab)).find((one) => one.code === code)
    if (found && isTold) return found
    if (!found && !isTold) return true
  }
  return undefined
}

/** Types what stands between backticks, with the lab's words and an address where none was known. */
export async function typeRemedy(lab: TestLab, text: string): Promise<Outcome> {
  const line = /`imager (recover [^`]+)`/.exec(text)?.[1]
  if (line === undefined) return { code: -1, stdout: '', stderr: `no line to type in: ${text}` }
  const [peer] = lab.lab.peers
  const typed = line.replace('words.txt', lab.lab.wordsFile).replace('HOST:7421', peer?.address ?? '')
  return imager(...typed.split(' '), '--json')
}

export const catalogFile = (lab: TestLab): string => join(lab.lab.coordinator.state, 'catalog', 'catalog.db')
