/**
 * A server in foreign hands is removed while it stores. What attacks afterwards is the project's own code over the server's own
 * state folder, which it has kept: real processes, its keys, its old membership, a grant that is still unused.
 */
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { cpSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import type { EventRow } from '../../src/catalog/registry.js'
import type { RunRow } from '../../src/catalog/types.js'
import { openFleet } from '../../src/fleet/open.js'
import { signAddress } from '../../src/keys/address.js'
import { entryName, readEntry, sealToRecovery } from '../../src/keys/entry.js'
import { signHead } from '../../src/keys/head.js'
import { type Home, openHome } from '../../src/keys/home.js'
import type { MembershipHost } from '../../src/keys/membership.js'
import { Secret, shardId } from '../../src/native.js'
import { PeerClient } from '../../src/peers/client.js'
import { runName, stripeOf } from '../../src/stripes/names.js'
import { Connection } from '../../src/wire/client.js'
import { imager, lastLine, start, TestLab } from '../e2e/lab.js'
import { eventually } from '../fleet/fleet.js'
import { attacking, type Tried } from './attacks.js'
import { coordinatorOf, Hands, joinAs, outcomeOf, peerOf } from './hands.js'

interface Failed {
  code: string
  message: string
}

async function codeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work
    return 'taken'
  } catch (error) {
    return (error as { code?: string }).code ?? String(error)
  }
}

async function eventsOf(state: string): Promise<string[]> {
  const { stdout } = await imager('events', '--state', state, '--json')
  return stdout.split('\n').flatMap((line) => (line ? (JSON.parse(line) as EventRow).sentence : []))
}

function connect(t: ExecutionContext, from: Home, to: { name: string; address: string; state: string }): Connection {
  const host = openHome(to.state).host
  const connection = new Connection({ tls: from.tls, addresses: [to.address], host, name: to.name })
  t.teardown(() => connection.close())
  return connection
}

test('a server that is removed while it stores is out at once, wherever it asks and whatever it signs, and is named when it comes back', async (t) => {
  const tried = attacking(t)
  const lab = await TestLab.up(t, 4)
  const { coordinator, appliance } = lab.lab
  const peers = lab.lab.peers.slice(0, 3)
  const office = ['--state', coordinator.state, '--json']
  const first = lab.makeDisk('disk.img', 8)
  await lab.snapshot(t, first)
  await removePcAndLaptop(t, lab, tried)
  const kept = lab.path('kept')
  cpSync(appliance.state, kept, { recursive: true })
  const leave = await leaveToStore(t, kept)
  t.deepEqual(await leave.use(), ['CORRUPT', 'CORRUPT'], 'what it brings is noise, which it may bring')

  // Its connections to coordinator and peers are open, and its run is under way.
  const server = openHome(kept)
  const lines = [coordinator, ...peers].map((one, at) =>
    connect(t, server, { name: at === 0 ? 'coordinator' : (peers[at - 1]?.name ?? ''), ...one }),
  )
  const membership = `/v1/documents/membership/${server.fleet}`
  const ask = (at: number, path: string) => (lines[at] as Connection).request('GET', path, { maxBytes: 1 << 22 })
  for (const at of [1, 2, 3]) t.is(await codeOf(ask(at, '/v1/shards')), 'taken')

  const disk = lab.makeDisk('other.img', 32)
  const running = start(['snapshot', disk, '--limit', '2M', '--state', appliance.state, '--json'])
  let [stdout, stderr] = ['', '']
  running.stdout?.on('data', (chunk: Buffer) => (stdout += chunk.toString()))
  running.stderr?.on('data', (chunk: Buffer) => (stderr += chunk.toString()))
  t.teardown(() => running.kill('SIGKILL'))
  const ended = once(running, 'close') as Promise<[number]>
  await sleep(2_500)
  t.is(running.exitCode, null, stdout + stderr)

  const refused = await imager('remove', 'appliance', ...office)
  t.is(lastLine<Failed>(refused).code, 'WOULD_LOSE', 'it has snapshots')
  const before = performance.now()
  const removed = await imager('remove', 'appliance', '--force', ...office)
  t.is(removed.code, 0, removed.stdout + removed.stderr)
  const answered = performance.now()
  await eventually(t, 'each peer refuses it', async () => {
    const codes = await Promise.all([1, 2, 3].map((at) => codeOf(ask(at, '/v1/shards'))))
    return codes.every((code) => code === 'NOT_ALLOWED')
  })
  const out = performance.now()
  tried('removed-asks')
  t.log(`removed in ${Math.round(answered - before)} ms; ${Math.round(out - answered)} ms later every peer refused it`)
  t.true(out - answered < 5_000)

  // Its run ends, and says why; the coordinator knows of no run that goes on, and raises no alarm for it.
  const [code] = await ended
  t.is(code, 12, stdout + stderr)
  t.is(lastLine<Failed>({ code, stdout, stderr }).code, 'REMOVED', stdout + stderr)
  const { LocalCatalog } = await import('../../src/catalog/local.js')
  const catalog = LocalCatalog.openFor(coordinator.state)
  t.teardown(() => catalog.close())
  const runs: RunRow[] = await catalog.runs()
  t.deepEqual(
    runs.map(({ failure }) => failure),
    [null, null, 'INTERRUPTED', 'REMOVED'],
  )
  tried('removed-stores')
  const status = lastLine<{ problems: { code: string }[] }>(await imager('status', ...office))
  t.false(status.problems.some((problem) => problem.code === 'RUN_FAILED'))

  // It is in no membership, and reads no names in those that were signed since; nothing is sealed to it.
  const now = openHome(coordinator.state).membership()
  t.is(now.find(server.host), undefined)
  t.true(now.parts.removals.some(({ host }) => host === server.host))
  t.false(now.body.names.some(({ reader }) => reader === server.host))
  const seen = server.openMembership(now.bytes)
  for (const { host, name } of seen.hosts) t.is(name, host.slice(0, 8))
  tried('removed-names')

  // With all that its folder holds: no read, no write, no document; not by itself, and not brought by another.
  for (const at of [1, 2, 3]) {
    t.is(await codeOf(ask(at, '/v1/shards')), 'NOT_ALLOWED')
    t.is(await codeOf(ask(at, membership)), 'NOT_ALLOWED')
    t.is(await codeOf(ask(at, '/v1/documents/key')), 'NOT_ALLOWED')
  }
  t.deepEqual(await leave.use(), ['NOT_ALLOWED', 'NOT_ALLOWED'])
  tried('removed-grant')
  const { fleet, rootSealing, secret } = server
  const key = sealToRecovery('manifest', Secret.random(), { fleet, term: 1, rootSealing, identity: secret })
  const trailer = server.trailerKey as NonNullable<typeof server.trailerKey>
  const root = { key: '', writer: server.host, run: '00'.repeat(8), number: 0, ordinal: 0 }
  const place = { k: 2, m: 1, packBytes: 4096, offset: 16, length: 64, shards: [{ index: 0, host: server.host }] }
  const ids = { appliance: server.host, volume: '11'.repeat(16), snapshot: '22'.repeat(16), parent: null, sequence: 9 }
  const head = signHead(
    { fleet, ...ids, root: { ...root, ...place }, references: '33'.repeat(32), time: 1 },
    secret,
    trailer,
  )
  const { headName } = await import('../../src/keys/head.js')
  const documents = [
    ['key', entryName(readEntry(key).entry), key],
    ['head', headName(ids), head],
  ] as const
  const bearers = { itself: server, 'the coordinator': openHome(coordinator.state) }
  for (const [who, bearer] of Object.entries(bearers)) {
    for (const peer of peers) {
      const line = connect(t, bearer, peer)
      for (const [kind, name, body] of documents) {
        const put = line.request('PUT', `/v1/documents/${kind}/${name}`, { body, maxBytes: 0 })
        t.is(await codeOf(put), 'NOT_ALLOWED', `${kind} brought by ${who}`)
      }
    }
  }

  tried('removed-signs')

  // The folder of before comes back, and the one that heard of it: refused, told what to do, and named.
  rmSync(appliance.state, { recursive: true })
  for (const argv of [['snapshot', first], ['status'], ['restore', 'latest', '--to', lab.path('stolen.img')]]) {
    const outcome = await imager(...argv, '--state', kept, '--json')
    t.is(outcome.code, 12, outcome.stdout + outcome.stderr)
    t.is(lastLine<Failed>(outcome).code, 'REMOVED', outcome.stdout)
  }
  const named = `appliance (key ${server.host.slice(0, 16)}...) was removed, and calls all the same: it was refused`
  const events = await eventsOf(coordinator.state)
  t.true(events.includes(named), events.join('\n'))
  tried('removed-returns')
})

/** A grant to a peer, and what becomes of noise that is brought with it: over HTTPS, and over a data connection. */
async function leaveToStore(t: ExecutionContext, state: string) {
  const fleet = await openFleet(openHome(state))
  t.teardown(() => fleet.close())
  const { home, catalog, peers } = fleet
  const request = { appliance: home.host, volume: '44'.repeat(16), source: '/dev/hostile', label: '' }
  const { lease, run } = await catalog.begin(request)
  const name = runName(home.host, run)
  const [peer] = home.membership().hosts.filter(({ role }) => role === 'peer') as [MembershipHost]
  const file = randomBytes(8192)
  const stripe = stripeOf(catalog.names.number(name), 0)
  const place = { stripe, k: 1, m: 0, packBytes: 4096, lengthBytes: file.length }
  const [grant] = (await catalog.place(lease, { ...place, shards: [{ index: 0, host: peer.host }] })) as [string]
  await catalog.abandon(lease, 'INTERRUPTED')
  const shard = shardId(name, 0, 0)
  const connection = new Connection({ tls: home.tls, addresses: home.addresses.of(peer.host), host: peer.host })
  t.teardown(() => connection.close())
  const ways = [new PeerClient(peer.host, peer.name, connection), peers.get(peer.host)]
  return { use: () => Promise.all(ways.map((way) => codeOf(way.sendShard(shard, file, grant)))) }
}

/** The fourth PC, and a machine of the role admin. What is theirs is kept: their keys, and the PC's folder of before. */
async function removePcAndLaptop(t: ExecutionContext, lab: TestLab, tried: Tried): Promise<void> {
  const { coordinator, appliance, peers } = lab.lab
  const office = ['--state', coordinator.state, '--json']
  const pc = peers[3] as (typeof peers)[number]
  const old = lab.path('old-pc')
  cpSync(pc.state, old, { recursive: true })
  const laptop = await joinAs(lab, 'admin', 'laptop')
  const [asPc, asAdmin] = [openHome(pc.state), openHome(laptop)].map(({ secret }) => new Hands(t, secret)) as [
    Hands,
    Hands,
  ]
  const targets = [0, 1, 2].map((at) => peerOf(lab, at))
  const center = coordinatorOf(lab)
  const [pcCalls, adminCalls] = [asPc.catalog(center), asAdmin.catalog(center)]
  const lines = targets.flatMap((target) => [
    () => asPc.peer(target).fetchState(),
    () => asAdmin.peer(target).fetchInventory(),
  ])
  await eventually(t, 'all know the laptop', async () => (await outcomesOf(lines)).every((code) => code === 'taken'))
  t.is(await outcomeOf(pcCalls.self()), 'taken')
  t.is(await outcomeOf(adminCalls.snapshots()), 'taken')
  // The fleet goes on without telling the folder that was kept.
  for (const name of ['one', 'two', 'sold']) {
    const before = openHome(coordinator.state).membership().find(openHome(pc.state).host)?.name ?? ''
    t.is((await imager('rename', before, name, ...office)).code, 0)
  }
  const held = shardsOf(pc.store)
  for (const name of ['sold', 'laptop']) {
    const removed = await imager('remove', name, '--force', ...office)
    t.is(removed.code, 0, removed.stdout + removed.stderr)
  }
  await eventually(t, 'each peer refuses both', async () =>
    (await outcomesOf(lines)).every((code) => code === 'NOT_ALLOWED'),
  )
  t.is(await outcomeOf(pcCalls.self()), 'NOT_ALLOWED')
  t.is(
    await outcomeOf(pcCalls.heartbeat({ freeBytes: 1, usedBytes: 0, capacityBytes: 1, storage: '', store: null })),
    'NOT_ALLOWED',
  )
  const { fleet, host, secret } = openHome(pc.state)
  const address = signAddress({ fleet, host, sequence: Date.now(), addresses: [pc.address] }, secret)
  for (const target of targets) {
    t.is(await outcomeOf(asPc.peer(target).sendDocument('address', host, address)), 'NOT_ALLOWED')
    t.is(
      await outcomeOf(asPc.peer(target).sendDocument('membership', fleet, openHome(old).membership().bytes)),
      'NOT_ALLOWED',
    )
  }
  tried('removed-pc')
  const calls = [
    adminCalls.snapshots(),
    adminCalls.invite('peer'),
    adminCalls.remove('peer-1', true),
    adminCalls.hosts(),
  ]
  for (const call of calls) t.is(await outcomeOf(call), 'NOT_ALLOWED')
  const asked = await imager('invite', '--state', laptop, '--json')
  t.is(lastLine<Failed>(asked).code, 'REMOVED', asked.stdout)
  tried('removed-laptop')

  // It runs on, and serves: nobody fetches from it, and nothing is brought to it.
  const disk = lab.makeDisk('later.img', 8)
  const run = await imager('snapshot', disk, '--state', appliance.state, '--json')
  t.is(run.code, 0, run.stdout + run.stderr)
  t.deepEqual(shardsOf(pc.store), held)
  await lab.restoreLatest(t, disk)
  tried('removed-pc-serves')

  // Its folder of before comes back, with its store.
  await lab.kill(pc.pid)
  const looked = await imager('status', '--state', old, '--json')
  t.is(looked.code, 12, looked.stdout)
  t.is(lastLine<Failed>(looked).code, 'REMOVED')
  const daemon = start(['peer', '--state', old, '--store', pc.store, '--keep-free', '1M', '--json'])
  t.teardown(() => daemon.kill('SIGKILL'))
  let said = ''
  for (const stream of [daemon.stdout, daemon.stderr]) stream?.on('data', (chunk: Buffer) => (said += chunk.toString()))
  await eventually(t, 'it hears that it was removed', () => /removed/i.test(said))
  daemon.kill('SIGKILL')
  t.true(
    (await eventsOf(coordinator.state)).some((one) => /^sold \(key .*was removed, and calls all the same/.test(one)),
  )
  tried('removed-pc-old')
}

const outcomesOf = (work: readonly (() => Promise<unknown>)[]) => Promise.all(work.map((one) => outcomeOf(one())))

function shardsOf(store: string): string[] {
  return readdirSync(join(store, 'shards'), { recursive: true, encoding: 'utf8' }).sort()
}

test('an enroller and the coordinator are not removed: it is said what to do instead', async (t) => {
  const lab = await TestLab.up(t, 3)
  const office = ['--state', lab.lab.coordinator.state, '--json']
  const refused = async (host: string) => lastLine<Failed>(await imager('remove', host, '--force', ...office))
  t.like(await refused('coordinator'), { code: 'USAGE' })
  t.regex((await refused('coordinator')).message, /imager recover/)
  const given = ['--words-file', lab.lab.wordsFile]
  const moved = await imager('duties', 'move', 'enroller', 'peer-1', ...given, ...office)
  t.is(moved.code, 0, moved.stdout + moved.stderr)
  const last = await imager('remove', 'peer-1', '--force', '--state', lab.lab.peers[0]?.state ?? '', '--json')
  t.is(last.code, 2, last.stdout + last.stderr)
  t.regex(lastLine<Failed>(last).message, /enroller.*imager duties move enroller HOST/)
})
