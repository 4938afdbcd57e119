/** What a later run does not read, and that it misses nothing by that. */
import { execFileSync } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { closeSync, mkdirSync, openSync, truncateSync, writeSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import test, { type ExecutionContext } from 'ava'
import { KiB, MiB } from '../../src/base/units.js'
import type { MappedFile } from '../../src/jobs/map/map.js'
import type { SnapshotReport } from '../../src/jobs/snapshot/snapshot.js'
import { lacksFileSystem, lacksFuse, lacksTools, testWhere } from '../machine.js'
import { attachLoop } from './disks.js'
import { imager, lastLine, TestLab } from './lab.js'

const CHANGE = fileURLToPath(new URL('../../../test/e2e/incremental.py', import.meta.url))
const ROUNDS = Number(process.env.IMAGER_ROUNDS ?? 2)

async function snapshot(t: ExecutionContext, lab: TestLab, source: string, ...more: string[]): Promise<SnapshotReport> {
  const outcome = await imager('snapshot', source, '--json', ...more, '--state', lab.lab.appliance.state)
  t.is(outcome.code, 0, outcome.stdout + outcome.stderr)
  return lastLine<SnapshotReport>(outcome)
}

async function sameAsRestored(t: ExecutionContext, lab: TestLab, disk: string, label: string): Promise<void> {
  const target = lab.path('target.img')
  const outcome = await imager('restore', 'latest', '--to', target, '--force', '--state', lab.lab.appliance.state)
  t.is(outcome.code, 0, outcome.stdout + outcome.stderr)
  // Journals of ext are left out; all else that is in use must be there, byte for byte.
  const { stdout } = await imager('map', disk, '--allocated', '--json')
  const ranges = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { start: number; length: number })
  for (const { start, length } of ranges) {
    const cut = (path: string) =>
      execFileSync('sha256sum', {
        input: execFileSync(
          'dd',
          [`if=${path}`, 'iflag=skip_bytes,count_bytes', `skip=${start}`, `count=${length}`, 'bs=1M', 'status=none'],
          { maxBuffer: 1 << 30 },
        ),
      })
    t.true(cut(disk).equals(cut(target)), `${label}: ${length} bytes at ${start}`)
  }
}

const KINDS: [name: 'ext4' | 'xfs' | 'btrfs' | 'ntfs', mkfs: string[], sizeMiB: number][] = [
  ['ext4', ['mkfs.ext4', '-q', '-J', 'size=4'], 96],
  ['xfs', ['mkfs.xfs', '-q'], 320],
  ['btrfs', ['mkfs.btrfs', '-q', '-m', 'single'], 256],
  ['ntfs', ['mkfs.ntfs', '-q', '-F', '-f'], 96],
]
const MOUNT: Record<string, string[]> = { ntfs: ['ntfs-3g'] }
for (const [name, mkfs, sizeMiB] of KINDS) {
  const [make, ...options] = mkfs as [string, ...string[]]
  const [mount, ...how] = (MOUNT[name] ?? ['mount', '-t', name]) as [string, ...string[]]
  const driver = name === 'ntfs' ? lacksFuse() : lacksFileSystem(name)
  const driverTest = testWhere(driver, lacksTools(make, mount, 'losetup', 'python3'))
  driverTest(`changes that leave few traces are not missed: ${name}`, async (t) => {
    t.timeout(600_000)
    const lab = await TestLab.up(t, 2)
    const disk = lab.path('disk.img')
    closeSync(openSync(disk, 'w'))
    truncateSync(disk, sizeMiB * MiB)
    execFileSync(make, [...options, disk], { stdio: 'pipe' })
    const device = attachLoop(t, disk)
    const mounted = lab.path('mounted')
    mkdirSync(mounted)
    const change = (seed: number) => {
      execFileSync(mount, [...how, device, mounted])
      try {
        execFileSync('python3', ['-B', CHANGE, mounted, String(seed), '25'])
      } finally {
        execFileSync('umount', [mounted])
      }
    }
    const seed = randomInt(2 ** 31)
    t.log(`seed ${seed}`)
    change(seed)
    execFileSync('sleep', ['3'])
    const first = await snapshot(t, lab, disk)
    t.is(first.readBytes, first.allocatedBytes)
    for (let round = 1; round <= ROUNDS; round++) {
      change(seed + round)
      const later = await snapshot(t, lab, disk)
      t.deepEqual(later.notes, [])
      t.true(later.readBytes < later.allocatedBytes, 'something was not read')
      await sameAsRestored(t, lab, disk, `seed ${seed}, round ${round}`)
    }
    const again = await snapshot(t, lab, disk)
    t.is(again.newBytes, 0)
  })
}

test.serial('an unchanged disk is hardly read; a change without any trace is found within twenty runs', async (t) => {
  const lab = await TestLab.up(t, 2)
  const disk = lab.makeDisk('disk.img', 48)
  execFileSync('sleep', ['3'])
  const first = await snapshot(t, lab, disk)
  const [extent] = lastLine<MappedFile>(await imager('map', disk, '--path', '/0/large', '--json')).extents
  const content = extent?.length ?? 0
  const second = await snapshot(t, lab, disk)
  t.is(second.newBytes, 0)
  const sampled = second.readBytes - (first.readBytes - content)
  t.true(sampled < content / 5, `${second.readBytes} of ${first.readBytes} bytes were read`)
  t.is((await snapshot(t, lab, disk, '--full-read')).readBytes, first.readBytes)

  const file = openSync(disk, 'r+')
  writeSync(file, 'nobody says that this has changed', (extent?.disk ?? 0) + 8 * 64 * KiB)
  closeSync(file)
  let found: SnapshotReport | undefined
  for (let run = 0; run < 20 && !found; run++) {
    const report = await snapshot(t, lab, disk)
    if (report.notes.length > 0) found = report
  }
  t.regex(found?.notes[0] ?? '', /everything was read, because one block of a file had changed/)
  await lab.restoreLatest(t, disk)
})
