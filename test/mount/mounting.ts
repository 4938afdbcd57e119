/** What the tests of the real mount share. Everything is asynchronous: this process serves the mount it looks at. */
import { execFile } from 'node:child_process'
import { mkdtemp, rmdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { ExecutionContext } from 'ava'
import { type Mounted, type MountParts, mountSnapshot } from '../../src/mount/mount.js'
import { readMounts } from '../../src/mount/mountinfo.js'
import type { SnapshotReader } from '../../src/retrieve/reader.js'
import { lacksFuse, testWhere } from '../machine.js'

export const run = promisify(execFile)

export const fuseTest = testWhere(lacksFuse())

export function decompress(): never {
  throw new Error('nothing is compressed here')
}

export async function mountpoint(t: ExecutionContext, name = 'mnt-'): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), name))
  t.teardown(() => rmdir(path).catch(() => undefined))
  return path
}

/** Mounts until the test ends. */
export async function mounted(
  t: ExecutionContext,
  snapshot: SnapshotReader,
  parts: Partial<MountParts> = {},
  path?: string,
): Promise<Mounted> {
  const folder = path ?? (await mountpoint(t))
  const mount = await mountSnapshot(snapshot, folder, { name: 'test', decompress, ...parts })
  t.teardown(() => mount.close())
  return mount
}

export async function isMounted(path: string): Promise<boolean> {
  return (await readMounts()).some((mount) => mount.mountpoint.equals(Buffer.from(path)))
}
