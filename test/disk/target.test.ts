/** What a restore may write to: every refusal by its code, and nothing made or changed by one. */
import { execFileSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statfsSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { MiB } from '../../src/base/units.js'
import { inspectTarget, requireRoom } from '../../src/disk/target.js'
import { attachLoop } from '../e2e/disks.js'
import { lacksFileSystem, lacksLoopDevices, lacksTools, testWhere } from '../machine.js'

const ROOM = { sizeBytes: 8 * MiB, allocatedBytes: MiB }

function folderOf(t: ExecutionContext): string {
  const path = mkdtempSync(join(tmpdir(), 'imager-target-'))
  t.teardown(() => rmSync(path, { recursive: true, force: true }))
  return path
}

function sparse(path: string, bytes: number): string {
  writeFileSync(path, '')
  truncateSync(path, bytes)
  return path
}

test('a new file needs a folder, and is not made yet', (t) => {
  const folder = folderOf(t)
  const path = join(folder, 'new.img')
  t.deepEqual(inspectTarget(path, ROOM, false), { path, kind: 'new file', title: path, sizeBytes: 0 })
  const refused = { code: 'TARGET_MISSING' }
  for (const nowhere of ['no/folder/x.img', 'file/x.img']) {
    writeFileSync(join(folder, 'file'), '')
    t.throws(() => inspectTarget(join(folder, nowhere), ROOM, true), refused)
  }
  for (const mistyped of ['/dev/imager-no-such-disk', '/dev/shm/imager-no-such-disk'])
    t.throws(() => inspectTarget(mistyped, ROOM, true), refused)
  t.deepEqual(readdirSync(folder), ['file'])
  t.false(existsSync('/dev/shm/imager-no-such-disk'))
})

test('what is neither a device nor a file is refused', (t) => {
  for (const path of [folderOf(t), '/dev/null'])
    t.throws(() => inspectTarget(path, ROOM, true), { code: 'TARGET_MISSING', message: /neither/ })
})

test('a file with bytes is overwritten only when that is asked for', (t) => {
  const path = join(folderOf(t), 'target.img')
  writeFileSync(path, 'mine')
  t.throws(() => inspectTarget(path, ROOM, false), { code: 'TARGET_NOT_EMPTY', message: /4 bytes/ })
  t.deepEqual(inspectTarget(path, ROOM, true), { path, kind: 'file', title: path, sizeBytes: 4 })
  writeFileSync(path, '')
  t.is(inspectTarget(path, ROOM, false).kind, 'file')
})

test('room is that of the file system and of what the file holds already', (t) => {
  const folder = folderOf(t)
  const { bavail, bsize } = statfsSync(folder)
  const tooMuch = { sizeBytes: 0, allocatedBytes: 4 * bavail * bsize + 4 * MiB }
  const path = join(folder, 'new.img')
  t.throws(() => inspectTarget(path, tooMuch, false), { code: 'TARGET_TOO_SMALL' })
  t.is(inspectTarget(path, tooMuch, true).kind, 'new file', 'a file system that compresses may have it')
  t.throws(() => requireRoom(join(folder, 'not/yet/there'), tooMuch.allocatedBytes, 0), { code: 'TARGET_TOO_SMALL' })
  t.notThrows(() => requireRoom(join(folder, 'not/yet/there'), tooMuch.allocatedBytes, tooMuch.allocatedBytes))
})

const deviceTest = testWhere(lacksLoopDevices())
deviceTest('a device is refused while it is too small or not blank, wherever the bytes are', (t) => {
  const path = sparse(join(folderOf(t), 'disk'), 8 * MiB)
  const device = attachLoop(t, path)
  t.like(inspectTarget(device, ROOM, false), { path: device, kind: 'device', sizeBytes: 8 * MiB })
  const larger = { ...ROOM, sizeBytes: 8 * MiB + 512 }
  for (const force of [false, true])
    t.throws(() => inspectTarget(device, larger, force), { code: 'TARGET_TOO_SMALL', message: /8388608/ })
  for (const at of [0, 510, MiB - 1, 7 * MiB, 8 * MiB - 1]) {
    execFileSync('dd', [`of=${device}`, 'bs=1', `seek=${at}`, 'count=1', 'conv=notrunc,fsync', 'status=none'], {
      input: 'x',
    })
    t.throws(() => inspectTarget(device, ROOM, false), {
      code: 'TARGET_NOT_EMPTY',
      message: new RegExp(`data at byte ${at}\\b`),
    })
    t.is(inspectTarget(device, ROOM, true).kind, 'device')
    execFileSync('dd', [
      'if=/dev/zero',
      `of=${device}`,
      'bs=1',
      `seek=${at}`,
      'count=1',
      'conv=notrunc,fsync',
      'status=none',
    ])
  }
  t.is(inspectTarget(device, ROOM, false).kind, 'device')
})

const mountedTest = testWhere(lacksFileSystem('ext4'), lacksTools('mkfs.ext4'))
mountedTest('what is mounted is refused, also by the name of its image, whatever is asked for', (t) => {
  const folder = folderOf(t)
  const path = sparse(join(folder, 'disk'), 8 * MiB)
  const device = attachLoop(t, path)
  execFileSync('mkfs.ext4', ['-q', device], { stdio: 'pipe' })
  const point = join(folder, 'point')
  mkdirSync(point)
  execFileSync('mount', ['-o', 'ro', device, point])
  try {
    for (const target of [device, path])
      t.throws(() => inspectTarget(target, ROOM, true), { code: 'TARGET_MOUNTED', message: new RegExp(point) })
  } finally {
    execFileSync('umount', [point])
  }
  t.is(inspectTarget(device, ROOM, true).kind, 'device')
})
