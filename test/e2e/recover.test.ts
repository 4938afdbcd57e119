import { cpSync, existsSync, openSync, readdirSync, readFileSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import type { LabReport } from '../../src/daemon/lab.js'
import { type Fleet, openFleet } from '../../src/fleet/open.js'
import { unlocking } from '../../src/fleet/unlock.js'
import { openReader } from '../../src/jobs/reader.js'
import type { RecoverReport } from '../../src/jobs/recover/recover.js'
import { openHome } from '../../src/keys/home.js'
import { Secret } from '../../src/native.js'
import { eventually } from '../fleet/fleet.js'
import { freePort } from '../free-port.js'
import { freeze } from './harm.js'
import { imager, lastLine, type Outcome, sameDisk, start, TestLab } from './lab.js'

interface Refusal {
  status: string
  code: string
  message: string
  remedy: string
}

async function recover(lab: TestLab, state: string, peer: number, words = lab.lab.wordsFile): Promise<Outcome> {
  const { address } = lab.lab.peers[peer] as LabReport['peers'][number]
  const listen = `127.0.0.1:${await freePort()}`
  const given = ['--words-file', words, '--peer', address, '--listen', listen, '--name', 'spare']
  return imager('recover', ...given, '--state', lab.path(state), '--json')
}

async function withFleet(state: string, work: (fleet: Fleet) => Promise<void>): Promise<void> {
  const fleet = await openFleet(openHome(state))
  try {
    await work(fleet)
  } finally {
    await fleet.close()
  }
}

async function compare(t: ExecutionContext, state: string, snapshot: string, disk: string): Promise<void> {
  await withFleet(state, async (fleet) => {
    const unlock = unlocking(fleet, undefined, new AbortController().signal)
    await sameDisk(t, disk, (await openReader(snapshot, { ...fleet, unlock })).reader)
  })
}

test('who has not answered is named before its deadline', async (t) => {
  const lab = await TestLab.up(t, 3)
  const { address } = lab.lab.peers[0] as LabReport['peers'][number]
  freeze(t, lab.lab.peers.slice(2))
  const given = ['--words-file', lab.lab.wordsFile, '--peer', address, '--listen', `127.0.0.1:${await freePort()}`]
  const recovering = start(['recover', ...given, '--name', 'spare', '--state', lab.path('new'), '--json'])
  t.teardown(() => void recovering.kill('SIGKILL'))
  let stdout = ''
  recovering.stdout?.on('data', (chunk: Buffer) => (stdout += chunk.toString()))
  const told = /2 peers answered; no answer yet from peer-3/
  while (!told.test(stdout)) {
    if (recovering.exitCode !== null || stdout.includes('"status":"done"')) return t.fail(stdout)
    await sleep(20)
  }
  t.pass()
})

test('appliance, coordinator and two of five peers are gone: the words bring every snapshot back', async (t) => {
  const lab = await TestLab.up(t, 5)
  const disk = lab.makeDisk('disk.img', 48)
  const first = await lab.snapshot(t, disk)
  const second = await lab.snapshot(t, disk)
  await lab.burn()
  for (const peer of lab.lab.peers.slice(0, 2)) await lab.kill(peer.pid)

  const started = performance.now()
  const outcome = await recover(lab, 'new', 4)
  t.log(`recovered in ${Math.round(performance.now() - started)} ms`)
  t.is(outcome.code, 0, outcome.stdout + outcome.stderr)
  const report = lastLine<RecoverReport>(outcome)
  t.is(report.term, 2)
  t.deepEqual(report.peers.reached, ['peer-3', 'peer-4', 'peer-5'])
  t.deepEqual(
    report.peers.missing.map(({ name }) => name),
    ['peer-1', 'peer-2'],
  )
  t.like(report.shards, { damaged: 0, foreign: 0 })
  t.like(report.stripes, { lacking: 0, unreadable: 0 })
  t.deepEqual(
    report.snapshots.map(({ id, survives }) => ({ id, survives })),
    [first, second].map((id) => ({ id, survives: 1 })),
  )
  t.false(existsSync(lab.path('new/found.db')))
  // Without any coordinator running.
  for (const snapshot of [first, second]) await compare(t, lab.path('new'), snapshot, disk)
  await lab.kill(lab.lab.peers[2]?.pid ?? 0)
  await compare(t, lab.path('new'), 'latest', disk)

  const list = await imager('snapshots', '--state', lab.path('new'), '--json')
  t.true(list.code === 0 && list.stdout.includes(first) && list.stdout.includes(second), list.stdout + list.stderr)
  const files = await imager('ls', first.slice(0, 8), '/0/folder', '--state', lab.path('new'))
  t.regex(files.stdout, /file 199/, files.stderr)
  const restored = lab.path('restored.img')
  const restore = await imager('restore', 'latest', '--to', restored, '--state', lab.path('new'), '--json')
  t.is(restore.code, 0, restore.stdout + restore.stderr)
  t.true(readFileSync(restored).equals(readFileSync(disk)))
})

test('a new coordinator is followed: by peers that were away, by the old appliance, by nobody of an older term', async (t) => {
  const lab = await TestLab.up(t, 4)
  const { coordinator, appliance, peers } = lab.lab
  const disk = lab.makeDisk('disk.img', 16)
  const first = await lab.snapshot(t, disk)
  for (const { state } of [coordinator, appliance]) cpSync(state, `${state}.copy`, { recursive: true })
  cpSync(appliance.state, `${appliance.state}.stale`, { recursive: true })
  await lab.burn()
  await lab.kill(peers[0]?.pid ?? 0)
  t.is((await recover(lab, 'new', 1)).code, 0)
  const again = await recover(lab, 'new', 1)
  t.is(again.code, 0, again.stdout + again.stderr)
  t.truthy(lastLine<RecoverReport>(again).setAside, 'in the same folder it begins anew, and keeps what was there')
  const second = await recover(lab, 'newer', 2)
  t.is(second.code, 0, second.stdout + second.stderr)
  t.is(lastLine<RecoverReport>(second).term, 4)
  await t.throwsAsync(compare(t, lab.path('new'), first, disk), { code: 'NOT_RESTORABLE' }, 'its term is over')
  await compare(t, lab.path('newer'), first, disk)

  const daemons = [start(['coordinator', '--state', lab.path('newer')]), lab.startPeer(0)]
  t.teardown(() => {
    for (const daemon of daemons) daemon.kill('SIGKILL')
  })
  await withFleet(lab.path('newer'), async ({ catalog }) => {
    await eventually(t, 'all peers are here, the one that was away too', async () => {
      const here = (await catalog.hosts()).filter((host) => host.role === 'peer' && !host.away)
      return here.length === 4
    })
    await eventually(t, 'and have signed again what they hold', async () =>
      (await catalog.snapshots()).every(({ receipted, target }) => receipted >= target),
    )
  })
  const state = `${appliance.state}.copy`
  const later = await imager('snapshot', disk, '--state', state, '--json')
  t.is(later.code, 0, later.stdout + later.stderr)
  const { snapshot } = lastLine<{ snapshot: string }>(later)
  await compare(t, state, first, disk)
  await compare(t, lab.path('newer'), snapshot, disk)

  // What burned comes back from a copy: it may say what it likes, no peer obeys.
  cpSync(`${coordinator.state}.copy`, `${coordinator.state}.untold`, { recursive: true })
  await withFleet(`${coordinator.state}.untold`, async (fleet) => {
    t.is(fleet.home.membership().term, 1)
    for (const { host, role } of fleet.home.membership().hosts) {
      if (role === 'peer') await t.throwsAsync(fleet.peers.get(host).fetchState(), { code: 'NOT_ALLOWED' })
    }
  })
  const stale = start(['coordinator', '--state', `${coordinator.state}.copy`])
  daemons.push(stale)
  await eventually(t, 'it is told', () => openHome(`${coordinator.state}.copy`).membership().term === 4)
  await t.throwsAsync(openFleet(openHome(`${coordinator.state}.copy`)), { code: 'REPLACED' })
  const followed = await imager('snapshot', disk, '--state', `${appliance.state}.stale`, '--full-read', '--json')
  t.is(followed.code, 0, followed.stdout)
  await compare(t, lab.path('newer'), lastLine<{ snapshot: string }>(followed).snapshot, disk)
})

test('what is wrong is said, and nothing is taken over', async (t) => {
  const lab = await TestLab.up(t, 4)
  const { coordinator, peers, wordsFile } = lab.lab
  const disk = lab.makeDisk('disk.img', 16)
  await lab.snapshot(t, disk)
  const refused = async (words: string, peer: string) => {
    writeFileSync(lab.path('words'), words)
    const given = ['--words-file', lab.path('words'), '--peer', peer, '--state', lab.path('new'), '--json']
    const outcome = await imager('recover', ...given)
    return { exit: outcome.code, ...lastLine<Refusal>(outcome) }
  }
  const words = readFileSync(wordsFile, 'utf8').trim()
  const { address } = peers[0] as LabReport['peers'][number]
  const list = words.split(' ')
  const typo = await refused([...list.slice(0, 6), 'fiel', ...list.slice(7)].join(' '), address)
  t.like(typo, { exit: 12, code: 'WRONG_WORDS' })
  t.regex(typo.message, /word 7 is not in the list: "fiel"/)
  const swapped = [...list.slice(0, 22), list[23], list[22]].join(' ')
  const odd = await refused(swapped === words ? list.slice(1).join(' ') : swapped, address)
  t.true(odd.exit === 12, odd.message)
  t.regex((await refused(list.slice(1).join(' '), address)).message, /there are 23 of them, not 24/)
  const other = await refused(Secret.random().words(), address)
  t.like(other, { exit: 12, code: 'WRONG_WORDS' })
  t.regex(other.message, /words are not of the fleet/)
  const nobody = `127.0.0.1:${await freePort()}`
  t.like(await refused(words, nobody), { exit: 1, code: 'HOST_UNREACHABLE' })
  t.like(await refused(words, coordinator.address), { exit: 2, code: 'USAGE' })
  t.is((await imager('recover', '--peer', address, '--state', lab.path('new'))).code, 2)

  // 2+2: with three of four gone no stripe can be read.
  for (const { pid } of peers.slice(1)) await lab.kill(pid)
  const few = await refused(words, address)
  t.like(few, { exit: 5, code: 'NOT_RESTORABLE' })
  t.regex(few.remedy, /any 1 of peer-2, peer-3, peer-4/)
  const state = await imager('status', '--state', coordinator.state, '--json')
  t.is(lastLine<{ role: string }>(state).role, 'coordinator')
  t.false(existsSync(lab.path('new/home.json')))
})

test('damage is counted, and a recovery that was killed is repeated in the same folder', async (t) => {
  const lab = await TestLab.up(t, 4)
  const disk = lab.makeDisk('disk.img', 24)
  const snapshot = await lab.snapshot(t, disk)
  await lab.burn()
  const shardsOf = (index: number) => {
    const { store } = lab.lab.peers[index] as LabReport['peers'][number]
    const files = readdirSync(join(store, 'shards'), { recursive: true, withFileTypes: true })
    return files.filter((one) => one.isFile()).map((one) => join(one.parentPath, one.name))
  }
  // On one peer every sealed header, on another every body: together they may not cost more than m shards of a stripe.
  for (const path of shardsOf(0)) writeSync(openSync(path, 'r+'), Buffer.alloc(32, 0xee), 0, 32, 40)
  for (const path of shardsOf(1)) writeSync(openSync(path, 'r+'), Buffer.alloc(8192, 0xee), 0, 8192, 4096)

  const { address } = lab.lab.peers[3] as LabReport['peers'][number]
  const given = ['--words-file', lab.lab.wordsFile, '--peer', address, '--state', lab.path('new')]
  const victim = start(['recover', ...given])
  while (!existsSync(lab.path('new/catalog/signatures')) && victim.exitCode === null) await sleep(1)
  victim.kill('SIGKILL')
  const outcome = await recover(lab, 'new', 3)
  t.is(outcome.code, 0, outcome.stdout + outcome.stderr)
  const report = lastLine<RecoverReport>(outcome)
  t.is(report.shards.damaged, shardsOf(0).length)
  t.like(report.stripes, { lacking: 0, unreadable: 0 })
  await compare(t, lab.path('new'), snapshot, disk)
})

test('what can be restored is; what cannot yet is listed with the hosts that would suffice', async (t) => {
  const lab = await TestLab.up(t, 4)
  const [safe, frail] = [lab.makeDisk('safe.img', 12), lab.makeDisk('frail.img', 12)]
  const kept = await lab.snapshot(t, safe, '--scheme', '1+3')
  const lost = await lab.snapshot(t, frail, '--scheme', '3+1')
  await lab.burn()
  for (const { pid } of lab.lab.peers.slice(2)) await lab.kill(pid)
  const outcome = await recover(lab, 'new', 0)
  t.is(outcome.code, 5, outcome.stdout + outcome.stderr)
  const { snapshots, unreadable, stripes, suffice } = lastLine<RecoverReport>(outcome)
  t.deepEqual(
    snapshots.filter(({ state }) => state !== 'incomplete').map(({ id }) => id),
    [kept],
  )
  t.deepEqual(
    unreadable.map((one) => [one.snapshot, one.appliance]),
    [[lost, 'appliance']],
  )
  t.true(stripes.lacking > 0 && stripes.readable > 0)
  t.is(suffice, 'any 1 of peer-3, peer-4')
  await compare(t, lab.path('new'), kept, safe)

  const back = lab.startPeer(2)
  t.teardown(() => back.kill('SIGKILL'))
  await new Promise((ready) => back.stdout?.once('data', ready))
  const again = await recover(lab, 'newer', 0)
  t.is(again.code, 0, again.stdout + again.stderr)
  await compare(t, lab.path('newer'), lost, frail)
})
