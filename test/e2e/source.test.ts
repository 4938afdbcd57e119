/** Sources of which not every byte is stored: bad sectors, and what nobody will read again. */
import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  closeSync,
  copyFileSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import type { ExecutionContext } from 'ava'
import { KiB, MiB } from '../../src/base/units.js'
import type { RestoreReport } from '../../src/jobs/restore/disk.js'
import type { FilesReport } from '../../src/jobs/restore/files.js'
import type { SnapshotReport } from '../../src/jobs/snapshot/snapshot.js'
import { lacksFileSystem, lacksFuse, lacksTools, testWhere } from '../machine.js'
import { attachLoop } from './disks.js'
import { imager, lastLine, TestLab } from './lab.js'

const SECTOR = 4 * KiB

/** Damages what btrfs has a checksum of, so that reading `marker` of a file there fails with EIO. */
function spoil(image: string, marker: Buffer): void {
  const at = readFileSync(image).indexOf(marker)
  const file = openSync(image, 'r+')
  writeSync(file, 'spoilt', at)
  closeSync(file)
}

/** A disk of ext4 on btrfs, one sector of a file of which cannot be read. */
function badDisk(t: ExecutionContext, lab: TestLab): { disk: string; whole: string; marker: Buffer } {
  const marker = Buffer.alloc(SECTOR, 'a sector that will be lost ')
  const folder = lab.path('files')
  mkdirSync(folder)
  writeFileSync(`${folder}/good`, Buffer.alloc(300 * KiB, 'good '))
  writeFileSync(`${folder}/bad`, Buffer.concat([Buffer.alloc(100 * KiB, 'head '), marker, Buffer.alloc(MiB, 'tail ')]))
  const [whole, outer, mounted] = [lab.path('whole.img'), lab.path('outer.img'), lab.path('outer')]
  execFileSync('mkfs.ext4', ['-q', '-b', '4096', '-d', folder, whole, '24M'], { stdio: 'pipe' })
  closeSync(openSync(outer, 'w'))
  truncateSync(outer, 200 * MiB)
  execFileSync('mkfs.btrfs', ['-q', '-d', 'single', '-m', 'single', outer])
  mkdirSync(mounted)
  const device = attachLoop(t, outer)
  const mount = () => execFileSync('mount', ['-t', 'btrfs', device, mounted], { stdio: 'pipe' })
  mount()
  t.teardown(() => execFileSync('umount', [mounted]))
  copyFileSync(whole, `${mounted}/disk.img`)
  execFileSync('umount', [mounted])
  spoil(outer, marker)
  execFileSync('blockdev', ['--flushbufs', device])
  mount()
  return { disk: `${mounted}/disk.img`, whole, marker }
}

const badTest = testWhere(lacksFileSystem('btrfs'), lacksFuse(), lacksTools('mkfs.ext4', 'mkfs.btrfs', 'blockdev'))
badTest('a bad sector is recorded, named with its file, and a marked pattern at a restore', async (t) => {
  const lab = await TestLab.up(t, 2)
  const state = ['--state', lab.lab.appliance.state]
  const bad = badDisk(t, lab)
  const expected = readFileSync(bad.whole)
  const at = expected.indexOf(bad.marker)
  const taken = await imager('snapshot', bad.disk, '--json', ...state)
  t.is(taken.code, 3, taken.stdout + taken.stderr)
  const flaws = { bytes: SECTOR, ranges: [{ start: at, length: SECTOR }], files: ['/0/bad'] }
  t.deepEqual(lastLine<SnapshotReport>(taken).unreadable, flaws)
  const shown = await imager('show', 'latest', ...state)
  t.regex(shown.stdout, new RegExp(`Damaged +4.1 kB could not be read: 4096 bytes at ${at}; in /0/bad`))

  const target = lab.path('target.img')
  const restored = await imager('restore', 'latest', '--to', target, '--json', ...state)
  t.is(restored.code, 3, restored.stdout)
  t.deepEqual(lastLine<RestoreReport>(restored).unreadable, flaws)
  for (let sector = at; sector < at + SECTOR; sector += 512) {
    const line = Buffer.alloc(512)
    line.write(`imager: byte ${sector} of the source could not be read\n`)
    line.copy(expected, sector)
  }
  t.true(readFileSync(target).equals(expected), 'all the rest is as it was')

  const list = lab.path('list')
  writeFileSync(list, '/0/bad\n/0/good\n')
  const files = await imager('restore', 'latest', '--files', list, '--to', lab.path('some'), '--json', ...state)
  t.is(files.code, 3, files.stdout)
  t.deepEqual(lastLine<FilesReport>(files).unreadable, [{ path: '/0/bad', bytes: SECTOR }])
  const one = readFileSync(lab.path('some/0/bad'))
  t.true(one.subarray(0, 100 * KiB).equals(Buffer.alloc(100 * KiB, 'head ')))
  t.regex(
    one.subarray(100 * KiB, 104 * KiB).toString('latin1'),
    /^(imager: byte \d+ of the source could not be read\n\0+){8}$/,
  )
  t.true(one.subarray(104 * KiB).equals(Buffer.alloc(MiB, 'tail ')))

  const mounted = lab.path('mounted')
  mkdirSync(mounted)
  const mount = await imager('mount', 'latest', mounted, ...state)
  t.is(mount.code, 0, mount.stderr)
  try {
    const file = openSync(`${mounted}/files/0/bad`, 'r')
    t.is(readSync(file, Buffer.alloc(SECTOR), 0, SECTOR, 0), SECTOR)
    t.throws(() => readSync(file, Buffer.alloc(SECTOR), 0, SECTOR, 100 * KiB), { code: 'EIO' })
    t.is(readSync(file, Buffer.alloc(SECTOR), 0, SECTOR, 104 * KiB), SECTOR)
    closeSync(file)
  } finally {
    await imager('unmount', mounted, ...state)
  }
})

/** An ext4 disk with a swap file that was used, a look-alike, and a journal that was used. */
function swappingDisk(t: ExecutionContext, lab: TestLab): string {
  const disk = lab.path('swapping.img')
  execFileSync('mkfs.ext4', ['-q', '-b', '4096', '-J', 'size=4', disk, '64M'], { stdio: 'pipe' })
  const device = attachLoop(t, disk)
  const mounted = lab.path('swapping')
  mkdirSync(mounted)
  execFileSync('mount', [device, mounted])
  try {
    for (const name of ['swapfile', 'kept']) {
      writeFileSync(`${mounted}/${name}`, Buffer.alloc(2 * MiB, 'was in memory once '))
      chmodSync(`${mounted}/${name}`, name === 'kept' ? 0o644 : 0o600)
      execFileSync('mkswap', [`${mounted}/${name}`], { stdio: 'pipe' })
    }
  } finally {
    execFileSync('umount', [mounted])
  }
  return disk
}

const swapTest = testWhere(lacksFileSystem('ext4'), lacksTools('mkfs.ext4', 'mkswap', 'e2fsck', 'debugfs'))
swapTest('swap files and an empty journal are left out, listed, and stored with --everything', async (t) => {
  const lab = await TestLab.up(t, 2)
  const state = ['--state', lab.lab.appliance.state]
  const disk = swappingDisk(t, lab)
  const taken = await imager('snapshot', disk, '--json', ...state)
  t.is(taken.code, 0, taken.stdout)
  const swap = { partition: 0, what: 'swap file', path: '/swapfile', bytes: 2 * MiB - SECTOR }
  const journal = { partition: 0, what: 'journal', path: '', bytes: 4 * MiB - SECTOR }
  t.deepEqual(lastLine<SnapshotReport>(taken).leftOut, [swap, journal])
  t.regex(
    (await imager('show', 'latest', ...state)).stdout,
    /Left out {3}swap file \/0\/swapfile, 2.1 MB\n {11}journal of \/0/,
  )
  const target = lab.path('target.img')
  t.is((await imager('restore', 'latest', '--to', target, ...state)).code, 0)
  execFileSync('e2fsck', ['-fn', target], { stdio: 'pipe' })
  const read = (image: string, path: string) => {
    return execFileSync('debugfs', ['-R', `cat ${path}`, image], { stdio: 'pipe', maxBuffer: 4 * MiB })
  }
  const before = read(disk, '/swapfile')
  const empty = Buffer.concat([before.subarray(0, SECTOR), Buffer.alloc(2 * MiB - SECTOR)])
  t.true(read(target, '/swapfile').equals(empty), 'the header of the swap file is kept, so that swapon takes it')
  t.true(read(target, '/kept').equals(read(disk, '/kept')), 'what others may read is no swap file')

  const whole = await imager('snapshot', disk, '--everything', '--json', ...state)
  t.deepEqual(lastLine<SnapshotReport>(whole).leftOut, [])
  t.is((await imager('restore', 'latest', '--to', target, '--force', ...state)).code, 0)
  t.true(read(target, '/swapfile').equals(before))
  const ranges = async (...more: string[]) => {
    const { stdout } = await imager('map', disk, '--allocated', '--json', ...more)
    const lines = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { length: number })
    return lines.reduce((sum, { length }) => sum + length, 0)
  }
  t.is((await ranges('--everything')) - (await ranges()), swap.bytes + journal.bytes)
})
