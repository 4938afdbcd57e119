/** One run of a disk at a time, a coordinator that is started anew meanwhile, and what is known of a run that came to nothing. */
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { linkSync, readdirSync, renameSync, symlinkSync, utimesSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import test from 'ava'
import type { RunRow } from '../../src/catalog/types.js'
import { openFleet } from '../../src/fleet/open.js'
import type { SnapshotReport } from '../../src/jobs/snapshot/snapshot.js'
import { openHome } from '../../src/keys/home.js'
import { makeOfficeDisk } from './disks.js'
import { imager, lastLine, type Outcome, start, TestLab } from './lab.js'

interface Running {
  child: ChildProcess
  ended: Promise<Omit<Outcome, 'code'> & { code: number | null }>
  /** It has said this, after what was waited for last. */
  said(text: string): Promise<void>
}

function run(...argv: string[]): Running {
  const child = start(argv)
  let [stdout, stderr] = ['', '']
  child.stdout?.on('data', (chunk: Buffer) => (stdout += chunk.toString()))
  child.stderr?.on('data', (chunk: Buffer) => (stderr += chunk.toString()))
  const ended = once(child, 'close').then(([code]) => ({ code: code as number | null, stdout, stderr }))
  let heard = 0
  const said = async (text: string) => {
    while (!stdout.includes(text, heard)) {
      if (child.exitCode !== null || child.signalCode !== null) throw new Error(`${text}: ${stdout}${stderr}`)
      await sleep(5)
    }
    heard = stdout.indexOf(text, heard) + text.length
  }
  return { child, ended, said }
}

async function lastRuns(state: string): Promise<RunRow[]> {
  const fleet = await openFleet(openHome(state))
  try {
    return await fleet.catalog.runs()
  } finally {
    await fleet.close()
  }
}

test.serial('a second run of a disk says who runs, or waits; a run that was killed is in nobody’s way', async (t) => {
  const lab = await TestLab.up(t, 3)
  const state = ['--json', '--state', lab.lab.appliance.state]
  const disk = lab.makeDisk('disk.img', 200)
  symlinkSync(disk, lab.path('link.img'))
  const first = run('snapshot', disk, ...state)
  await first.said('progress')
  first.child.kill('SIGSTOP')
  for (const path of [disk, lab.path('link.img')]) {
    const second = await imager('snapshot', path, ...state)
    t.is(second.code, 1)
    const { code, message, remedy } = lastLine<{ code: string; message: string; remedy: string }>(second)
    t.is(code, 'BUSY')
    t.regex(message, new RegExp(`process ${first.child.pid}, since ${new Date().getUTCFullYear()}-`))
    t.regex(remedy, /--wait/)
  }
  const other = await imager('snapshot', lab.makeDisk('other.img', 8), ...state)
  t.is(other.code, 0, 'another disk')
  const waiting = run('snapshot', disk, '--wait', ...state)
  await waiting.said(`process ${first.child.pid}`)
  first.child.kill('SIGCONT')
  const [one, two] = [await first.ended, await waiting.ended]
  t.is(one.code, 0, one.stdout)
  t.is(two.code, 0, two.stdout)
  t.is(lastLine<SnapshotReport>({ ...two, code: 0 }).newBytes, 0)

  for (const signal of ['SIGINT', 'SIGKILL'] as const) {
    const cut = run('snapshot', disk, '--full-read', ...state)
    await cut.said('progress')
    cut.child.kill(signal)
    const { code } = await cut.ended
    t.is(code, signal === 'SIGINT' ? 130 : null)
    const [last] = (await lastRuns(lab.lab.appliance.state)).filter((one) => one.source === disk)
    t.is(last?.failure, 'INTERRUPTED', 'one that was killed says nothing')
  }
  const fourth = await imager('snapshot', disk, ...state)
  t.is(fourth.code, 0, fourth.stdout)
})

test.serial('the same disk by another name is the same run', async (t) => {
  const lab = await TestLab.up(t, 2)
  const state = ['--json', '--state', lab.lab.appliance.state]
  const disk = makeOfficeDisk(lab.folder, 'disk.img')
  linkSync(disk, lab.path('again.img'))
  const first = run('snapshot', disk, ...state)
  await first.said('progress')
  first.child.kill('SIGSTOP')
  const second = await imager('snapshot', lab.path('again.img'), ...state)
  first.child.kill('SIGCONT')
  t.regex(second.stdout, new RegExp(`"BUSY".*process ${first.child.pid}`))
  t.is((await first.ended).code, 0)
})

test.serial('a coordinator that is killed and started again in mid-snapshot does not end it', async (t) => {
  const lab = await TestLab.up(t, 3)
  const { appliance, coordinator } = lab.lab
  const state = ['--json', '--state', appliance.state]
  const disk = lab.makeDisk('disk.img', 200)
  const snapshot = run('snapshot', disk, ...state)
  let pid = coordinator.pid
  for (const pause of [500, 1500]) {
    await snapshot.said('"phase":"reading and storing"')
    await lab.kill(pid)
    await snapshot.said('does not answer')
    await sleep(pause)
    const back = start(['coordinator', '--state', coordinator.state, '--json'])
    t.teardown(() => back.kill())
    pid = back.pid as number
    await once(back.stdout as NodeJS.ReadableStream, 'data')
  }
  const done = await snapshot.ended
  t.is(done.code, 0, done.stdout)
  t.like(lastLine<SnapshotReport>({ ...done, code: 0 }), { survives: 1, state: 'protected' })
  await lab.restoreLatest(t, disk)
  const [last, ...more] = await lastRuns(appliance.state)
  t.like(last, { finished: true, failure: null })
  t.deepEqual(more, [])
})

test.serial(
  'a coordinator that comes back at another address is found by what the peers say, in mid-snapshot and later',
  async (t) => {
    const lab = await TestLab.up(t, 3)
    const { appliance, coordinator } = lab.lab
    const state = ['--json', '--state', appliance.state]
    const disk = lab.makeDisk('disk.img', 200)
    // Peers take one change of an address a minute: what they know is older than that.
    const age = () => {
      for (const { store } of lab.lab.peers) {
        const folder = join(store, 'documents', 'address')
        for (const name of readdirSync(folder)) utimesSync(join(folder, name), 0, Date.now() / 1000 - 120)
      }
    }
    age()
    const snapshot = run('snapshot', disk, ...state)
    await snapshot.said('"phase":"reading and storing"')
    await lab.kill(coordinator.pid)
    await snapshot.said('does not answer')
    const move = async () => {
      const moved = start(['coordinator', '--state', coordinator.state, '--listen', '127.0.0.1:0', '--json'])
      t.teardown(() => moved.kill())
      const [ready] = (await once(moved.stdout as NodeJS.ReadableStream, 'data')) as [Buffer]
      return { pid: moved.pid as number, ...(JSON.parse(ready.toString()) as { address: string }) }
    }
    const moved = await move()
    t.not(moved.address, coordinator.address)
    const done = await snapshot.ended
    t.is(done.code, 0, done.stdout)
    await lab.kill(moved.pid)
    age()
    t.not((await move()).address, moved.address)
    const isSafe = async () => (await imager('status', ...state)).code === 0
    for (let tries = 0; tries < 40 && !(await isSafe()); tries++) await sleep(250)
    t.true(await isSafe())
    await lab.restoreLatest(t, disk)
  },
)

test.serial('a run that came to nothing is known of, whenever it failed, until the next one did better', async (t) => {
  const lab = await TestLab.up(t, 3)
  const { appliance, peers } = lab.lab
  const state = ['--json', '--state', appliance.state]
  const disk = lab.makeDisk('disk.img', 24)
  const failures = async () => (await lastRuns(appliance.state)).map(({ source, failure }) => [source, failure])
  t.is((await imager('snapshot', disk, '--tolerate', '5', ...state)).code, 1)
  t.deepEqual(await failures(), [[disk, 'TOO_FEW_HOSTS']], 'before it knew its disk')
  await lab.snapshot(t, disk)
  t.deepEqual(await failures(), [[disk, null]])
  t.is((await imager('snapshot', lab.path('none.img'), ...state)).code, 1)
  t.is((await imager('snapshot', disk, '--scheme', '0+2', ...state)).code, 2)
  t.deepEqual(await failures(), [[disk, null]], 'wrong words')
  renameSync(disk, `${disk}.away`)
  t.is((await imager('snapshot', disk, ...state)).code, 1)
  t.deepEqual(await failures(), [[disk, 'SOURCE_MISSING']], 'a disk that is gone')
  renameSync(`${disk}.away`, disk)

  const lonely = run('snapshot', lab.makeDisk('lonely.img', 200), ...state)
  await lonely.said('"phase":"reading and storing"')
  for (const { pid } of peers.slice(1)) await lab.kill(pid)
  const { code, stdout } = await lonely.ended
  t.is(code, 1, stdout)
  t.deepEqual((await failures()).at(-1), [lab.path('lonely.img'), 'NOT_PLACED'])
})
