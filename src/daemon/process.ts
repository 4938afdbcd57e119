/**
 * Processes that outlive the command which started them, and ending exactly those. A process id alone may since belong to
 * somebody else, so it is kept with the kernel's start time and boot id, and all three must match before anything is ended.
 */
import { spawn } from 'node:child_process'
import { closeSync, openSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { ImagerError } from '../base/errors.js'

export interface ProcessMark {
  readonly pid: number
  /** Clock ticks since boot, field 22 of /proc/PID/stat. */
  readonly started: string
  readonly boot: string
}

const POLL_MS = 20

/** Runs node in a session of its own, its output appended to `log`; it holds nothing of the caller's open. */
export function startDetached(args: readonly string[], log: string): ProcessMark {
  const file = openSync(log, 'a', 0o600)
  try {
    const child = spawn(process.execPath, args, { detached: true, stdio: ['ignore', file, file], cwd: '/' })
    child.on('error', () => undefined)
    child.unref()
    const started = child.pid === undefined ? undefined : startTime(child.pid)
    if (child.pid === undefined || started === undefined) {
      throw new ImagerError('IO', { what: `node ${args.join(' ')} could not be started` })
    }
    return { pid: child.pid, started, boot: bootId() }
  } finally {
    closeSync(file)
  }
}

export function isAlive(mark: ProcessMark): boolean {
  return mark.boot === bootId() && startTime(mark.pid) === mark.started
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

/** undefined where no such process runs; one that ended and was not yet collected does not run. */
function startTime(pid: number): string | undefined {
  let stat: string
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  } catch {
    return undefined
  }
  // The second field is the program's name in brackets and may hold anything.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19]
}

function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
}
