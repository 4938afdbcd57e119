/** A mount while hosts come and go: right bytes or an error, never zeros. */
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, readSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import test from 'ava'
import { MiB } from '../../src/base/units.js'
import { firstDifference } from './disks.js'
import { imager, TestLab } from './lab.js'

const possible = existsSync('/dev/fuse') && process.getuid?.() === 0

test.serial('with too few hosts reads fail with EIO; with enough again they are right', async (t) => {
  if (!possible) {
    t.log('skipped: needs root and /dev/fuse')
    t.pass()
    return
  }
  const lab = await TestLab.up(t, 4)
  const state = ['--state', lab.lab.appliance.state]
  const disk = lab.makeDisk('disk.img', 48)
  await lab.snapshot(t, disk)
  const mountpoint = lab.path('mnt')
  mkdirSync(mountpoint)
  t.is((await imager('mount', 'latest', mountpoint, ...state)).code, 0)
  t.teardown(() => imager('unmount', mountpoint))
  const image = `${mountpoint}/disk.img`
  t.is(readFileSync(image).subarray(0, MiB).compare(readFileSync(disk).subarray(0, MiB)), 0)
  await imager('unmount', mountpoint)

  for (const peer of lab.lab.peers.slice(0, 2)) await lab.kill(peer.pid)
  t.is((await imager('mount', 'latest', mountpoint, ...state)).code, 0)
  t.is(firstDifference(disk, image), undefined, 'with two of four')
  await imager('unmount', mountpoint)

  t.is((await imager('mount', 'latest', mountpoint, ...state)).code, 0)
  await lab.kill(lab.lab.peers[2]?.pid as number)
  const file = openSync(image, 'r')
  const error = t.throws(() => {
    for (let at = 0; at < 48 * MiB; at += MiB) readSync(file, Buffer.alloc(MiB), 0, MiB, at)
  }) as NodeJS.ErrnoException
  closeSync(file)
  t.is(error.code, 'EIO')
  const back = lab.startPeer(2)
  t.teardown(() => void back.kill())
  await once(back.stdout as NodeJS.ReadableStream, 'data')
  // The pool does not ask a host that just failed for some seconds.
  await sleep(6_000)
  execFileSync('cmp', [disk, image])
  t.pass()
})
