/** Targets that are not blank: a restore that was cut short, and a disk that holds an older state. */

import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { closeSync, copyFileSync, openSync, readdirSync, truncateSync, writeSync } from 'node:fs'
import test, { type ExecutionContext } from 'ava'
import { KiB, MiB } from '../../src/base/units.js'
import type { MappedFile } from '../../src/jobs/map/map.js'
import type { RestoreReport } from '../../src/jobs/restore/disk.js'
import { lacksLoopDevices, testWhere } from '../machine.js'
import { attachLoop, firstDifference } from './disks.js'
import { imager, lastLine, start, TestLab } from './lab.js'

function scribble(path: string, at: number, bytes: Buffer): void {
  const file = openSync(path, 'r+')
  writeSync(file, bytes, 0, bytes.length, at)
  closeSync(file)
}

async function restored(t: ExecutionContext, lab: TestLab, target: string, ...more: string[]): Promise<RestoreReport> {
  const outcome = await imager(
    ...['restore', 'latest', '--to', target, '--json', ...more],
    '--state',
    lab.lab.appliance.state,
  )
  t.is(outcome.code, 0, outcome.stdout + outcome.stderr)
  return lastLine<RestoreReport>(outcome)
}

test.serial('a restore that was killed goes on without --force, and what was written stays', async (t) => {
  const lab = await TestLab.up(t, 3)
  const state = lab.lab.appliance.state
  const disk = lab.makeDisk('disk.img', 200)
  await lab.snapshot(t, disk)
  const target = lab.path('target.img')
  const child = start(['restore', 'latest', '--to', target, '--json', '--state', state])
  const ended = once(child, 'close')
  // The first bytes are written by then, the last ones are not.
  for (let output = ''; !/"status":"progress".*"doneBytes":[1-9]/.test(output); ) {
    const [chunk] = (await once(child.stdout as NodeJS.ReadableStream, 'data')) as [Buffer]
    output += chunk.toString()
  }
  child.kill('SIGKILL')
  await ended
  t.not(firstDifference(disk, target), undefined, 'it was killed before its end')
  // Another snapshot would not go on there.
  const journals = () => readdirSync(state).filter((name) => name.endsWith('.journal'))
  t.is(journals().length, 1)
  const report = await restored(t, lab, target)
  t.true(report.resumed)
  t.true(report.sameBytes > 0, 'something was there already')
  t.is(firstDifference(disk, target), undefined)
  t.deepEqual(journals(), [])
  const again = await imager('restore', 'latest', '--to', target, '--json', '--state', state)
  t.regex(again.stdout, /TARGET_NOT_EMPTY/)
})

const deviceTest = testWhere(lacksLoopDevices())
deviceTest('a delta writes what changed, makes zeros of what is free now, and a device is read back', async (t) => {
  const lab = await TestLab.up(t, 3)
  const disk = lab.makeDisk('disk.img', 64)
  const target = lab.path('target.img')
  copyFileSync(disk, target)
  // Junk in free space, a changed block in the middle of a file, a file that is longer than the disk.
  const changed = randomBytes(4 * KiB)
  const before = Buffer.alloc(4 * KiB)
  const [extent] = lastLine<MappedFile>(await imager('map', disk, '--path', '/0/large', '--json')).extents
  scribble(disk, (extent?.disk ?? 0) + MiB, changed)
  await lab.snapshot(t, disk)
  truncateSync(target, 70 * MiB)
  scribble(target, 60 * MiB, before.fill('junk'))
  const refused = await imager('restore', 'latest', '--to', target, '--delta', '--state', lab.lab.appliance.state)
  t.is(refused.code, 1, 'without --force nothing is overwritten')
  const report = await restored(t, lab, target, '--delta', '--force', '--verify')
  t.is(firstDifference(disk, target), undefined)
  t.true(report.sameBytes > 20 * MiB, `${report.sameBytes}`)
  t.true(report.writtenBytes <= 128 * KiB, `${report.writtenBytes}`)
  t.is(report.verifiedBytes, report.writtenBytes)

  const device = lab.path('device.img')
  closeSync(openSync(device, 'w'))
  truncateSync(device, 64 * MiB)
  const loop = attachLoop(t, device)
  const onDevice = await restored(t, lab, loop)
  t.is(onDevice.verifiedBytes, onDevice.writtenBytes)
  t.is(firstDifference(disk, device), undefined)
  scribble(loop, (extent?.disk ?? 0) + 2 * MiB, Buffer.alloc(10, '!'))
  const repaired = await restored(t, lab, loop, '--delta', '--force')
  t.true(repaired.writtenBytes <= 128 * KiB, `${repaired.writtenBytes}`)
  t.is(firstDifference(disk, device), undefined)
})
