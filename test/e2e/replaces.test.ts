/** A new server takes the place of one that is gone: its disks' history goes on, the former one is let in no more, a recovery knows. */
import { copyFileSync, cpSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import test, { type ExecutionContext } from 'ava'
import type { SnapshotRow } from '../../src/catalog/types.js'
import type { RecoverReport } from '../../src/jobs/recover/recover.js'
import type { SnapshotReport } from '../../src/jobs/snapshot/snapshot.js'
import { openHome } from '../../src/keys/home.js'
import { freePort } from '../free-port.js'
import { firstDifference } from './disks.js'
import { imager, lastLine, type Outcome, start, TestLab } from './lab.js'

type Listed = SnapshotRow[]

async function token(t: ExecutionContext, { lab }: TestLab, role = 'appliance'): Promise<string> {
  const invited = await imager('invite', '--role', role, '--state', lab.coordinator.state, '--json')
  t.is(invited.code, 0, invited.stdout + invited.stderr)
  return lastLine<{ token: string }>(invited).token
}

async function join(t: ExecutionContext, lab: TestLab, state: string, ...more: string[]): Promise<Outcome> {
  const file = lab.path(`${state}.token`)
  writeFileSync(file, await token(t, lab), { mode: 0o600 })
  return imager('join', '--token-file', file, '--state', lab.path(state), '--json', ...more)
}

async function listed(t: ExecutionContext, state: string): Promise<Listed> {
  const outcome = await imager('snapshots', '--json', '--state', state)
  t.is(outcome.code, 0, outcome.stdout + outcome.stderr)
  return lastLine<{ snapshots: Listed }>(outcome).snapshots
}

async function snapshot(t: ExecutionContext, state: string, disk: string): Promise<SnapshotReport> {
  const outcome = await imager('snapshot', disk, '--state', state, '--json')
  t.is(outcome.code, 0, outcome.stdout + outcome.stderr)
  return lastLine<SnapshotReport>(outcome)
}

async function restores(t: ExecutionContext, lab: TestLab, state: string, id: string, disk: string, ...more: string[]) {
  const target = lab.path('target.img')
  rmSync(target, { force: true })
  const done = await imager('restore', id, '--to', target, '--json', '--state', state, ...more)
  t.is(done.code, 0, done.stdout + done.stderr)
  t.is(firstDifference(disk, target), undefined)
}

const code = (outcome: Outcome) => lastLine<{ code: string }>(outcome).code

test('a new server takes the place of a dead one, and another that of this one; the words alone bring all of it back', async (t) => {
  const lab = await TestLab.up(t, 4)
  const { appliance, coordinator, wordsFile } = lab.lab
  const disk = lab.makeDisk('disk.img', 12)
  const first = await lab.snapshot(t, disk)
  const before = lab.path('before.img')
  copyFileSync(disk, before)

  const words = ['--words-file', wordsFile]
  const alive = await join(t, lab, 'one', '--replaces', 'appliance', ...words)
  t.is(code(alive), 'STILL_ALIVE', 'it called a moment ago')
  t.is(code(await join(t, lab, 'one', '--replaces', 'peer-1', ...words)), 'USAGE', 'no server')
  t.is(code(await join(t, lab, 'one', '--replaces', 'appliance')), 'USAGE', 'without words or key')
  const other = await imager('init', '--state', lab.path('foreign'), '--words-file', lab.path('foreign.txt'), '--json')
  t.is(other.code, 0, other.stdout + other.stderr)
  const foreign = await join(t, lab, 'one', '--replaces', 'appliance', '--words-file', lab.path('foreign.txt'))
  t.is(code(foreign), 'WRONG_WORDS')
  t.deepEqual(
    (await listed(t, appliance.state)).map(({ id }) => id),
    [first],
    'nothing happened',
  )

  const joined = await join(t, lab, 'one', '--replaces', 'appliance', '--even-if-alive', ...words)
  t.is(joined.code, 0, joined.stdout + joined.stderr)
  t.like(lastLine(joined), { name: 'appliance', role: 'appliance' })
  const [one] = [lab.path('one')]
  const [row] = (await listed(t, one)) as [SnapshotRow]
  t.like(row, { id: first, applianceName: 'appliance', state: 'protected' })
  t.is(row.takenBy?.name, 'appliance')
  await restores(t, lab, one, first, before)

  // Its disk as it was restored there: nothing is stored twice, and the sequence goes on.
  const second = await snapshot(t, one, disk)
  t.true(second.newBlocks < second.blocks / 10, `${second.newBlocks} of ${second.blocks} blocks are new`)
  const history = await listed(t, one)
  t.deepEqual(
    history.map(({ id, parent, sequence }) => ({ id, parent, sequence })),
    [
      { id: first, parent: null, sequence: 1 },
      { id: second.snapshot, parent: first, sequence: 2 },
    ],
  )
  t.is(new Set(history.map(({ volume, appliance }) => appliance + volume)).size, 1, 'one disk of one server')

  const back = await imager('snapshot', disk, '--state', appliance.state, '--json')
  t.is(code(back), 'PLACE_TAKEN', back.stdout)
  t.is(code(await imager('snapshots', '--state', appliance.state, '--json')), 'PLACE_TAKEN')
  const hosts = await imager('hosts', '--state', one)
  t.regex(hosts.stdout, /appliance took the place of appliance \(key [0-9a-f]{16}\.\.\.\)/)
  const shown = await imager('show', first, '--state', one)
  t.regex(shown.stdout, /Taken by +appliance \(key /)
  const status = lastLine<{ notes: string[]; problems: { code: string }[]; volumes: unknown[] }>(
    await imager('status', '--json', '--state', one),
  )
  t.regex(status.notes.join('\n'), /has the place of appliance \(key/)
  t.deepEqual(
    status.problems.map((one) => one.code),
    ['REPLACED_BACK'],
  )
  t.is(status.volumes.length, 1)

  // Another one, of another name; and everything but peers and words burns.
  const again = await join(t, lab, 'two', '--replaces', 'appliance', '--even-if-alive', '--name', 'heir', ...words)
  t.is(again.code, 0, again.stdout + again.stderr)
  const two = lab.path('two')
  const third = await snapshot(t, two, disk)
  t.deepEqual(
    (await listed(t, two)).map(({ applianceName, sequence }) => [applianceName, sequence]),
    [
      ['heir', 1],
      ['heir', 2],
      ['heir', 3],
    ],
  )
  await restores(t, lab, two, first, before)
  cpSync(two, lab.path('kept'), { recursive: true })
  await lab.kill(coordinator.pid)
  for (const state of [coordinator.state, appliance.state, one, two]) rmSync(state, { recursive: true })
  const { address } = lab.lab.peers[2] as { address: string }
  const listen = `127.0.0.1:${await freePort()}`
  const given = ['--peer', address, '--listen', listen, '--name', 'spare', '--state', lab.path('new')]
  const recovered = await imager('recover', ...words, ...given, '--json')
  t.is(recovered.code, 0, recovered.stdout + recovered.stderr)
  t.is(lastLine<RecoverReport>(recovered).snapshots.length, 3)
  t.deepEqual(
    (await listed(t, lab.path('new'))).map(({ id, applianceName }) => [id, applianceName]),
    [
      [first, 'heir'],
      [second.snapshot, 'heir'],
      [third.snapshot, 'heir'],
    ],
  )
  for (const id of [first, second.snapshot, third.snapshot]) await restores(t, lab, lab.path('new'), id, before)
  t.is((await imager('lock', '--state', lab.path('new'))).code, 0)
  await restores(t, lab, lab.path('new'), first, before, ...words)

  const daemon = start(['coordinator', '--state', lab.path('new')])
  t.teardown(() => daemon.kill('SIGKILL'))
  const last = await imager('snapshot', disk, '--state', lab.path('kept'), '--json')
  t.is(last.code, 0, last.stdout + last.stderr)
  await restores(t, lab, lab.path('kept'), first, before)
  t.is((await listed(t, lab.path('kept'))).at(-1)?.sequence, 4)
})

test('an admin gives a dead server’s place away: its history goes on, and only the words read what was there before', async (t) => {
  const lab = await TestLab.up(t, 3)
  const { appliance, coordinator, wordsFile } = lab.lab
  const disk = lab.makeDisk('disk.img', 12)
  const first = await lab.snapshot(t, disk)
  const before = lab.path('before.img')
  copyFileSync(disk, before)
  const key = ['--admin-key', lab.path('anna.key')]
  const office = ['--state', coordinator.state, '--json']
  const words = ['--words-file', wordsFile]
  const added = await imager('admin', 'add', 'Anna', ...key, ...words, ...office)
  t.is(added.code, 0, added.stdout + added.stderr)
  // Whose key it is decides, and one of words and key is enough.
  const replaces = ['--replaces', 'appliance', '--even-if-alive']
  t.is((await imager('init', '--state', lab.path('foreign'), '--words-file', lab.path('foreign.txt'))).code, 0)
  const foreign = ['--admin-key', lab.path('foreign/identity.key')]
  t.is(code(await join(t, lab, 'heir', ...replaces, ...foreign)), 'NOT_ADMIN')
  t.is(code(await join(t, lab, 'heir', ...replaces, ...key, ...words)), 'USAGE')
  t.is(code(await join(t, lab, 'heir', '--replaces', 'appliance', ...key)), 'STILL_ALIVE')

  const joined = await join(t, lab, 'heir', ...replaces, ...key)
  t.is(joined.code, 0, joined.stdout + joined.stderr)
  t.like(lastLine(joined), { name: 'appliance', locked: true })
  const heir = lab.path('heir')
  // The name, the list and the chain of heads are its own; no key to what was there before is.
  t.like((await listed(t, heir))[0], { id: first, applianceName: 'appliance', state: 'protected' })
  const keys = readdirSync(lab.path('heir/keys')).filter((name) =>
    name.includes(openHome(appliance.state).host.slice(0, 16)),
  )
  t.deepEqual(keys, [])
  const locked = await imager('restore', first, '--to', lab.path('no.img'), '--state', heir, '--json')
  t.is(code(locked), 'KEYS_LOCKED')
  t.regex(locked.stdout, /by the word of an admin, who has no keys/)
  t.is(code(await imager('ls', first, '--state', heir, '--json')), 'KEYS_LOCKED')
  const second = await snapshot(t, heir, disk)
  t.true(second.newBlocks < second.blocks / 10, `${second.newBlocks} of ${second.blocks} blocks are new`)
  t.deepEqual(
    (await listed(t, heir)).map(({ id, parent, sequence }) => ({ id, parent, sequence })),
    [
      { id: first, parent: null, sequence: 1 },
      { id: second.snapshot, parent: first, sequence: 2 },
    ],
  )
  await restores(t, lab, heir, second.snapshot, before)
  await restores(t, lab, heir, first, before, ...words)
  t.is(code(await imager('snapshots', '--state', appliance.state, '--json')), 'PLACE_TAKEN')

  // Who ends the admin says it again: it holds.
  const ended = await imager('admin', 'remove', 'Anna', ...words, ...office)
  t.is(ended.code, 0, ended.stdout + ended.stderr)
  t.is(openHome(coordinator.state).membership().line.former.length, 1)
  await restores(t, lab, heir, second.snapshot, before)
})
