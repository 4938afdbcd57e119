/** Processes that outlive the command which started them, and ending exactly those: their marks must match before. */
import { spawn } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { ImagerError } from '../base/errors.js'
import { isAlive, markProcess, type ProcessMark } from '../base/process-mark.js'

const POLL_MS = 20

/** Runs node in a session of its own, its output appended to `log`; it holds nothing of the caller's open. */
export function startDetached(args: readonly string[], log: string): ProcessMark {
  const file = openSync(log, 'a', 0o600)
  try {
    const child = spawn(process.execPath, args, { detached: true, stdio: ['ignore', file, file], cwd: '/' })
    child.on('error', () => undefined)
    child.unref()
    const mark = child.pid === undefined ? undefined : markProcess(child.pid)
    if (mark === undefined) throw new ImagerError('IO', { what: `node ${args.join(' ')} could not be started` })
    return mark
  } finally {
    closeSync(file)
  }
}

/** Asks them to end, then makes them; those that are gone or are somebody else's are left alone. Gives how many ended. */
export async function endProcesses(marks: readonly ProcessMark[], graceMs: number): Promise<number> {
  const alive = marks.filter(isAlive)
  for (const name of ['SIGTERM', 'SIGKILL'] as const) {
    for (const mark of alive) signal(mark, name)
    const deadline = performance.now() + graceMs
    while (alive.some(isAlive) && performance.now() < deadline) await sleep(POLL_MS)
  }
  return alive.filter((mark) => !isAlive(mark)).length
}

function signal(mark: ProcessMark, name: NodeJS.Signals): void {
  if (!isAlive(mark)) return
  try {
    process.kill(mark.pid, name)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}
