/** Targets that are not blank: a restore that was cut short, and a disk that holds an older state. */

import { execFileSync, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import {
  closeSync,
  copyFileSync,
  cpSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import { KiB, MiB } from '../../src/base/units.js'
import type { MappedFile } from '../../src/jobs/map/map.js'
import type { RestoreReport } from '../../src/jobs/restore/disk.js'
import { decodeJournal, encodeJournal } from '../../src/jobs/restore/journal.js'
import { lacksLoopDevices, lacksMounts, lacksTools, testWhere } from '../machine.js'
import { attachLoop, firstDifference } from './disks.js'
import { CHANGES, type Interruption, interruptOnce, rightBytes } from './interrupted.js'
import { imager, lastLine, start, TestLab } from './lab.js'

function scribble(path: string, at: number, bytes: Buffer): void {
  const file = openSync(path, 'r+')
  writeSync(file, bytes, 0, bytes.length, at)
  closeSync(file)
}

function tryRead(path: string): Buffer | undefined {
  try {
    return readFileSync(path)
  } catch {
    return undefined
  }
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

test.serial('whatever is done to a target in between, the same command ends identical or refuses', async (t) => {
  const { lab, disk } = await TestLab.imaged(t, 3, 36)
  const other = lab.makeDisk('other.img', 36)
  const { used } = rightBytes(disk, disk)
  const stage = { folder: lab.folder, state: lab.lab.appliance.state, disk, other, usedBytes: used }
  const all: Interruption[] = []
  for (const seed of Object.keys(CHANGES).keys()) all.push(await interruptOnce(stage, seed))
  for (const one of all) {
    t.is(one.failure, undefined, one.change)
    t.true(one.writtenAgain < 0.2, `${one.change}: ${one.writtenAgain} of it was written again`)
  }
  const refused = all.filter(({ outcome }) => outcome === 'refused').map(({ change }) => change)
  t.deepEqual(refused, ['another image', 'journal removed'])
})

test.serial('what a journal calls finished is read all the same, past the cache', async (t) => {
  const { lab, disk, state } = await TestLab.imaged(t, 3, 24)
  const folder = lab.lab.appliance.state
  const target = lab.path('target.img')
  const child = start(['restore', 'latest', '--to', target, '--json', ...state])
  const ended = once(child, 'close')
  // As it stood while the run went on, which removes it at its end.
  let name = ''
  let journal: Buffer = Buffer.of()
  while (child.exitCode === null) {
    name = readdirSync(folder).find((one) => one.endsWith('.journal')) ?? name
    if (name !== '') journal = tryRead(join(folder, name)) ?? journal
    await sleep(1)
  }
  await ended
  const entry = decodeJournal(journal.toString())
  t.truthy(entry, journal.toString())
  if (!entry) return
  // It calls the first section finished, which is all of this disk.
  writeFileSync(join(folder, name), encodeJournal({ ...entry, next: 1 }))
  scribble(target, 1024, randomBytes(512))
  scribble(target, 10 * MiB, randomBytes(64 * KiB))
  t.true((await restored(t, lab, target)).resumed)
  t.is(firstDifference(disk, target), undefined)
  // Without it, or with one that lies, nothing is overwritten unasked.
  for (const [change, lie] of [
    [() => {}, 'no journal'],
    [() => writeFileSync(join(folder, name), '{"entry":1}\n'), 'junk'],
  ] as const) {
    change()
    const refused = await imager('restore', 'latest', '--to', target, '--json', ...state)
    t.like(lastLine(refused), { code: 'TARGET_NOT_EMPTY' }, lie)
  }
})

const boundTest = testWhere(lacksMounts())
boundTest(
  'with a state folder that is read-only a restore says so, is right, and goes on with --delta --force',
  async (t) => {
    const { lab, disk } = await TestLab.imaged(t, 3, 24)
    const folder = lab.lab.appliance.state
    execFileSync('mount', ['--bind', folder, folder])
    t.teardown(() => execFileSync('umount', [folder]))
    execFileSync('mount', ['-o', 'remount,bind,ro', folder])
    const target = lab.path('target.img')
    const report = await restored(t, lab, target)
    t.regex(report.notes.join(), /No journal can be kept.*--delta --force/)
    t.is(firstDifference(disk, target), undefined)
    scribble(target, 10 * MiB, randomBytes(64 * KiB))
    t.true((await restored(t, lab, target, '--delta', '--force')).writtenBytes <= 192 * KiB)
    t.is(firstDifference(disk, target), undefined)
  },
)

boundTest('with a state folder that is full a restore is right all the same', async (t) => {
  const { lab, disk } = await TestLab.imaged(t, 3, 24)
  const full = lab.path('full')
  mkdirSync(full)
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1M', 'tmpfs', full])
  t.teardown(() => execFileSync('umount', [full]))
  cpSync(lab.lab.appliance.state, full, { recursive: true })
  t.throws(() => writeFileSync(join(full, 'filler'), Buffer.alloc(2 * MiB)), { code: 'ENOSPC' })
  const target = lab.path('target.img')
  const done = await imager('restore', 'latest', '--to', target, '--json', '--state', full)
  t.is(done.code, 0, done.stdout)
  t.regex(lastLine<RestoreReport>(done).notes.join(), /ENOSPC/)
  t.is(firstDifference(disk, target), undefined)
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
  t.is(
    report.verifiedBytes,
    report.writtenBytes + report.sameBytes,
    'all of it is read back, not only what was written',
  )

  const device = lab.path('device.img')
  closeSync(openSync(device, 'w'))
  truncateSync(device, 64 * MiB)
  const loop = attachLoop(t, device)
  const onDevice = await restored(t, lab, loop)
  t.is(onDevice.verifiedBytes, onDevice.writtenBytes)
  t.is(firstDifference(disk, device), undefined)
  // Behind the cache of the loop device, which holds what was there before as long as somebody has it open.
  const held = openSync(loop, 'r')
  t.teardown(() => closeSync(held))
  readFileSync(loop)
  scribble(device, (extent?.disk ?? 0) + 2 * MiB, Buffer.alloc(10, '!'))
  t.is(firstDifference(disk, loop), undefined, 'the cache shows what is gone')
  const repaired = await restored(t, lab, loop, '--delta', '--force')
  t.true(repaired.writtenBytes <= 128 * KiB, `${repaired.writtenBytes}`)
  t.is(firstDifference(disk, device), undefined)
})

const terminalTest = testWhere(lacksLoopDevices(), lacksTools('script'))
terminalTest(
  'on a terminal a restore to a device asks once; --yes, a file and no terminal are not asked',
  async (t) => {
    const { lab, disk, state } = await TestLab.imaged(t, 3, 8)
    const device = lab.path('device.img')
    closeSync(openSync(device, 'w'))
    truncateSync(device, 8 * MiB)
    const loop = attachLoop(t, device)
    const [node, main] = start([]).spawnargs as [string, string]
    const typed = (answer: string, to: string, ...more: string[]) => {
      const command = [node, main, 'restore', 'latest', '--to', to, ...more, ...state].join(' ')
      return spawnSync('script', ['-qec', command, '/dev/null'], { input: answer, encoding: 'utf8', timeout: 30_000 })
    }
    for (const answer of ['no\n', '\n', 'y\n']) {
      const refused = typed(answer, loop)
      t.is(refused.status, 1, refused.stdout)
      t.regex(refused.stdout, /Write to \/dev\/loop.*All that is on it will be lost.*yes.*Nothing was written/s)
    }
    t.true(readFileSync(device).equals(Buffer.alloc(8 * MiB)), 'nothing is written before the answer')
    t.is(typed('yes\n', loop).status, 0)
    t.is(firstDifference(disk, device), undefined)
    const delta = typed('', loop, '--delta', '--force', '--yes')
    t.is(delta.status, 0, delta.stdout)
    t.notRegex(delta.stdout, /Type yes/)
    t.is(typed('', lab.path('file.img')).status, 0, 'a file is not asked for')
  },
)
