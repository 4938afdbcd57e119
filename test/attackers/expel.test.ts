/**
 * A server in foreign hands is removed while it stores. What attacks afterwards is the project's own code over the server's own
 * state folder, which it has kept: real processes, its keys, its old membership, a grant that is still unused.
 */
import { once } from 'node:events'
import { cpSync, rmSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import type { EventRow } from '../../src/catalog/registry.js'
import type { RunRow } from '../../src/catalog/types.js'
import { entryName, readEntry, sealToRecovery } from '../../src/keys/entry.js'
import { signHead } from '../../src/keys/head.js'
import { type Home, openHome } from '../../src/keys/home.js'
import { Secret } from '../../src/native.js'
import { Connection } from '../../src/wire/client.js'
import { imager, lastLine, start, TestLab } from '../e2e/lab.js'
import { eventually } from '../fleet/fleet.js'
import { attacking } from './attacks.js'

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
  const lab = await TestLab.up(t, 3)
  const { coordinator, appliance, peers } = lab.lab
  const office = ['--state', coordinator.state, '--json']
  const first = lab.makeDisk('disk.img', 8)
  await lab.snapshot(t, first)
  const kept = lab.path('kept')
  cpSync(appliance.state, kept, { recursive: true })

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
    [null, 'REMOVED'],
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
