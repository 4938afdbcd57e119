import { execFileSync } from 'node:child_process'
import { appendFileSync, closeSync, cpSync, openSync, readdirSync, rmSync, statSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import type { ExecutionContext } from 'ava'
import Database from 'better-sqlite3'
import { lacksMounts, lacksRoot, testWhere } from '../machine.js'
import { type Coordinator, catalogFile, problems, startCoordinator, typeRemedy, untilTold } from './coordinator.js'
import { imager, lastLine, TestLab } from './lab.js'

const test = testWhere(lacksRoot(), lacksMounts())

/** Until not one byte more goes in. */
function fill(path: string): void {
  for (const bytes of [65_536, 1]) {
    try {
      for (;;) appendFileSync(path, Buffer.alloc(bytes))
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
    }
  }
}

/** The coordinator of the lab ends; one that the test holds starts in the same folder. */
async function takeOver(t: ExecutionContext, lab: TestLab, between = () => {}): Promise<Coordinator> {
  await lab.kill(lab.lab.coordinator.pid)
  between()
  const coordinator = startCoordinator(lab)
  t.teardown(() => coordinator.kill())
  t.true(await coordinator.ready, coordinator.said())
  return coordinator
}

async function refusedSnapshot(t: ExecutionContext, lab: TestLab, disk: string): Promise<void> {
  const run = await imager('snapshot', disk, '--state', lab.lab.appliance.state, '--json')
  t.is(run.code, 1, run.stdout)
  const { code, remedy } = lastLine<{ code: string; remedy: string }>(run)
  t.is(code, 'COORDINATOR_READ_ONLY')
  t.regex(remedy, /goes on by itself/)
}

test('a coordinator whose disk is full reads on, starts, says so, and comes back by itself', async (t) => {
  const { lab, disk } = await TestLab.imaged(t, 3, 24)
  const { state } = lab.lab.coordinator
  const filler = join(state, 'filler')
  const coordinator = await takeOver(t, lab, () => {
    const copy = lab.path('copy')
    cpSync(state, copy, { recursive: true })
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=3m', 'tmpfs', state])
    t.teardown(() => execFileSync('umount', ['-l', state]))
    cpSync(copy, state, { recursive: true })
  })
  fill(filler)
  await refusedSnapshotEventually(t, lab, disk)
  const told = await untilTold(lab, 'COORDINATOR_READ_ONLY')
  t.true(told !== undefined && told !== true && told.sentence.includes(state), JSON.stringify(told))
  await lab.restoreLatest(t, disk, 'full.img')
  t.true(coordinator.child.exitCode === null)

  // Killed and started while not a byte is free.
  await coordinator.kill()
  rmSync(join(state, 'catalog', 'catalog.db-shm'), { force: true })
  fill(filler)
  const again = startCoordinator(lab)
  t.teardown(() => again.kill())
  t.true(await again.ready, again.said())
  t.truthy(await untilTold(lab, 'COORDINATOR_READ_ONLY'))
  await lab.restoreLatest(t, disk, 'started.img')
  await refusedSnapshot(t, lab, disk)

  rmSync(filler)
  t.true(await untilTold(lab, 'COORDINATOR_READ_ONLY', false))
  await lab.snapshot(t, disk)
  await lab.restoreLatest(t, disk, 'back.img')
})

/** The first write after the disk was filled may still find room in what SQLite has. */
async function refusedSnapshotEventually(t: ExecutionContext, lab: TestLab, disk: string): Promise<void> {
  for (let tries = 0; tries < 10; tries++) {
    const run = await imager('snapshot', disk, '--full-read', '--state', lab.lab.appliance.state, '--json')
    if (run.code === 0) continue
    t.is(lastLine<{ code: string }>(run).code, 'COORDINATOR_READ_ONLY')
    return
  }
  t.fail('every snapshot was taken')
}

test('a locked catalog is told as such, read where the lock allows it, and written again once it is gone', async (t) => {
  const { lab, disk } = await TestLab.imaged(t, 3, 24)
  await takeOver(t, lab)
  const holder = new Database(catalogFile(lab))
  t.teardown(() => holder.close())
  holder.exec('BEGIN IMMEDIATE')
  const told = await untilTold(lab, 'COORDINATOR_READ_ONLY')
  t.true(told !== undefined && told !== true && /locked/.test(told.sentence), JSON.stringify(told))
  await lab.restoreLatest(t, disk, 'locked.img')
  await refusedSnapshot(t, lab, disk)
  holder.exec('ROLLBACK')
  t.true(await untilTold(lab, 'COORDINATOR_READ_ONLY', false))
  await lab.snapshot(t, disk)
})

test('a coordinator that starts under a lock on everything says so, and serves once it is gone', async (t) => {
  const { lab, disk } = await TestLab.imaged(t, 3, 24)
  let holder: Database.Database | undefined
  const coordinator = await takeOver(t, lab, () => {
    holder = new Database(catalogFile(lab))
    holder.pragma('locking_mode = EXCLUSIVE')
    holder.exec('BEGIN EXCLUSIVE; UPDATE host SET seenMs = seenMs; ROLLBACK')
  })
  t.teardown(() => holder?.close())
  t.truthy(await untilTold(lab, 'COORDINATOR_READ_ONLY'), coordinator.said())
  holder?.close()
  t.true(await untilTold(lab, 'COORDINATOR_READ_ONLY', false))
  await lab.restoreLatest(t, disk)
})

/** What is done to a state folder, and which file is named. */
const DAMAGE: Record<string, (state: string) => string> = {
  'zeroed pages of the catalog': (state) => zero(join(state, 'catalog', 'catalog.db'), 4096, 8 * 4096),
  'a catalog of zeros': (state) => zero(join(state, 'catalog', 'catalog.db'), 0),
  'a catalog that is gone': (state) => {
    for (const ending of ['', '-wal', '-shm']) rmSync(join(state, 'catalog', `catalog.db${ending}`), { force: true })
    return 'catalog.db'
  },
  'another membership': (state) => zero(join(state, 'membership.bin'), 30, 34, 7),
  'another key': (state) => zero(join(state, 'identity.key'), 0, 32, 7),
}

function zero(path: string, from: number, to = statSync(path).size, byte = 0): string {
  const file = openSync(path, 'r+')
  writeSync(file, Buffer.alloc(to - from, byte), 0, to - from, from)
  closeSync(file)
  // What the log held would be put over it.
  for (const ending of ['-wal', '-shm']) rmSync(path + ending, { force: true })
  return path.split('/').at(-1) ?? ''
}

test('damaged files of a coordinator are named, and the line that is said heals each in place', async (t) => {
  const { lab, disk } = await TestLab.imaged(t, 3, 24)
  const { state } = lab.lab.coordinator
  const invited = await imager('invite', '--role', 'admin', '--state', state, '--json')
  let token: string | undefined = lastLine<{ token: string }>(invited).token
  await lab.kill(lab.lab.coordinator.pid)
  for (const [what, damage] of Object.entries(DAMAGE)) {
    // What the log holds would be put over the damage.
    new Database(catalogFile(lab)).exec('PRAGMA wal_checkpoint(TRUNCATE)').close()
    const file = damage(state)
    let coordinator = startCoordinator(lab)
    t.teardown(() => coordinator.kill())
    const isReady = await coordinator.ready
    const told = isReady ? await untilTold(lab, 'STATE_DAMAGED') : undefined
    const text = told && told !== true ? `${told.sentence} ${told.remedy}` : coordinator.said()
    t.true(text.includes(file), `${what}: ${text}`)
    const healed = await typeRemedy(lab, text)
    t.is(healed.code, 0, `${what}: ${healed.stdout}${healed.stderr}`)
    t.true(readdirSync(lastLine<{ setAside: string }>(healed).setAside).length > 0)
    if (!isReady) coordinator = startCoordinator(lab)
    t.true(await coordinator.ready, `${what}: ${coordinator.said()}`)
    t.true(await untilTold(lab, 'STATE_DAMAGED', false))
    await lab.restoreLatest(t, disk, `${file}-${what.length}.img`)
    if (token !== undefined) {
      const joined = await imager('join', token, '--state', lab.path('joined'), '--json')
      t.is(joined.code, 12, `an invitation is of the term that ended: ${joined.stdout}${joined.stderr}`)
      token = undefined
    }
    await coordinator.kill()
  }
  const coordinator = startCoordinator(lab)
  t.teardown(() => coordinator.kill())
  t.true(await coordinator.ready)
  await lab.snapshot(t, disk)
  t.deepEqual(await problems(lab), [])
})
