/** Who belongs to a fleet, as people meet it: names, clocks, leaving, and what is said of it. Real processes. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { rmSync, statSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import test, { type ExecutionContext } from 'ava'
import type { EventRow } from '../../src/catalog/registry.js'
import type { HostRow } from '../../src/catalog/types.js'
import type { LabReport } from '../../src/daemon/lab.js'
import { partsOfEntryName } from '../../src/keys/entry.js'
import { openHome } from '../../src/keys/home.js'
import { eventually } from '../fleet/fleet.js'
import { freePort } from '../free-port.js'
import { imager, lastLine, start, TestLab } from './lab.js'

const MAIN = fileURLToPath(new URL('../../bin/imager.cjs', import.meta.url))

interface Refused {
  code: string
  message: string
  remedy: string
}

async function hostsOf(state: string): Promise<HostRow[]> {
  return lastLine<{ hosts: HostRow[] }>(await imager('hosts', '--state', state, '--json')).hosts
}

async function eventsOf(state: string): Promise<EventRow[]> {
  const { stdout } = await imager('events', '--state', state, '--json')
  return stdout
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as EventRow)
}

/** A daemon that ends with the test; resolves once it is ready. */
async function daemon(
  t: ExecutionContext,
  argv: readonly string[],
  env: NodeJS.ProcessEnv = {},
): Promise<ChildProcess> {
  const child = spawn(process.execPath, [MAIN, ...argv, '--json'], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...env },
  })
  t.teardown(() => child.kill('SIGKILL'))
  await once(child.stdout, 'data')
  return child
}

/** Everything that it said on stderr until now. */
function heard(child: ChildProcess): () => string {
  let text = ''
  child.stderr?.on('data', (chunk: Buffer) => (text += chunk.toString()))
  return () => text
}

async function invite(t: ExecutionContext, state: string, role: string): Promise<string> {
  const outcome = await imager('invite', '--role', role, '--state', state, '--json')
  t.is(outcome.code, 0, outcome.stdout + outcome.stderr)
  return lastLine<{ token: string }>(outcome).token
}

/** Joins a new host of that name; its state folder. */
async function joinAs(t: ExecutionContext, lab: TestLab, from: string, role: string, folder: string, name = folder) {
  const state = lab.path(`${folder}.state`)
  const given = ['--name', name, '--listen', '127.0.0.1:0', '--state', state]
  const outcome = await imager('join', await invite(t, from, role), ...given, '--json')
  t.is(outcome.code, 0, outcome.stdout + outcome.stderr)
  return { state, ...lastLine<{ name: string; asked: string; host: string }>(outcome) }
}

const peerOf = (state: string) => {
  return ['peer', '--state', state, '--store', `${state}.store`, '--listen', '127.0.0.1:0', '--keep-free', '1M']
}

test('after a recovery all keys reach all peers, those of the server that burned too, and the next recovery opens them', async (t) => {
  const lab = await TestLab.up(t, 3)
  const disk = lab.makeDisk('disk.img', 16)
  await lab.snapshot(t, disk)
  await lab.burn()
  const recover = async (state: string) => {
    const { address } = lab.lab.peers[0] as LabReport['peers'][number]
    const listen = ['--listen', `127.0.0.1:${await freePort()}`, '--state', lab.path(state)]
    const given = ['--words-file', lab.lab.wordsFile, '--peer', address, '--name', 'spare', ...listen]
    const outcome = await imager('recover', ...given, '--json')
    t.is(outcome.code, 0, outcome.stdout + outcome.stderr)
    return lastLine<{ snapshots: { id: string; state: string }[] }>(outcome).snapshots
  }
  await recover('new')
  const first = await daemon(t, ['coordinator', '--state', lab.path('new')])
  const server = await joinAs(t, lab, lab.path('new'), 'appliance', 'server')
  await eventually(t, 'all peers follow', async () => {
    return (await hostsOf(lab.path('new'))).filter((one) => one.role === 'peer' && !one.away).length === 3
  })
  const { LocalCatalog } = await import('../../src/catalog/local.js')
  const catalog = LocalCatalog.openFor(lab.path('new'))
  t.teardown(() => catalog.close())
  const { registry } = catalog
  const peers = (await catalog.hosts()).flatMap(({ host, role }) => (role === 'peer' ? host : []))
  const onAll = (owner: string) => registry.keyHolders(owner, peers).size === 3
  await eventually(t, 'its keys are on all peers', () => onAll(server.host))
  t.true(registry.keysHeld(server.host, await catalog.hosts()))
  const owners = () => new Set(registry.documents('key').map(({ name }) => partsOfEntryName(name).owner))
  t.is(owners().size, 4, 'two coordinators and two servers')
  await eventually(t, 'so are the others', () => [...owners()].every(onAll))
  const second = lab.makeDisk('second.img', 12)
  const outcome = await imager('snapshot', second, '--state', server.state, '--json')
  t.is(outcome.code, 0, outcome.stdout + outcome.stderr)
  const { snapshot } = lastLine<{ snapshot: string }>(outcome)
  const refusals = (await eventsOf(lab.path('new'))).filter(({ kind }) => kind === 'refusal')
  t.deepEqual(refusals, [], 'the coordinator that burned was a holder in its term')
  first.kill('SIGKILL')
  rmSync(lab.path('new'), { recursive: true })
  rmSync(server.state, { recursive: true })
  const found = (await recover('newer')).find(({ id }) => id === snapshot)
  t.truthy(found && found.state !== 'incomplete')
  const target = lab.path('target.img')
  const restored = await imager('restore', snapshot, '--to', target, '--state', lab.path('newer'), '--json')
  t.is(restored.code, 0, restored.stdout + restored.stderr)
  t.is(statSync(target).size, statSync(second).size)
})

test('PCs that were cloned with their name are hosts of their own; refusals are counted, joins stay', async (t) => {
  const lab = await TestLab.up(t, 1)
  const office = lab.lab.coordinator.state
  const clones: Awaited<ReturnType<typeof joinAs>>[] = []
  for (const folder of ['a', 'b', 'c']) clones.push(await joinAs(t, lab, office, 'peer', folder, 'debian'))
  t.deepEqual(
    clones.map(({ name, asked }) => [name, asked]),
    [
      ['debian', 'debian'],
      ['debian-2', 'debian'],
      ['debian-3', 'debian'],
    ],
  )
  for (const { state } of clones) await daemon(t, peerOf(state))
  const rows = await hostsOf(office)
  t.deepEqual(
    clones.map(({ host }) => rows.find((row) => row.host === host)?.domain),
    clones.map(({ host }) => host),
  )
  t.deepEqual(
    rows.map(({ name, role, state }) => [name, role, state]),
    [
      ['appliance', 'appliance', rows[0]?.state],
      ['coordinator', 'coordinator', 'here'],
      ...['debian', 'debian-2', 'debian-3', 'peer-1'].map((name) => [name, 'peer', 'here']),
    ],
  )
  t.not(rows[0]?.state, 'never-seen', 'it has brought its keys')
  const disk = lab.makeDisk('disk.img', 8)
  const stored = await imager('snapshot', disk, '--state', lab.lab.appliance.state, '--json')
  t.is(stored.code, 0, stored.stdout)
  const { snapshots } = lastLine<{ snapshots: { summary: { k: number; m: number } }[] }>(
    await imager('snapshots', '--state', office, '--json'),
  )
  t.like(snapshots[0]?.summary, { k: 2, m: 2 }, 'four hosts fit')

  const renamed = await imager('rename', 'debian-2', 'reception', '--state', office, '--json')
  t.like(lastLine<object>(renamed), { status: 'done', host: 'debian-2', name: 'reception', key: clones[1]?.host })
  const taken = await imager('rename', 'debian', 'Reception', '--state', office, '--json')
  t.like(lastLine<Refused>(taken), { code: 'NAME_TAKEN' })
  t.is((await imager('rename', 'nobody', 'x', '--state', office)).code, 10)
  t.is((await imager('rename', 'debian', 'x', '--state', lab.lab.appliance.state)).code, 12)
  await eventually(t, 'it knows its own name', async () => openHome(clones[1]?.state ?? '').name === 'reception')

  const token = await invite(t, office, 'peer')
  const join = (state: string) => imager('join', token, '--state', lab.path(state), '--json')
  t.is((await join('once')).code, 0)
  for (const state of ['twice', 'thrice', 'again']) t.is(lastLine<Refused>(await join(state)).code, 'WRONG_KEY')
  const events = await eventsOf(office)
  t.is(
    events.filter(({ sentence }) => sentence === 'debian-2 joined as peer; it asked for debian, which is taken').length,
    1,
  )
  t.is(events.find(({ kind }) => kind === 'rename')?.sentence, 'debian-2 is called reception now')
  t.deepEqual(
    events.filter(({ sentence }) => /used already/.test(sentence)).map(({ kind, count }) => [kind, count]),
    [['refusal', 3]],
  )
  const text = await imager('events', '--state', office)
  t.regex(text.stdout, /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (?:UTC|[+-]\d\d:\d\d) {2}refusal .*\(3 times in a minute\)$/m)
  const admin = await joinAs(t, lab, office, 'admin', 'admin')
  t.deepEqual((await eventsOf(admin.state)).slice(0, events.length), events, 'an admin reads the same')
  t.is((await imager('events', '--state', lab.lab.appliance.state)).code, 12)

  const follow = start(['events', '--follow', '--state', office, '--json'])
  t.teardown(() => follow.kill('SIGKILL'))
  let followed = ''
  follow.stdout?.on('data', (chunk: Buffer) => (followed += chunk.toString()))
  await eventually(t, 'it shows what was', () => followed.includes('reception'))
  t.is((await imager('rename', 'reception', 'desk', '--state', admin.state)).code, 0)
  await eventually(t, 'and what is new', () => followed.includes('reception is called desk now'))
})

test('a host is removed by name, unless a snapshot needs it; its daemon says so; a sold server is retired', async (t) => {
  const { lab, disk, state } = await TestLab.imaged(t, 4, 8)
  const office = lab.lab.coordinator.state
  const peers = lab.lab.peers
  const remove = (host: string, ...more: string[]) => imager('remove', host, ...more, '--state', office, '--json')
  t.is((await imager('remove', 'peer-1', ...state, '--json')).code, 12)
  t.is((await remove('peer-9')).code, 10)
  t.is((await remove('coordinator')).code, 2)
  const server = await remove('appliance')
  t.is(server.code, 5, server.stdout)
  t.regex(lastLine<Refused>(server).remedy, /imager retire appliance:SOURCE/)

  // 2+2: it survives the loss of two.
  await lab.kill(peers[0]?.pid ?? 0)
  const first = await remove('peer-1')
  t.is(first.code, 0, first.stdout)
  t.like(lastLine<object>(first), { status: 'done', host: 'peer-1', snapshotsBelowTarget: 1 })
  const listed = async () => {
    const outcome = await imager('snapshots', '--state', office, '--json')
    return lastLine<{ snapshots: { survives: number; state: string }[] }>(outcome).snapshots
  }
  t.like((await listed())[0], { survives: 1, state: 'sealed' })
  t.deepEqual(
    (await hostsOf(office)).map(({ name }) => name).filter((name) => name.startsWith('peer')),
    ['peer-2', 'peer-3', 'peer-4'],
  )
  const back = lab.startPeer(0)
  t.teardown(() => back.kill('SIGKILL'))
  const said = heard(back)
  await eventually(t, 'its daemon says so', () => /removed from the fleet.*imager join --state/.test(said()))

  // The coordinator's daemon does not run: it is done in its state folder, and taken over by the next start.
  await lab.kill(lab.lab.coordinator.pid)
  const second = await remove('peer-2')
  t.is(second.code, 0, second.stdout + second.stderr)
  const again = await daemon(t, ['coordinator', '--state', office])
  t.truthy(again.pid)
  t.like((await listed())[0], { survives: 0 })
  await lab.restoreLatest(t, disk)
  const third = await remove('peer-3')
  t.is(third.code, 5, third.stdout)
  t.like(lastLine<Refused>(third), { code: 'WOULD_LOSE' })
  t.regex(lastLine<Refused>(third).remedy, /imager remove peer-3 --force/)
  t.like((await listed())[0], { survives: 0 }, 'nothing changed')
  const forced = await remove('peer-3', '--force')
  t.is(forced.code, 0, forced.stdout)
  t.like((await listed())[0], { survives: -1, state: 'incomplete' })

  const retire = (...argv: string[]) => imager('retire', ...argv, '--state', office, '--json')
  t.like(lastLine<object>(await retire(`appliance:${disk}`)), { status: 'done', source: disk, retired: true })
  const quiet = await imager('status', '--state', office)
  t.regex(quiet.stdout, new RegExp(`Retired, not looked at: appliance:${disk}`))
  t.like(lastLine<object>(await retire(disk, '--undo')), { status: 'done', source: disk, retired: false })
  t.is((await retire('/dev/nothing')).code, 10)
  t.is((await imager('retire', disk, ...state)).code, 12)
  const kinds = (await eventsOf(office)).map(({ kind }) => kind)
  t.is(kinds.filter((kind) => kind === 'removal').length, 3)
})

/** Has a process believe that it is so much later. */
const later = (ms: number) => {
  const script = `const now = Date.now.bind(Date); Date.now = () => now() + ${ms}`
  return { NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(script)}` }
}

test('a clock that is off is named in hosts and an alarm, and costs no backup', async (t) => {
  const lab = await TestLab.up(t, 2)
  const office = lab.lab.coordinator.state
  const HOURS = 2 * 3_600_000
  for (const [index, { state, store, pid }] of lab.lab.peers.entries()) {
    await lab.kill(pid)
    const argv = ['peer', '--state', state, '--store', store, '--keep-free', '1M']
    await daemon(t, argv, later(index === 0 ? HOURS : HOURS + 5000))
  }
  const rows = (await hostsOf(office)).filter(({ role }) => role === 'peer')
  for (const { clockSkewMs } of rows) {
    t.true(clockSkewMs !== null && Math.abs(clockSkewMs - HOURS) < 10_000, `${clockSkewMs}`)
  }
  const text = await imager('hosts', '--state', office)
  t.regex(text.stdout, /! The clock of peer-1 is 2h 00m ahead of the coordinator's.*timedatectl set-ntp true/)
  const outcome = await imager('snapshot', lab.makeDisk('disk.img', 8), '--state', lab.lab.appliance.state, '--json')
  t.is(outcome.code, 0, outcome.stdout + outcome.stderr)
  const alarms = (await eventsOf(office)).filter(({ kind }) => kind === 'alarm')
  t.is(alarms.length, 2)
})
