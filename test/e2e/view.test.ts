/** Sources and targets that somebody else uses. */
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import {
  closeSync,
  cpSync,
  fsyncSync,
  mkdirSync,
  openSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import { MiB } from '../../src/base/units.js'
import type { SnapshotReport } from '../../src/jobs/snapshot/snapshot.js'
import { lacksFileSystem, lacksTools, testWhere } from '../machine.js'
import { atOneMoment, startWriter, stopWriter } from './busy.js'
import { attachLoop } from './disks.js'
import { imager, lastLine, start, TestLab } from './lab.js'

const SYSTEMS = {
  ext4: { make: ['mkfs.ext4', '-q', '-F'], options: [], check: ['e2fsck', '-fn'] },
  xfs: { make: ['mkfs.xfs', '-q', '-f'], options: ['nouuid'], check: ['xfs_repair', '-n'] },
  btrfs: { make: ['mkfs.btrfs', '-q', '-f'], options: [], check: ['btrfs', 'check', '--quiet'] },
} as const
type System = keyof typeof SYSTEMS

const NEEDED: Readonly<Record<System, string[]>> = {
  ext4: ['mkfs.ext4', 'e2fsck'],
  xfs: ['mkfs.xfs', 'xfs_repair'],
  btrfs: ['mkfs.btrfs', 'btrfs'],
}
/** Tests with a mounted file system, and somebody who writes there. */
const testOn = (system: System) =>
  testWhere(lacksFileSystem(system), lacksTools(...NEEDED[system], 'fsfreeze', 'python3'))

/** A mounted file system on a loop device. */
function mounted(
  t: ExecutionContext,
  lab: TestLab,
  system: System,
  sizeMiB: number,
): { device: string; point: string } {
  const image = lab.path(`${system}.img`)
  closeSync(openSync(image, 'w'))
  truncateSync(image, sizeMiB * MiB)
  const [make, ...options] = SYSTEMS[system].make
  execFileSync(make, [...options, image], { stdio: 'pipe' })
  const device = attachLoop(t, image)
  const point = lab.path(`on-${system}`)
  mkdirSync(point)
  execFileSync('mount', ['-t', system, device, point], { stdio: 'pipe' })
  t.teardown(() => execFileSync('umount', [point]))
  return { device, point }
}

for (const system of Object.keys(SYSTEMS) as System[]) {
  testOn(system)(`${system} that is written while it is read is stored as it was at one moment`, async (t) => {
    const lab = await TestLab.up(t, 2)
    const state = ['--state', lab.lab.appliance.state]
    const disk = mounted(t, lab, system, 320)
    writeFileSync(`${disk.point}/ballast`, randomBytes(60 * MiB))
    const writer = await startWriter(0.1, 4, disk.point)
    t.teardown(() => stopWriter(writer))
    const taken = await imager('snapshot', disk.device, '--json', ...state)
    await stopWriter(writer)
    t.is(taken.code, 0, taken.stdout + taken.stderr)
    const { view, readBytes, allocatedBytes, torn } = lastLine<SnapshotReport>(taken)
    t.regex(view, /^frozen while its tables were read/)
    t.is(torn.bytes, 0)
    t.true(readBytes > allocatedBytes, 'what moved was read again')
    t.true(allocatedBytes < 200 * MiB, 'free space is not kept')
    const target = lab.path('target.img')
    const restored = await imager('restore', 'latest', '--to', target, '--json', ...state)
    t.is(restored.code, 0, restored.stdout)
    const [check, ...options] = SYSTEMS[system].check
    const checkDisk = () => execFileSync(check, [...options, target], { stdio: 'pipe' })
    // A frozen XFS leaves its counters to the log, which a mount replays.
    if (system !== 'xfs') checkDisk()
    t.true(atOneMoment(target, lab.path('restored'), ...SYSTEMS[system].options) > 0)
    checkDisk()
  })
}

testOn('ext4')('a file that never holds still is torn: named, with exit 3, and all else is whole', async (t) => {
  const lab = await TestLab.up(t, 2)
  const disk = mounted(t, lab, 'ext4', 200)
  // The copy of what moved takes half of what is free in the state folder; here that is less than one large file.
  const small = lab.path('small')
  mkdirSync(small)
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=48M', 'tmpfs', small])
  t.teardown(() => execFileSync('umount', [small]))
  cpSync(lab.lab.appliance.state, `${small}/state`, { recursive: true })
  const state = ['--state', `${small}/state`]
  // What is copied goes in the order of the disk, so there must be room for the others in front of the large file.
  execFileSync('fallocate', ['-l', '32M', `${disk.point}/room`])
  const large = openSync(`${disk.point}/never still`, 'w')
  const pages = (80 * MiB) / (64 * 1024)
  const rewrite = (round: number) => {
    for (let page = 0; page < pages; page += 50)
      writeSync(large, Buffer.alloc(64 * 1024, round), 0, 64 * 1024, page * 64 * 1024)
  }
  for (let page = 0; page < pages; page++) writeSync(large, Buffer.alloc(64 * 1024, 1), 0, 64 * 1024, page * 64 * 1024)
  fsyncSync(large)
  rmSync(`${disk.point}/room`)
  execFileSync('sync', ['-f', disk.point])
  const writer = await startWriter(0.2, 1, disk.point)
  t.teardown(() => stopWriter(writer))
  const child = start(['snapshot', disk.device, '--json', ...state])
  let stdout = ''
  child.stdout?.on('data', (chunk: Buffer) => (stdout += chunk.toString()))
  for (let round = 2; child.exitCode === null; round++) {
    rewrite(round & 0xff)
    await sleep(50)
  }
  closeSync(large)
  await stopWriter(writer)
  t.is(child.exitCode, 3, stdout)
  const { torn } = lastLine<SnapshotReport>({ stdout, stderr: '', code: 3 })
  t.deepEqual(torn.files, ['/0/never still'])
  t.true(torn.bytes > 0 && torn.bytes < 81 * MiB, String(torn.bytes))
  const shown = await imager('show', 'latest', ...state)
  t.regex(shown.stdout, /Torn .* went on being written and may be of several moments: .*; in \/0\/never still/)
  const target = lab.path('target.img')
  await imager('restore', 'latest', '--to', target, '--json', ...state)
  execFileSync('e2fsck', ['-fn', target], { stdio: 'pipe' })
  t.true(atOneMoment(target, lab.path('restored')) > 0)
})

const mountedTest = testWhere(lacksFileSystem('ext4'))
mountedTest('a mounted disk needs a quiet window; one that never is quiet is refused with exit 7', async (t) => {
  const lab = await TestLab.up(t, 2)
  const state = ['--state', lab.lab.appliance.state]
  const disk = lab.makeDisk('disk.img', 24)
  const device = attachLoop(t, disk)
  const mountpoint = lab.path('mounted')
  mkdirSync(mountpoint)
  execFileSync('mount', ['-o', 'noatime,noinit_itable', device, mountpoint])
  try {
    for (const source of [device, disk]) {
      const quiet = await imager('snapshot', source, '--view', 'quiet', '--quiet', '1', '--json', ...state)
      t.is(quiet.code, 0, quiet.stdout)
      t.regex(lastLine<SnapshotReport>(quiet).view, /quiet for 1 s while in use/)
    }
    const refused = await imager('restore', 'latest', '--to', disk, '--force', '--json', ...state)
    t.regex(refused.stdout, /TARGET_MOUNTED/)

    const quiet = ['--view', 'quiet', '--quiet', '2', '--give-up', '3']
    const child = start(['snapshot', device, ...quiet, '--json', ...state])
    let stdout = ''
    child.stdout?.on('data', (chunk: Buffer) => (stdout += chunk.toString()))
    const file = openSync(`${mountpoint}/busy`, 'w')
    while (child.exitCode === null) {
      writeSync(file, 'written without rest')
      execFileSync('sync', ['-f', mountpoint])
      await sleep(200)
    }
    closeSync(file)
    t.is(child.exitCode, 7, stdout)
    t.regex(stdout, /NO_STATIC_VIEW/)
  } finally {
    execFileSync('umount', [mountpoint])
  }
  const unmounted = await imager('snapshot', device, '--json', ...state)
  t.is(lastLine<SnapshotReport>(unmounted).view, 'device not in use')
  const frozen = await imager('snapshot', device, '--view', 'freeze', '--json', ...state)
  t.is(frozen.code, 7)
  t.regex(frozen.stdout, /VIEW_REFUSED/)
})

testOn('ext4')('a disk in use with pauses is stored as it was in one of them, or refused', async (t) => {
  const lab = await TestLab.up(t, 2)
  const state = ['--state', lab.lab.appliance.state]
  const disk = mounted(t, lab, 'ext4', 64)
  const writer = await startWriter(6, 2, disk.point)
  t.teardown(() => stopWriter(writer))
  const taken = await imager('snapshot', disk.device, '--view', 'quiet', '--quiet', '1', '--json', ...state)
  await stopWriter(writer)
  if (taken.code === 7) {
    t.regex(taken.stdout, /NO_STATIC_VIEW|SOURCE_CHANGED/)
    return
  }
  t.is(taken.code, 0, taken.stdout)
  const target = lab.path('target.img')
  await imager('restore', 'latest', '--to', target, '--json', ...state)
  t.true(atOneMoment(target, lab.path('restored')) >= 0)
  execFileSync('e2fsck', ['-fn', target], { stdio: 'pipe' })
})

test.serial('an image file that is written while it is read is refused, and nothing is listed', async (t) => {
  const lab = await TestLab.up(t, 2)
  const state = ['--state', lab.lab.appliance.state]
  const disk = lab.makeDisk('disk.img', 200)
  const child = start(['snapshot', disk, '--json', ...state])
  let stdout = ''
  child.stdout?.on('data', (chunk: Buffer) => (stdout += chunk.toString()))
  const file = openSync(disk, 'r+')
  for (let round = 0; child.exitCode === null; round++) {
    writeSync(file, Buffer.of(round & 0xff), 0, 1, 100)
    await sleep(20)
  }
  closeSync(file)
  t.is(child.exitCode, 7, stdout)
  t.regex(stdout, /SOURCE_CHANGED/)
  const { snapshots } = lastLine<{ snapshots: unknown[] }>(await imager('snapshots', '--json', ...state))
  t.is(snapshots.length, 0)
})
