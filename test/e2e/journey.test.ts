/** The whole journey with real processes, sockets and disks: image, lose hosts, restore, compare. */
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { existsSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { MiB } from '../../src/base/units.js'
import type { RestoreReport } from '../../src/jobs/restore/disk.js'
import type { SnapshotReport } from '../../src/jobs/snapshot/snapshot.js'
import { lacksFileSystem, lacksLoopDevices, lacksMounts, lacksTools, testWhere } from '../machine.js'
import { attachLoop, firstDifference, makeExt4, makeFiles, makeOfficeDisk, noise } from './disks.js'
import { imager, lastLine, TestLab } from './lab.js'

test.serial('a disk with ext4 and NTFS comes back whole although two of six hosts are gone', async (t) => {
  const lab = await TestLab.up(t, 6)
  const state = ['--state', lab.lab.appliance.state]
  const disk = makeOfficeDisk(lab.folder, 'disk.img')
  const source = lacksLoopDevices() === undefined ? attachLoop(t, disk) : disk
  const made = await imager('snapshot', source, '--scheme', '4+2', '--json', ...state)
  t.is(made.code, 0, made.stdout + made.stderr)
  const report = lastLine<SnapshotReport & { status: string }>(made)
  t.is(report.status, 'done')
  t.is(report.survives, 2)
  t.is(report.state, 'protected')
  t.is(report.sourceBytes, 74 * MiB)
  t.true(report.newBytes <= report.allocatedBytes && report.storedBytes > report.newBytes)

  const again = lastLine<SnapshotReport>(await imager('snapshot', source, '--scheme', '4+2', '--json', ...state))
  t.is(again.newBytes, 0)
  t.is(again.blocks, report.blocks)

  for (const peer of lab.lab.peers.slice(1, 3)) await lab.kill(peer.pid)
  const target = lab.path('restored.img')
  const restored = await imager('restore', report.snapshot.slice(0, 8), '--to', target, '--json', ...state)
  t.is(restored.code, 0, restored.stdout + restored.stderr)
  t.deepEqual(lastLine<RestoreReport>(restored).missing, ['peer-2', 'peer-3'])
  t.is(firstDifference(disk, target), undefined)
  t.true(statSync(target).blocks * 512 < 40 * MiB, 'free space is holes')
})

testWhere(lacksMounts())(
  'onto a file system without room: refused before a byte is written, or ended with clear words',
  async (t) => {
    const { lab, state } = await TestLab.imaged(t, 3, 24)
    const small = lab.path('small')
    execFileSync('mkdir', [small])
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', small], { stdio: 'pipe' })
    t.teardown(() => execFileSync('umount', [small]))
    const target = join(small, 'target.img')
    const refused = await imager('restore', 'latest', '--to', target, '--json', ...state)
    t.is(refused.code, 1)
    t.regex(refused.stdout, /TARGET_TOO_SMALL.*1048576/)
    t.false(existsSync(target))

    const full = await imager('restore', 'latest', '--to', target, '--force', ...state)
    t.is(full.code, 1)
    t.regex(full.stderr, /No space left.*free space there/s)
  },
)

const deviceTest = testWhere(lacksFileSystem('ext4'), lacksTools('mkfs.ext4'))
deviceTest('onto a device: refused while it is too small, mounted or not empty; then bit-identical', async (t) => {
  const { lab, disk, state } = await TestLab.imaged(t, 3, 24)
  const file = lab.path('target.img')
  writeFileSync(file, '')
  truncateSync(file, 16 * MiB)
  const small = attachLoop(t, file)
  const refused = await imager('restore', 'latest', '--to', small, '--json', ...state)
  t.is(refused.code, 1)
  t.regex(refused.stdout, /TARGET_TOO_SMALL/)

  truncateSync(file, 32 * MiB)
  execFileSync('losetup', ['-c', small])
  execFileSync('mkfs.ext4', ['-q', small], { stdio: 'pipe' })
  const before = execFileSync('sha256sum', [file]).toString()
  for (const extra of [[], ['--dry-run']]) {
    const full = await imager('restore', 'latest', '--to', small, '--json', ...extra, ...state)
    t.is(full.code, 1)
    t.regex(full.stdout, /TARGET_NOT_EMPTY/)
  }
  const mountpoint = lab.path('mounted')
  execFileSync('mkdir', [mountpoint])
  execFileSync('mount', ['-o', 'ro', small, mountpoint])
  const mounted = await imager('restore', 'latest', '--to', small, '--force', '--json', ...state)
  execFileSync('umount', [mountpoint])
  t.is(mounted.code, 1)
  t.regex(mounted.stdout, /TARGET_MOUNTED/)
  t.is(execFileSync('sha256sum', [file]).toString(), before, 'not a byte was written')

  const done = await imager('restore', 'latest', '--to', small, '--force', '--json', ...state)
  t.is(done.code, 0, done.stdout + done.stderr)
  truncateSync(file, 24 * MiB)
  t.is(firstDifference(disk, file), undefined)
})

test.serial('the same files on a second disk, laid out differently, are stored once', async (t) => {
  const lab = await TestLab.up(t, 3)
  const state = ['--state', lab.lab.appliance.state]
  const shared = noise(8, 2 * MiB)
  makeFiles(lab.path('one'), shared)
  makeFiles(lab.path('two'), [...noise(2, MiB), ...shared.toReversed()])
  const first = makeExt4(lab.path('one.img'), lab.path('one'), 64)
  const second = makeExt4(lab.path('two.img'), lab.path('two'), 80, '-b', '4096', '-I', '128')
  await lab.snapshot(t, first)
  const { newBytes } = lastLine<SnapshotReport>(await imager('snapshot', second, '--json', ...state))
  t.true(newBytes >= 2 * MiB && newBytes < 5 * MiB, `${newBytes} new bytes`)
})

test.serial('disks of odd lengths, empty ones and ones without a file system come back exactly', async (t) => {
  const lab = await TestLab.up(t, 2)
  const state = ['--state', lab.lab.appliance.state]
  const contents = [randomBytes(4096), randomBytes(5000), Buffer.alloc(100_000), randomBytes(3 * MiB + 7)]
  for (const [index, content] of contents.entries()) {
    const source = lab.path(`odd-${index}.img`)
    writeFileSync(source, content)
    const id = await lab.snapshot(t, source)
    const target = lab.path(`odd-${index}.out`)
    const done = await imager('restore', id, '--to', target, ...state)
    t.is(done.code, 0, done.stderr)
    t.is(firstDifference(source, target), undefined)
  }
})

test.serial('an existing file is overwritten only with --force, and nothing is made by a refusal', async (t) => {
  const lab = await TestLab.up(t, 2)
  const state = ['--state', lab.lab.appliance.state]
  const source = lab.path('source.img')
  writeFileSync(source, randomBytes(70_000))
  await lab.snapshot(t, source)
  const target = lab.path('target.img')
  writeFileSync(target, 'mine')
  const refused = await imager('restore', 'latest', '--to', target, ...state)
  t.is(refused.code, 1)
  t.regex(refused.stderr, /--force/)
  t.is(statSync(target).size, 4)
  const forced = await imager('restore', 'latest', '--to', target, '--force', ...state)
  t.is(forced.code, 0, forced.stderr)
  t.is(firstDifference(source, target), undefined)

  const nowhere = lab.path('no/such/folder/x.img')
  t.is((await imager('restore', 'latest', '--to', nowhere, ...state)).code, 1)
  t.is((await imager('restore', 'latest', '--to', '/dev/imager-no-such-disk', ...state)).code, 1)
  t.is((await imager('restore', 'ffff', '--to', lab.path('x.img'), ...state)).code, 10)
  t.false(existsSync(lab.path('x.img')))
})
