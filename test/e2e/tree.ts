/** Real ext4 images filled by the kernel, and what a tree looks like to whoever compares two. */
import { execFileSync } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import {
  chmodSync,
  chownSync,
  closeSync,
  ftruncateSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmdirSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ExecutionContext } from 'ava'
import { MiB } from '../../src/base/units.js'
import { lacksFileSystem, lacksTools, testWhere } from '../machine.js'

const TOOLS = ['mkfs.ext4', 'mount', 'umount', 'losetup', 'filefrag', 'setfattr', 'getfattr', 'mknod']
/** Why no disk can be filled by the kernel here. */
export const lacksDisk = lacksFileSystem('ext4') ?? lacksTools(...TOOLS)

/** u::rw-, u:1234:rw-, g::r--, m::rw-, o::r-- as the kernel takes it (posix_acl_xattr.h). */
const ACL = `0x02000000${'01000600ffffffff'}${'02000600d2040000'}${'04000400ffffffff'}${'10000600ffffffff'}${'20000400ffffffff'}`

export const diskTest = testWhere(lacksDisk)

export function run(tool: string, ...args: string[]): string {
  return execFileSync(tool, args, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, LC_ALL: 'C' },
  })
}

/** Makes an ext4 image and mounts it while `work` runs. */
export async function withDisk(
  image: string,
  sizeMiB: number,
  options: readonly string[],
  work: (mountpoint: string) => void | Promise<void>,
): Promise<void> {
  writeFileSync(image, '')
  truncateSync(image, sizeMiB * MiB)
  run('mkfs.ext4', '-q', ...options, image)
  await withMounted(image, 'rw', work)
}

/** `options`: beside `loop` and `how`. */
export async function withMounted(
  image: string,
  how: 'ro' | 'rw',
  work: (mountpoint: string) => void | Promise<void>,
  options: readonly string[] = [],
): Promise<void> {
  const mountpoint = mkdtempSync(join(tmpdir(), 'imager-disk-'))
  run('mount', ...options, '-o', `loop,${how}`, image, mountpoint)
  try {
    await work(mountpoint)
  } finally {
    run('umount', mountpoint)
    rmdirSync(mountpoint)
  }
}

/** A little of everything that an ext4 file system can hold. */
export function fill(root: string): void {
  const etc = join(root, 'etc')
  mkdirSync(join(etc, 'deep', 'er'), { recursive: true })
  writeFileSync(join(etc, 'large'), randomBytes(5 * MiB + 123))
  writeFileSync(join(etc, 'small'), 'a small file\n')
  writeFileSync(join(etc, 'empty'), '')
  for (let index = 0; index < 300; index++) writeFileSync(join(etc, 'deep', `file ${index}`), randomBytes(index * 40))
  const sparse = openSync(join(etc, 'sparse'), 'w')
  writeSync(sparse, randomBytes(70_000), 0, 70_000, 20 * MiB)
  ftruncateSync(sparse, 30 * MiB + 1)
  closeSync(sparse)
  run('fallocate', '-l', '1M', join(etc, 'unwritten'))
  writeFileSync(Buffer.concat([Buffer.from(`${etc}/latin `), Buffer.of(0xe9)]), 'no UTF-8 in its name')
  writeFileSync(join(etc, 'line\nbreak'), 'a name of two lines')
  linkSync(join(etc, 'small'), join(etc, 'deep', 'second name'))
  symlinkSync('small', join(etc, 'fast link'))
  symlinkSync(`/${'long/'.repeat(40)}`, join(etc, 'slow link'))
  run('mknod', join(etc, 'fifo'), 'p')
  run('mknod', join(etc, 'null'), 'c', '1', '3')
  run('mknod', join(etc, 'disk'), 'b', '8', '300')
  run('setfattr', '-n', 'user.colour', '-v', 'blue', join(etc, 'small'))
  run('setfattr', '-n', 'user.long', '-v', 'x'.repeat(700), join(etc, 'deep'))
  run('setfattr', '-n', 'security.capability', '-v', '0x0100000200040000000000000000000000000000', join(etc, 'large'))
  run('setfattr', '-n', 'system.posix_acl_access', '-v', ACL, join(etc, 'empty'))
  chownSync(join(etc, 'empty'), 1234, 77)
  chownSync(join(etc, 'deep'), 100_000, 70_000)
  chmodSync(join(etc, 'small'), 0o4751)
  chmodSync(join(etc, 'deep'), 0o1770)
  run('touch', '-d', '2001-02-03 04:05:06.123456789', join(etc, 'large'), join(etc, 'deep', 'er'))
  run('touch', '-h', '-d', '1969-12-31 23:59:58.5', join(etc, 'fast link'))
  run('touch', '-d', '2100-01-01 00:00:00.000000001', join(etc, 'deep'), etc)
}

/** Everything that a restore should bring back, by path. */
export function treeOf(root: string): Record<string, unknown> {
  const tree: Record<string, unknown> = {}
  const visit = (path: Buffer) => {
    const stats = lstatSync(path, { bigint: true })
    const { mode, uid, gid, nlink, mtimeNs } = stats
    const content = stats.isFile()
      ? createHash('sha256').update(readFileSync(path)).digest('hex')
      : stats.isSymbolicLink()
        ? readlinkSync(path)
        : `${stats.rdev}`
    const links = stats.isDirectory() ? 0n : nlink
    tree[path.subarray(root.length).toString('latin1')] = [mode, uid, gid, links, mtimeNs, content].join(' ')
    if (!stats.isDirectory()) return
    for (const name of readdirSync(path, { encoding: 'buffer' })) visit(Buffer.concat([path, Buffer.from('/'), name]))
  }
  visit(Buffer.from(root))
  return tree
}

/** As getfattr lists them, of every file below. */
export function xattrsOf(folder: string): string {
  const listed = run('getfattr', '--absolute-names', '-Phd', '-R', '-m', '-', folder)
  return listed.replaceAll(folder, '').split('\n\n').sort().join('\n\n')
}

export function folderOf(t: ExecutionContext, lab: { path(name: string): string }, name: string): string {
  const path = lab.path(name)
  mkdirSync(path)
  t.teardown(() => {
    try {
      run('umount', '-l', path)
    } catch {
      // Not mounted any more, as it should be.
    }
  })
  return path
}
