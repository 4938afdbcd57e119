/** Runs one command and says what it took. The operating system counts; nothing is sampled. */
import { spawn } from 'node:child_process'
import { open } from 'node:fs/promises'
import { cpus, release, totalmem } from 'node:os'

export interface Run {
  readonly seconds: number
  /** User and system time of the process and of its children. */
  readonly cpuSeconds: number
  /** The most memory that was resident at once in the process, or in one of its children where that is more. */
  readonly peakBytes: number
  readonly stdout: string
}

export interface Command {
  readonly argv: readonly string[]
  readonly env?: Readonly<Record<string, string>>
  readonly cwd?: string
}

/** Node cannot ask for a child's resource usage, so a few lines of Python do: wait4(2), answer on descriptor 3. */
const WAITER = `
import json, os, resource, sys, time
start = time.monotonic()
pid = os.fork()
if pid == 0:
    os.close(3)
    try:
        os.execvp(sys.argv[1], sys.argv[1:])
    except OSError as error:
        print(error, file=sys.stderr)
        os._exit(127)
_, status, used = os.wait4(pid, 0)
answer = {'seconds': time.monotonic() - start, 'cpuSeconds': used.ru_utime + used.ru_stime, 'peakBytes': used.ru_maxrss * 1024}
os.write(3, json.dumps(answer).encode())
sys.exit(os.waitstatus_to_exitcode(status) & 255)
`

/** Throws, with the end of stderr, unless the exit code is 0. */
export async function measure({ argv, env, cwd }: Command): Promise<Run> {
  const child = spawn('python3', ['-c', WAITER, ...argv], {
    cwd,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
  })
  const [stdout, stderr, usage, code] = await Promise.all([
    textOf(child.stdout),
    textOf(child.stderr),
    textOf(child.stdio[3] as NodeJS.ReadableStream),
    new Promise<number | null>((resolve, reject) => child.on('error', reject).on('close', resolve)),
  ])
  if (code !== 0) throw new Error(`${argv.join(' ')} ended with exit code ${code}:\n${stderr.slice(-2000)}`)
  return { ...(JSON.parse(usage) as Omit<Run, 'stdout'>), stdout }
}

async function textOf(stream: NodeJS.ReadableStream | null): Promise<string> {
  let text = ''
  stream?.setEncoding('utf8')
  for await (const part of stream ?? []) text += String(part)
  return text
}

/** Reads a file once, so that every contender finds it in the page cache. */
export async function warm(path: string): Promise<void> {
  const file = await open(path)
  const buffer = Buffer.alloc(4 << 20)
  try {
    while ((await file.read(buffer, 0, buffer.length, null)).bytesRead > 0);
  } finally {
    await file.close()
  }
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
