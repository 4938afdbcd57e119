/**
 * A process of its own that freezes file systems and thaws them: when told, when whoever started it is gone (its end of the
 * pipe closes), and after the time limit whatever happens. `node watchdog.js MILLISECONDS MOUNTPOINT...`
 *
 * It says `frozen`, then `thawed` where it was told in time, or `late`; or else why it could not freeze.
 */
import { execFile } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { promisify } from 'node:util'

/** A folder held open stays the same file system, whatever is mounted over it or moved meanwhile. */
interface Held {
  readonly folder: number
  readonly point: string
}

const say = (line: string) => process.stdout.write(`${line}\n`)

async function fsfreeze(flag: '-f' | '-u', { folder }: Held): Promise<void> {
  await promisify(execFile)('fsfreeze', [flag, `/proc/${process.pid}/fd/${folder}`])
}

async function freezeAll(held: readonly Held[], frozen: Held[]): Promise<string | undefined> {
  for (const one of held) {
    try {
      await fsfreeze('-f', one)
      frozen.push(one)
    } catch (error) {
      return `${one.point} cannot be frozen: ${String((error as { stderr?: string }).stderr ?? error).trim()}`
    }
  }
  return undefined
}

async function main(limit: number, points: readonly string[]): Promise<void> {
  const told = new Promise<'thawed'>((resolve) => process.stdin.once('data', () => resolve('thawed')))
  const gone = new Promise<'late'>((resolve) => process.stdin.once('end', () => resolve('late')))
  const late = new Promise<'late'>((resolve) => setTimeout(resolve, limit, 'late' as const).unref())
  const held = points.map((point) => ({ point, folder: openSync(point, 'r') }))
  const frozen: Held[] = []
  const failure = await freezeAll(held, frozen)
  if (!failure) say('frozen')
  const end = failure ?? (await Promise.race([told, gone, late]))
  // Each is tried, whatever became of the others; one that somebody else thawed is no failure of ours, but is not held.
  const thaws = await Promise.allSettled(frozen.reverse().map((one) => fsfreeze('-u', one)))
  say(end === 'thawed' && thaws.some(({ status }) => status === 'rejected') ? 'late' : end)
  for (const { folder } of held) closeSync(folder)
  process.stdin.destroy()
}

// Of SIGUSR1 Node would open its inspector.
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGUSR1'] as const) process.on(name, () => undefined)
process.stdout.on('error', () => undefined)
await main(Number(process.argv[2]), process.argv.slice(3))
