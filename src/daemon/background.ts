/**
 * `imager mount` without --foreground: starts itself again as a process of its own session that holds nothing of the
 * caller's, and waits until that says that the mount is ready, or why not. This half loads nothing heavy.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, existsSync, openSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { ImagerError } from '../base/errors.js'
import type { Among } from '../catalog/types.js'
import { type Ready, readChild } from './parent.js'

/** How long a mount may take to be ready: a peer that does not answer costs up to its deadline, twice. */
const READY_TIMEOUT_MS = 60_000
const LOG = 'mount.log'
/**
 * Node's limit for each half of the young generation, in MiB: a mount's objects die young, and the default of 16 takes
 * memory that the cache of blocks can use.
 */
const YOUNG = '--max-semi-space-size=4'

export interface BackgroundOptions extends Among {
  readonly snapshot: string
  readonly mountpoint: string
  readonly state: string
  /** Handed over by the process's standard input. */
  readonly words?: string | undefined
  /** The file that `node` runs. */
  readonly program: string
  readonly signal: AbortSignal
}

/** Throws what the process in the background failed with. */
export async function mountInBackground(options: BackgroundOptions): Promise<Ready> {
  const { snapshot, source, host, mountpoint, state, words, program, signal } = options
  if (!existsSync(state)) throw new ImagerError('NO_FLEET', { state })
  const log = join(state, LOG)
  const file = openSync(log, 'a', 0o600)
  const among = [
    ...(source === undefined ? [] : [`--source=${source}`]),
    ...(host === undefined ? [] : [`--host=${host}`]),
    ...(words === undefined ? [] : ['--words-file', '-']),
  ]
  const args = [YOUNG, program, 'mount', '--foreground', '--state', state, ...among, snapshot, resolve(mountpoint)]
  let child: ChildProcess
  try {
    const input = words === undefined ? 'ignore' : 'pipe'
    child = spawn(process.execPath, args, { detached: true, stdio: [input, file, file, 'ipc'], cwd: '/' })
    // One that ended before it read them says why on the channel.
    child.stdin?.on('error', () => undefined)
    child.stdin?.end(words)
  } finally {
    closeSync(file)
  }
  try {
    return await readyOf(child, mountpoint, log, signal)
  } catch (error) {
    child.kill('SIGTERM')
    throw error
  } finally {
    child.removeAllListeners()
    if (child.connected) child.disconnect()
    child.unref()
  }
}

function readyOf(child: ChildProcess, path: string, log: string, signal: AbortSignal): Promise<Ready> {
  return new Promise((resolve, reject) => {
    const fail = (why: string) => reject(new ImagerError('MOUNT_FAILED', { path, why }))
    const timer = setTimeout(
      () => fail(`it was not ready within ${READY_TIMEOUT_MS / 1000} s; see ${log}`),
      READY_TIMEOUT_MS,
    )
    const stop = () => reject(signal.reason as Error)
    const settle = (end: () => void) => {
      clearTimeout(timer)
      signal.removeEventListener('abort', stop)
      end()
    }
    signal.addEventListener('abort', stop, { once: true })
    child.once('error', (error) => settle(() => fail(error.message)))
    child.once('exit', (code, by) => settle(() => fail(`its process ended (${by ?? code}); see ${log}`)))
    child.once('message', (message) =>
      settle(() => {
        try {
          resolve(readChild(message))
        } catch (error) {
          reject(error)
        }
      }),
    )
  })
}
