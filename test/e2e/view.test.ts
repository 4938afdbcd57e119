/** Sources and targets that somebody else uses. */
import { execFileSync } from 'node:child_process'
import { closeSync, mkdirSync, openSync, writeSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import test from 'ava'
import type { SnapshotReport } from '../../src/jobs/snapshot.js'
import { attachLoop } from './disks.js'
import { imager, lastLine, start, TestLab } from './lab.js'

test.serial('a mounted disk needs a quiet window; one that never is quiet is refused with exit 7', async (t) => {
  const lab = await TestLab.up(t, 2)
  const state = ['--state', lab.lab.appliance.state]
  const disk = lab.makeDisk('disk.img', 24)
  const device = attachLoop(t, disk)
  if (device === undefined) {
    t.log('skipped: no loop devices')
    t.pass()
    return
  }
  const mountpoint = lab.path('mounted')
  mkdirSync(mountpoint)
  execFileSync('mount', ['-o', 'noatime,noinit_itable', device, mountpoint])
  try {
    for (const source of [device, disk]) {
      // The kernel may write its own notes after the window; then the run is refused, and the next one is for that.
      let quiet = await imager('snapshot', source, '--quiet', '1', '--json', ...state)
      for (let tries = 0; quiet.code !== 0 && tries < 5; tries++) {
        t.is(quiet.code, 7, quiet.stdout)
        t.regex(quiet.stdout, /SOURCE_CHANGED/)
        quiet = await imager('snapshot', source, '--quiet', '2', '--json', ...state)
      }
      t.is(quiet.code, 0, quiet.stdout)
      t.regex(lastLine<SnapshotReport>(quiet).view, /quiet for [12] s while in use/)
    }
    const refused = await imager('restore', 'latest', '--to', disk, '--force', '--json', ...state)
    t.regex(refused.stdout, /TARGET_MOUNTED/)

    const child = start(['snapshot', device, '--quiet', '2', '--give-up', '3', '--json', ...state])
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
