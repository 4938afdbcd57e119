/**
 * A process, named so that nobody else is taken for it: its id alone may since belong to another, so it is kept with the
 * kernel's start time and boot id, and all three must match.
 */
import { readFileSync } from 'node:fs'

export interface ProcessMark {
  readonly pid: number
  /** Clock ticks since boot, field 22 of /proc/PID/stat. */
  readonly started: string
  readonly boot: string
}

/** undefined where no such process runs. */
export function markProcess(pid: number): ProcessMark | undefined {
  const started = startTime(pid)
  return started === undefined ? undefined : { pid, started, boot: bootId() }
}

export function isAlive(mark: ProcessMark): boolean {
  return mark.boot === bootId() && startTime(mark.pid) === mark.started
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
