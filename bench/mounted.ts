/** A mount under measurement: from the start of its process until it is taken away again. */
import { closeSync, mkdirSync, openSync, readSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Run, start } from './measure.js'
import { run } from './sources.js'
import type { Mounting } from './tool.js'

export interface Ready {
  readonly path: string
  /** From the start of the process until the mount is there and the source can be seen in it. */
  readonly readySeconds: number
  /** From the start of the process until the first bytes came; of an image only. */
  readonly firstByteSeconds: number
}

/** Behind the partition table, where every file system begins with something. */
const FIRST_BYTES_AT = 1024 * 1024
const POLL_MS = 1
const READY_TIMEOUT_SECONDS = 120

/** Gives what `work` gives, and what the process of the mount took until it ended. */
export async function withMount<T>(
  mountpoint: string,
  { command, path }: Mounting,
  work: (ready: Ready) => Promise<T>,
): Promise<{ result: T; run: Run }> {
  mkdirSync(mountpoint, { recursive: true })
  const { began, done, stop } = start(command)
  let ended = false
  // Looked at from time to time, and awaited in the end: a failure meanwhile is nobody's yet.
  done
    .catch(() => undefined)
    .finally(() => {
      ended = true
    })
  let result: T
  try {
    const start = await began
    const since = () => Number(process.hrtime.bigint()) / 1e9 - start
    while (!isVisible(mountpoint, path)) {
      if (ended) throw new Error(`${command.argv.join(' ')} ended without a mount: ${JSON.stringify(await done)}`)
      if (since() > READY_TIMEOUT_SECONDS) throw new Error(`${command.argv.join(' ')} does not get ready`)
      await sleep(POLL_MS)
    }
    const readySeconds = since()
    if (statSync(path).isFile()) readFirst(path)
    result = await work({ path, readySeconds, firstByteSeconds: since() })
  } catch (error) {
    stop()
    await takeAway(mountpoint)
    throw error
  }
  await takeAway(mountpoint)
  return { result, run: await done }
}

/** `path` leads into the mount, and not past it. */
function isVisible(mountpoint: string, path: string): boolean {
  try {
    return statSync(mountpoint).dev !== statSync(dirname(mountpoint)).dev && statSync(path) !== undefined
  } catch {
    return false
  }
}

function readFirst(path: string): void {
  const file = openSync(path, 'r')
  readSync(file, Buffer.alloc(4096), 0, 4096, FIRST_BYTES_AT)
  closeSync(file)
}

/** Whoever read last may not have let go yet. */
async function takeAway(mountpoint: string): Promise<void> {
  for (let left = 50; ; left--) {
    try {
      if (statSync(mountpoint).dev !== statSync(dirname(mountpoint)).dev) run('umount', mountpoint)
      return
    } catch (error) {
      if (left === 0) throw error
      await sleep(100)
    }
  }
}
