/**
 * Taking a mount away, whether its process is busy, hung or dead. Nothing here looks into the mount: that could hang.
 */
import { execFile } from 'node:child_process'
import { realpath } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { ImagerError, reason } from '../base/errors.js'
import { detachMount } from '../native.js'
import { ourMountAt, readMounts } from './mountinfo.js'

/** fusermount3 answers at once; it only hangs when the system does. */
const HELPER_TIMEOUT_MS = 10_000

/**
 * Removes an imager mount from its name. Whoever has files open there keeps them until they are closed; then its
 * process ends. Throws NOT_MOUNTED for what is no imager mount.
 */
export async function unmountPath(path: string): Promise<void> {
  const mountpoint = await findMount(path)
  if (mountpoint === undefined) throw new ImagerError('NOT_MOUNTED', { path })
  await detach(mountpoint, 'gently')
}

/** `abort`: requests under way fail at once. Others than root ask fusermount3, which knows only the gentle way. */
export async function detach(mountpoint: string, how: 'gently' | 'abort'): Promise<void> {
  try {
    await detachMount(Buffer.from(mountpoint), how === 'abort')
  } catch (error) {
    if (process.getuid?.() === 0) throw error
    await promisify(execFile)('fusermount3', ['-u', '-z', '--', mountpoint], { timeout: HELPER_TIMEOUT_MS }).catch(
      (cause: unknown) => {
        throw new ImagerError('IO', { what: `cannot unmount ${mountpoint}: ${reason(cause)}` }, { cause })
      },
    )
  }
}

/** The mount's name as the kernel has it. The last part of a path is looked at only where no mount of ours is on it. */
async function findMount(path: string): Promise<string | undefined> {
  const absolute = resolve(path)
  const mounts = await readMounts()
  const parent = await realpath(dirname(absolute)).catch(() => dirname(absolute))
  const plain = join(parent, basename(absolute))
  if (ourMountAt(mounts, Buffer.from(plain))) return plain
  const followed = await realpath(plain).catch(() => plain)
  return ourMountAt(mounts, Buffer.from(followed)) ? followed : undefined
}
