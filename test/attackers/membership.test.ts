/**
 * The coordinator is in foreign hands: its own key signs memberships that are valid in form. Real processes; the attacker is the
 * project's own code over the coordinator's own state folder.
 */
import { readdirSync, readFileSync, rmSync } from 'node:fs'
import { basename, join } from 'node:path'
import test from 'ava'
import type { LabReport } from '../../src/daemon/lab.js'
import type { RecoverReport } from '../../src/jobs/recover/recover.js'
import { admit } from '../../src/keys/admission.js'
import { makeRemoval } from '../../src/keys/enroller.js'
import { openHome } from '../../src/keys/home.js'
import { type MembershipDraft, openMembership, readersOf, signMembership } from '../../src/keys/membership.js'
import { Secret } from '../../src/native.js'
import { firstDifference } from '../e2e/disks.js'
import { imager, lastLine, TestLab } from '../e2e/lab.js'
import { eventually } from '../fleet/fleet.js'
import { freePort } from '../free-port.js'
import { member } from '../keys/fleet.js'
import { attacking } from './attacks.js'
import { sendMembership } from './sending.js'

type Peer = LabReport['peers'][number]

/** Files of a PC with that text in them, also where it stands in base64, and in base64 within that. */
function filesWith({ state, store }: Peer, text: string): string[] {
  const files = [state, store].flatMap((folder) =>
    readdirSync(folder, { recursive: true, withFileTypes: true })
      .filter((one) => one.isFile())
      .map((one) => join(one.parentPath, one.name)),
  )
  return files.filter((path) => holds(readFileSync(path), text, 3)).map((path) => basename(path))
}

function holds(bytes: Buffer, text: string, depth: number): boolean {
  if (bytes.includes(text)) return true
  if (depth === 0) return false
  const runs = bytes.toString('latin1').match(/[A-Za-z0-9+/]{24,}={0,2}/g) ?? []
  return runs.some((run) => holds(Buffer.from(run, 'base64'), text, depth - 1))
}

const LAST = 2 ** 53 - 1

test('peers are hidden, numbers used up, delegations repeated: the words find every peer, and all restores', async (t) => {
  const tried = attacking(t)
  const lab = await TestLab.up(t, 6)
  const { coordinator, peers } = lab.lab
  const disk = lab.makeDisk('disk.img', 16)
  await lab.snapshot(t, disk)
  const home = openHome(coordinator.state)
  const body = home.membership().draft()
  const { term } = body
  // One machine holds all duties: it signs what an enroller would.
  const removalOf = (host: string) => makeRemoval(home, home.membership(), host).toString('base64')
  const readers = readersOf(home.membership().hosts, [], home.rootSealing)
  const sign = ({ hosts = body.hosts, ...change }: Partial<MembershipDraft>) => {
    const left = new Set(hosts.map(({ name }) => name))
    const gone = home.membership().hosts.filter(({ name }) => name !== 'ghost' && !left.has(name))
    const removals = gone.map(({ host }) => removalOf(host))
    return signMembership({ ...body, witnesses: [], hosts, removals, ...change }, home.secret, readers)
  }

  // A stranger is signed in, and the list of hosts does not name him: whoever looks sees it.
  const { host, sealing, role, ...ghost } = member(Secret.random(), 'ghost', 'admin')
  const admitted = admit({ fleet: home.fleet, term, host, sealing, role }, home.secret)
  const signedIn = [...body.hosts, { ...admitted, ...ghost }]
  home.saveMembership(sign({ sequence: body.sequence + 1, hosts: signedIn }))
  const listed = await imager('hosts', '--state', coordinator.state)
  t.regex(listed.stdout, /^ghost +admin +- +NOT LISTED/m)
  t.regex(listed.stdout, /^! ghost \(admin, key .* is signed in, and not in the coordinator's list of hosts$/m)
  const status = await imager('status', '--state', coordinator.state, '--json')
  t.is(status.code, 8)
  t.true(status.stdout.includes('"STRANGER"'), status.stdout)
  tried('member-slipped-in')
  await lab.kill(coordinator.pid)
  const without = (...names: string[]) => body.hosts.filter(({ name }) => !names.includes(name))
  const everywhere = (bytes: Buffer) => Promise.all(peers.map((peer) => sendMembership(home, peer, bytes)))
  const all = (outcome: string) => peers.map(() => outcome)

  // No peers at all, with the last number there is.
  const names = peers.map(({ name }) => name)
  const empty = sign({ sequence: LAST, hosts: without(...names) })
  t.deepEqual(await everywhere(empty), all('MEMBERSHIP_SHRINKS'))
  const more = sign({ sequence: LAST, hosts: without(...names.slice(0, 4)) })
  t.deepEqual(await everywhere(more), all('MEMBERSHIP_SHRINKS'))
  tried('members-none', 'members-few')
  // In steps that each peer takes: three of six, then one of three, and the server too.
  const half = sign({ sequence: body.sequence + 1, hosts: without(...names.slice(0, 3)) })
  t.deepEqual(await everywhere(half), all('taken'))
  const [first = ''] = body.delegations
  const flooded = [...body.delegations, ...Array<string>(256 - body.delegations.length).fill(first)]
  const last = sign({ sequence: LAST, delegations: flooded, hosts: without(...names.slice(0, 4), 'appliance') })
  t.deepEqual(await everywhere(last), all('taken'))
  for (const { state } of peers) t.is(openHome(state).membership().sequence, LAST)

  for (const { state } of [coordinator, lab.lab.appliance]) rmSync(state, { recursive: true })
  const recover = async (peer: Peer) => {
    const listen = ['--listen', `127.0.0.1:${await freePort()}`, '--state', lab.path('new')]
    const given = ['--words-file', lab.lab.wordsFile, '--peer', peer.address, '--name', 'spare', ...listen]
    const outcome = await imager('recover', ...given, '--json')
    t.is(outcome.code, 0, outcome.stdout + outcome.stderr)
    return lastLine<RecoverReport>(outcome)
  }
  // Asked is one that is not hidden.
  const report = await recover(peers[5] as Peer)
  t.deepEqual(report.peers.reached.sort(), names)
  t.deepEqual(report.peers.returned.sort(), ['appliance', ...names.slice(0, 4)])
  t.is(report.snapshots.length, 1)
  const next = openHome(lab.path('new')).membership()
  t.like(next, { term: 2, sequence: 1 })
  t.is(next.hosts.length, 8)
  for (const { state } of peers) {
    t.like(openHome(state).membership(), { term: 2, sequence: 1 })
  }
  const target = lab.path('target.img')
  const restored = await imager('restore', 'latest', '--to', target, '--state', lab.path('new'), '--json')
  t.is(restored.code, 0, restored.stdout + restored.stderr)
  t.is(firstDifference(disk, target), undefined)
  tried('members-in-steps', 'delegations-repeated')

  // The former coordinator comes back with what it has: it is no member, and its term is over.
  t.deepEqual(await everywhere(last), all('NOT_ALLOWED'))
  const spare = openHome(lab.path('new'))
  const again = signMembership({ ...body, sequence: LAST }, home.secret, [])
  t.is(await sendMembership(spare, peers[0] as Peer, again), 'HOST_REFUSED')
  const raised = signMembership({ ...next.draft(), sequence: 2 }, home.secret, [])
  t.is(await sendMembership(spare, peers[0] as Peer, raised), 'FORGED')
  t.throws(() => openMembership(raised, home.fleet, home.rootKey), { code: 'FORGED' })
  tried('members-former')
})

test('once another host is the enroller, the coordinator alone lets nobody in and removes nobody; together they do', async (t) => {
  const tried = attacking(t)
  const lab = await TestLab.up(t, 3)
  const { coordinator, peers, wordsFile } = lab.lab
  const [office, first] = [['--state', coordinator.state], peers[0] as Peer]
  const before = openHome(coordinator.state).membership()
  const all = await imager('duties', ...office)
  t.regex(all.stdout, /^enroller +coordinator +1 +let hosts in/m)
  t.regex(all.stdout, /^! One machine holds all duties/m)
  const old = lastLine<{ token: string }>(await imager('invite', ...office, '--json')).token
  const wrong = await imager('duties', 'move', 'enroller', 'nobody', '--words-file', wordsFile, ...office, '--json')
  t.like(lastLine<object>(wrong), { code: 'NO_SUCH_HOST' })
  const moved = await imager('duties', 'move', 'enroller', first.name, '--words-file', wordsFile, ...office, '--json')
  t.is(moved.code, 0, moved.stdout + moved.stderr)
  t.like(lastLine<object>(moved), { status: 'done', term: 2, oneMachine: false })
  t.notRegex((await imager('duties', ...office)).stdout, /One machine/)
  await eventually(t, 'all peers know the new term', () => {
    return peers.every(({ state }) => openHome(state).membership().term === 2)
  })

  // The coordinator's own key, and what it could sign before.
  const home = openHome(coordinator.state)
  const body = home.membership().draft()
  const stranger = member(Secret.random(), 'ghost', 'peer')
  const { host, sealing, role, name, domain } = stranger
  const admission = admit({ fleet: home.fleet, term: 2, host, sealing, role }, home.secret)
  const listed = [...body.hosts, { ...admission, name, domain }]
  const alone = signMembership({ ...body, sequence: 9, hosts: listed }, home.secret, [])
  for (const peer of peers) t.is(await sendMembership(home, peer, alone), 'FORGED')
  const without = signMembership(
    { ...body, sequence: 9, hosts: body.hosts.slice(0, -1), witnesses: [] },
    home.secret,
    [],
  )
  for (const peer of peers) t.is(await sendMembership(home, peer, without), 'FORGED')
  const replayed = signMembership({ ...before.draft(), sequence: LAST }, home.secret, [])
  for (const peer of peers) t.is(await sendMembership(home, peer, replayed), 'HOST_REFUSED')
  const refused = { status: 'error', code: 'NOT_ALLOWED' }
  const invited = lastLine<{ message: string }>(await imager('invite', ...office, '--json'))
  t.like(invited, refused)
  t.regex(invited.message, /on peer-1, the enroller/)
  t.like(lastLine<object>(await imager('remove', 'peer-3', ...office, '--json')), refused)
  tried('admits-alone', 'removes-alone', 'members-replayed', 'token-made')
  const join = (token: string) =>
    imager(
      'join',
      token,
      '--name',
      'zanzibar',
      '--domain',
      'cellar-9',
      '--listen',
      '127.0.0.1:0',
      '--state',
      lab.path('pc'),
      '--json',
    )
  t.like(lastLine<object>(await join(old)), { code: 'WRONG_KEY' })
  tried('token-of-before')

  // The enroller makes the token, the coordinator takes it.
  const given = await imager('invite', '--state', first.state, '--json')
  t.is(given.code, 0, given.stdout + given.stderr)
  const joined = await join(lastLine<{ token: string }>(given).token)
  t.is(joined.code, 0, joined.stdout + joined.stderr)
  await eventually(t, 'peers believe it', () => {
    return peers.every(
      ({ state }) =>
        openHome(state)
          .membership()
          .find(openHome(lab.path('pc')).host) !== undefined,
    )
  })
  // Whoever carries a PC away reads no name in it, but who needs names has them.
  const [stolen] = [peers[2] as Peer]
  for (const name of ['zanzibar', 'cellar-9', 'peer-2']) t.deepEqual(filesWith(stolen, name), [])
  t.true(filesWith(stolen, 'peer-3').includes('home.json'), 'its own')
  tried('pc-stolen')
  const listed2 = await imager('hosts', '--state', lab.lab.appliance.state)
  t.regex(listed2.stdout, /^zanzibar +peer +cellar-9/m)
  t.is(
    openHome(coordinator.state)
      .membership()
      .find(openHome(lab.path('pc')).host)?.name,
    'zanzibar',
  )
  t.regex((await imager('status', '--state', stolen.state)).stdout, /^peer-3, a peer of fleet/)
  const removed = await imager('remove', 'zanzibar', '--state', first.state, '--json')
  t.is(removed.code, 0, removed.stdout + removed.stderr)
  t.is((await imager('remove', 'peer-3', '--state', (peers[1] as Peer).state, '--json')).code, 12)
  tried('peer-removes')
  const disk = lab.makeDisk('disk.img', 8)
  await lab.snapshot(t, disk)
  await lab.restoreLatest(t, disk)
})
