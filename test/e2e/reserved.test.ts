/** What a later version may have stored, as this one meets it: it says so, and takes nothing for what it is not. */
import { readFileSync, writeFileSync } from 'node:fs'
import test from 'ava'
import type { RestoreReport } from '../../src/jobs/restore/disk.js'
import { withFleet } from '../attackers/hands.js'
import { finishHostile, mapPage, type Pages, storeHostile } from '../attackers/manifest.js'
import { imager, lastLine, TestLab } from './lab.js'

const LEFT_OUT_BYTES = 4096
const NOT_STORED = 2

function* leavingOut(): Pages {
  return { level: 0, page: yield mapPage(0, LEFT_OUT_BYTES, NOT_STORED) }
}

test('what a snapshot left out on purpose is a marked pattern at a restore, and is told', async (t) => {
  const lab = await TestLab.up(t, 2)
  const { state } = lab.lab.appliance
  const { begun } = await withFleet(state, async (fleet) => {
    const stored = await storeHostile(fleet, leavingOut())
    await finishHostile(fleet, stored)
    return stored
  })
  const target = lab.path('target.img')
  const restore = (...more: string[]) =>
    imager('restore', begun.snapshot, '--to', target, '--json', '--state', state, ...more)
  const restored = await restore()
  t.is(restored.code, 3, restored.stdout + restored.stderr)
  t.is(lastLine<RestoreReport>(restored).leftOutBytes, LEFT_OUT_BYTES)
  const bytes = readFileSync(target)
  for (let sector = 0; sector < LEFT_OUT_BYTES; sector += 512) {
    const line = Buffer.alloc(512)
    line.write(`imager: byte ${sector} of the source was left out of the snapshot\n`)
    t.true(bytes.subarray(sector, sector + 512).equals(line))
  }
  t.true(bytes.subarray(LEFT_OUT_BYTES).every((byte) => byte === 0))
  bytes.fill(7, 100, 200)
  writeFileSync(target, bytes)
  const again = await restore('--delta', '--force', '--verify')
  t.is(again.code, 3, again.stdout + again.stderr)
  t.is(lastLine<RestoreReport>(again).leftOutBytes, LEFT_OUT_BYTES, 'what is compared tells it too')
  t.regex(readFileSync(target).subarray(0, 200).toString('latin1'), /left out of the snapshot\n\0+$/)
})
