/** A coordinator that was set back to where it cannot know by itself what it forgot: who has seen more shows it. */
import { cpSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import { witnessesOf } from '../../src/keys/checkpoint.js'
import { openHome } from '../../src/keys/home.js'
import { PEERS, persist, Site, writeDisk } from './site.js'

const DISK = Buffer.alloc(256 * 1024, 'what nobody may forget ')
const TRIES = 20

interface Ground {
  readonly site: Site
  readonly path: string
  readonly digest: string
  /** Snapshot of server-1 of before the copies, and after. */
  readonly first: string
}

async function found(t: ExecutionContext): Promise<Ground> {
  const folder = mkdtempSync(join(tmpdir(), 'imager-forgotten-'))
  const state = join(folder, 'fleet', 'coordinator')
  const { site } = await Site.found(join(folder, 'fleet'), () => copy(state, `${state}.new`))
  t.teardown(async () => {
    await site.stop()
    rmSync(folder, { recursive: true, force: true })
  })
  const path = join(folder, 'disk.img')
  const digest = writeDisk(path, DISK)
  await site.allHere()
  return { site, path, digest, first: (await site.snapshot('server-1', path)).snapshot }
}

function copy(from: string, to: string): void {
  rmSync(to, { recursive: true, force: true })
  cpSync(from, to, { recursive: true })
}

const witnessing = (site: Site) =>
  witnessesOf(openHome(site.state('coordinator')).membership()).map(({ name }) => name as (typeof PEERS)[number])

/** All are listed and restore, and another one is stored. */
async function allIsWell(t: ExecutionContext, { site, path, digest }: Ground, ids: readonly string[]): Promise<void> {
  const taken: string[] = []
  // What it found among the peers counts as held once they were heard of again.
  for (let tries = 0, state = ''; tries < TRIES && state !== 'protected'; tries++) {
    const report = await persist(() => site.snapshot('server-1', path))
    taken.push(report.snapshot)
    state = report.state
    t.log(state, ...report.notes)
    if (tries === TRIES - 1) t.fail('it is never protected again')
  }
  await site.as('server-1', async (fleet) => {
    t.is(fleet.rolledBack, undefined)
    const listed = (await fleet.catalog.snapshots()).map(({ id }) => id)
    t.deepEqual(listed.toSorted(), [...ids, ...taken].toSorted())
    for (const id of [...ids, taken.at(-1) ?? '']) t.is(await site.restore(fleet, id), digest)
  })
}

test('set back to before anybody had joined, it learns from those who call who belongs to the fleet, and catches up', async (t) => {
  t.timeout(120_000)
  const ground = await found(t)
  const { site, first } = ground
  const { address } = openHome(site.state('coordinator')).coordinator
  const { listen } = openHome(site.state('coordinator')).config
  await site.stop()
  const state = join(site.folder, 'coordinator')
  copy(`${state}.new`, state)
  t.deepEqual(openHome(site.state('coordinator')).membership().hosts.length, 1, 'it knows itself alone')
  await site.startPeers()
  await site.startCoordinator(listen ?? address)
  await site.allHere()
  await allIsWell(t, ground, [first])
})

test('what the majority that answers has forgotten too, a server shows: it waits for the witnesses that can know', async (t) => {
  t.timeout(120_000)
  const ground = await found(t)
  const { site, first, path } = ground
  const witnesses = witnessing(site)
  t.is(witnesses.length, 5)
  const back = witnesses.slice(0, 3)
  const folders = [join(site.folder, 'coordinator'), ...back.map((name) => join(site.store(name), 'witness'))]
  await site.stop()
  for (const folder of folders) copy(folder, `${folder}.kept`)
  await site.start()
  await site.allHere()
  const later = (await persist(() => site.snapshot('server-1', path))).snapshot
  await site.stop()
  for (const folder of folders) copy(`${folder}.kept`, folder)
  const away = witnesses.slice(3)
  await site.startPeers(PEERS.filter((peer) => !away.includes(peer)))
  await site.startCoordinator()
  const { problems } = await site.status('server-1')
  const told = problems.find(({ code }) => code === 'COORDINATOR_READ_ONLY')
  t.regex(
    told?.sentence ?? JSON.stringify(problems),
    /a server holds a newer list of snapshots, which 2 of its 5 witnesses can know/,
  )
  for (const name of away) t.true(told?.remedy.includes(name), told?.remedy)
  await t.throwsAsync(site.snapshot('server-1', path), { code: 'ROLLED_BACK' })
  await site.startPeers(away)
  await site.allHere()
  await allIsWell(t, ground, [first, later])
})

test('what all witnesses have forgotten comes back from the peers that keep it, and the chain goes on after it', async (t) => {
  t.timeout(120_000)
  const ground = await found(t)
  const { site, first, path } = ground
  const folders = [
    join(site.folder, 'coordinator'),
    ...witnessing(site).map((name) => join(site.store(name), 'witness')),
  ]
  await site.stop()
  for (const folder of folders) copy(folder, `${folder}.kept`)
  await site.start()
  await site.allHere()
  const later = (await persist(() => site.snapshot('server-1', path))).snapshot
  await site.stop()
  for (const folder of folders) copy(`${folder}.kept`, folder)
  await site.start()
  await site.allHere()
  let listed: string[] = []
  for (let tries = 0; tries < TRIES && !listed.includes(later); tries++) {
    await sleep(200)
    listed = await site.as('server-1', async ({ catalog }) => (await catalog.snapshots()).map(({ id }) => id))
  }
  t.true(listed.includes(later))
  await allIsWell(t, ground, [first, later])
})
