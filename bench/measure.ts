/** Runs one command and says what it took. The operating system counts; only the memory of several processes together is sampled. */
import { type ChildProcess, spawn } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { cpus, release, totalmem } from 'node:os'

export interface Run {
  readonly seconds: number
  /** User and system time of the process and of its children. */
  readonly cpuSeconds: number
  /** The most memory that was resident at once in the process and its children together. */
  readonly peakBytes: number
  readonly stdout: string
}

/** What processes that were there before took meanwhile. */
export interface Beside {
  readonly cpuSeconds: number
  /** The sum of each one's own peak. */
  readonly peakBytes: number
}

export interface Command {
  readonly argv: readonly string[]
  readonly env?: Readonly<Record<string, string>>
  readonly cwd?: string
}

/**
 * Node cannot ask for a child's resource usage, so a few lines of Python do: wait4(2), answer on descriptor 3; before that
 * they say there when they begin, by the clock that `process.hrtime` reads too. What a single process held at most the kernel knows exactly; the sum over a pipeline is looked at every 50 ms.
 */
const WAITER = `
import json, os, signal, sys, threading, time
start = time.monotonic()
os.write(3, f'{start}\\n'.encode())
pid = os.fork()
if pid == 0:
    os.close(3)
    try:
        os.execvp(sys.argv[1], sys.argv[1:])
    except OSError as error:
        print(error, file=sys.stderr)
        os._exit(127)
signal.signal(signal.SIGTERM, lambda *_: os.kill(pid, signal.SIGTERM))
PAGE, most, over = os.sysconf('SC_PAGE_SIZE'), 0, threading.Event()
def look():
    family, total = {pid}, 0
    for one in sorted(int(name) for name in os.listdir('/proc') if name.isdigit() and int(name) >= pid):
        try:
            with open(f'/proc/{one}/stat') as file:
                fields = file.read().rpartition(')')[2].split()
        except OSError:
            continue
        if one in family or int(fields[1]) in family:
            family.add(one)
            total += int(fields[21]) * PAGE
    return total
def watch():
    global most
    while not over.wait(0.05):
        most = max(most, look())
watcher = threading.Thread(target=watch)
watcher.start()
_, status, used = os.wait4(pid, 0)
seconds = time.monotonic() - start
over.set()
watcher.join()
answer = {'seconds': seconds, 'cpuSeconds': used.ru_utime + used.ru_stime, 'peakBytes': max(most, used.ru_maxrss * 1024)}
os.write(3, json.dumps(answer).encode())
sys.exit(os.waitstatus_to_exitcode(status) & 255)
`

/** A command that runs; `done` throws, with the end of stderr, unless the exit code is 0. */
export interface Started {
  /** When the command itself began, in seconds of `process.hrtime`. */
  readonly began: Promise<number>
  readonly done: Promise<Run>
  /** Asks it to end. */
  stop(): void
}

export function start({ argv, env, cwd }: Command): Started {
  const child = spawn('python3', ['-c', WAITER, ...argv], {
    cwd,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
  })
  const usage = child.stdio[3] as NodeJS.ReadableStream
  const began = new Promise<number>((resolve) => usage.once('data', (line) => resolve(Number.parseFloat(String(line)))))
  return { began, done: finish(child, argv), stop: () => void child.kill('SIGTERM') }
}

export function measure(command: Command): Promise<Run> {
  return start(command).done
}

async function finish(child: ChildProcess, argv: readonly string[]): Promise<Run> {
  const [stdout, stderr, usage, code] = await Promise.all([
    textOf(child.stdout),
    textOf(child.stderr),
    textOf(child.stdio[3] as NodeJS.ReadableStream),
    new Promise<number | null>((resolve, reject) => child.on('error', reject).on('close', resolve)),
  ])
  if (code !== 0) throw new Error(`${argv.join(' ')} ended with exit code ${code}:\n${stderr.slice(-2000)}`)
  return { ...(JSON.parse(usage.split('\n')[1] ?? '') as Omit<Run, 'stdout'>), stdout }
}

async function textOf(stream: NodeJS.ReadableStream | null): Promise<string> {
  let text = ''
  stream?.setEncoding('utf8')
  for await (const part of stream ?? []) text += String(part)
  return text
}

/** USER_HZ, which is 100 on every Linux that Node runs on. */
const TICKS_PER_SECOND = 100

/** Watches processes while `work` goes on. */
export async function beside<T>(pids: readonly number[], work: () => Promise<T>): Promise<[T, Beside]> {
  // Forgets the peak so far (proc(5), clear_refs).
  for (const pid of pids) writeFileSync(`/proc/${pid}/clear_refs`, '5')
  const before = cpuTicks(pids)
  const result = await work()
  const peaks = pids.map((pid) => /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1])
  const cpuSeconds = (cpuTicks(pids) - before) / TICKS_PER_SECOND
  return [result, { cpuSeconds, peakBytes: peaks.reduce((sum, peak) => sum + Number(peak) * 1024, 0) }]
}

function cpuTicks(pids: readonly number[]): number {
  return pids.reduce((sum, pid) => {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return sum + Number(fields[11]) + Number(fields[12])
  }, 0)
}

/** All that a process has read since it began, from sockets and files alike (proc(5), io). */
export function readSoFar(pid: number): number {
  return Number(/^rchar: (\d+)$/m.exec(readFileSync(`/proc/${pid}/io`, 'utf8'))?.[1])
}

/** What the figures were taken on. */
export function machine(): Record<string, string | number> {
  const processors = cpus()
  return {
    processor: processors[0]?.model ?? 'unknown',
    cores: processors.length,
    memoryGiB: Math.round(totalmem() / 1024 ** 3),
    kernel: release(),
    node: process.version,
  }
}
