/** Whose clock is believed, and what `latest` is where there are several disks. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import test from 'ava'
import type { SnapshotRow } from '../../src/catalog/types.js'
import { firstDifference } from './disks.js'
import { imager, lastLine, MAIN, TestLab } from './lab.js'

const YEAR_MS = 365 * 24 * 3_600_000

/** Loaded before the program: its clock is that much ahead. */
const CLOCK = `const Real = Date
const ahead = ${YEAR_MS}
globalThis.Date = class extends Real {
  constructor(...given) { given.length > 0 ? super(...given) : super(Real.now() + ahead) }
  static now() { return Real.now() + ahead }
}`

test.serial('one backup with the clock a year ahead is neither latest for a year nor of another disk', async (t) => {
  const lab = await TestLab.up(t, 3)
  const state = ['--state', lab.lab.appliance.state]
  const [system, data] = [lab.makeDisk('system.img', 8), lab.makeDisk('data.img', 8)]
  const clock = lab.path('clock.cjs')
  writeFileSync(clock, CLOCK)
  const run = spawn(process.execPath, ['--require', clock, MAIN, 'snapshot', system, ...state], { stdio: 'ignore' })
  t.deepEqual((await once(run, 'close')) as unknown[], [0, null])
  const shown = await imager('show', 'latest', ...state)
  t.regex(shown.stdout, /Doubtful +the clock of \S+ said \d{4}-.* it arrived \d{4}-/)
  const ahead = lastLine<SnapshotRow & { doubtful: boolean }>(await imager('show', 'latest', '--json', ...state))
  t.true(ahead.doubtful && ahead.time > Date.now() + YEAR_MS / 2 && Math.abs(ahead.arrived - Date.now()) < 60_000)

  const next = await lab.snapshot(t, data)
  const listed = await imager('snapshots', ...state)
  t.regex(
    listed.stdout,
    new RegExp(`^${ahead.id.slice(0, 8)}.* \\? .*\\n${next.slice(0, 8)}.*\\n\\? ${ahead.id.slice(0, 8)}: `, 'm'),
  )
  const looked = await imager('ls', 'latest', ...state)
  t.is(looked.code, 0, looked.stderr)
  t.regex(
    looked.stderr,
    new RegExp(`latest is ${next.slice(0, 8)} of ${data} .*of others: ${ahead.id.slice(0, 8)} of ${system}`),
  )
  t.is(lastLine<SnapshotRow>(await imager('show', 'latest', '--source', system, '--json', ...state)).id, ahead.id)

  const target = lab.path('target.img')
  const last = await imager('restore', 'latest', '--to', target, '--dry-run', ...state)
  t.is(last.code, 0, last.stderr)
  t.regex(
    last.stderr,
    new RegExp(`latest is ${next.slice(0, 8)} of ${data} .*of others: ${ahead.id.slice(0, 8)} of ${system}`),
  )
  const list = lab.path('list')
  writeFileSync(list, '/0/large\n')
  const some = await imager('restore', 'latest', '--files', list, '--to', lab.path('some'), ...state)
  t.is(some.code, 0, some.stderr)
  t.regex(some.stderr, new RegExp(`latest is ${next.slice(0, 8)} of ${data} `))
  const done = await imager('restore', 'latest', '--source', system, '--to', target, ...state)
  t.is(done.code, 0, done.stderr)
  t.is(firstDifference(system, target), undefined)

  await lab.snapshot(t, system)
  const after = lastLine<{ snapshots: (SnapshotRow & { doubtful: boolean })[] }>(
    await imager('snapshots', '--json', ...state),
  )
  t.deepEqual(
    after.snapshots.map((row) => [row.source, row.sequence, row.doubtful]),
    [
      [system, 1, true],
      [data, 1, false],
      [system, 2, false],
    ],
  )
})
