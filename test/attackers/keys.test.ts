/**
 * Who has a host in hand tries to take keys back. Real hosts; what attacks uses the project's own code and the hosts' own
 * identities. Afterwards server and coordinator burn, and the words have to be enough.
 */
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { rmSync } from 'node:fs'
import test, { type ExecutionContext } from 'ava'
import type { EventRow } from '../../src/catalog/registry.js'
import { RemoteCatalog } from '../../src/coordinator/client.js'
import type { RecoverReport } from '../../src/jobs/recover/recover.js'
import { tlsIdentity } from '../../src/keys/certificate.js'
import {
  entryName,
  type KeyEntry,
  makeKey,
  RECOVERY,
  readEntry,
  sealEntry,
  sealToRecovery,
} from '../../src/keys/entry.js'
import { type Home, openHome } from '../../src/keys/home.js'
import { signStatement } from '../../src/keys/statement.js'
import { Secret, type SecretHandle } from '../../src/native.js'
import { PeerClient } from '../../src/peers/client.js'
import { Connection } from '../../src/wire/client.js'
import { firstDifference } from '../e2e/disks.js'
import { imager, lastLine, start, TestLab } from '../e2e/lab.js'
import { eventually } from '../fleet/fleet.js'
import { freePort } from '../free-port.js'
import { sealingOf } from '../keys/fleet.js'
import { attacking } from './attacks.js'

interface Target {
  readonly name: string
  readonly host: string
  readonly address: string
}

const nameOf = (entry: Buffer) => entryName(readEntry(entry).entry)
const nobody = () => sealingOf(Secret.random())

/** Somebody with an identity of the fleet, or none, and what peers answered him. */
class Attacker {
  readonly #connections: Connection[] = []

  constructor(
    t: ExecutionContext,
    readonly secret: SecretHandle,
    readonly targets: readonly Target[],
  ) {
    t.teardown(() => {
      for (const connection of this.#connections) connection.close()
    })
  }

  connect({ name, host, address }: Target): Connection {
    const connection = new Connection({ tls: tlsIdentity(this.secret), addresses: [address], host, name })
    this.#connections.push(connection)
    return connection
  }

  /** What each peer says to it: `taken`, or the code of its refusal. */
  async put(bytes: Buffer, name = nameOf(bytes), kind = 'key'): Promise<string[]> {
    return this.each(async (connection) => {
      await connection.request('PUT', `/v1/documents/${kind}/${name}`, { body: bytes, maxBytes: 0 })
    })
  }

  async each(work: (connection: Connection) => Promise<unknown>): Promise<string[]> {
    return Promise.all(
      this.targets.map(async (target) => {
        try {
          await work(this.connect(target))
          return 'taken'
        } catch (error) {
          return (error as { code?: string }).code ?? String(error)
        }
      }),
    )
  }
}

/** Everything that the peers hold, by name. */
async function heldBy(root: Attacker): Promise<Map<string, Buffer>[]> {
  return Promise.all(
    root.targets.map(async (target) => {
      const held = new Map<string, Buffer>()
      const client = new PeerClient(target.host, target.name, root.connect(target))
      for await (const { name, bytes } of client.fetchDocuments('key')) held.set(name, bytes)
      return held
    }),
  )
}

async function daemon(t: ExecutionContext, ...argv: string[]): Promise<ChildProcess> {
  const child = start([...argv, '--json'])
  t.teardown(() => child.kill('SIGKILL'))
  await once(child.stdout as NonNullable<ChildProcess['stdout']>, 'data')
  return child
}

async function end(child: ChildProcess): Promise<void> {
  const gone = once(child, 'close')
  child.kill('SIGKILL')
  await gone
}

/** Recovers with the words and one peer, restores the snapshot and compares it. */
async function comesBack(
  t: ExecutionContext,
  lab: TestLab,
  state: string,
  peer: Target,
  disk: string,
  snapshot: string,
) {
  const listen = ['--listen', `127.0.0.1:${await freePort()}`, '--state', lab.path(state)]
  const given = ['--words-file', lab.lab.wordsFile, '--peer', peer.address, '--name', 'spare', ...listen]
  const outcome = await imager('recover', ...given, '--json')
  t.is(outcome.code, 0, outcome.stdout + outcome.stderr)
  const report = lastLine<RecoverReport>(outcome)
  t.deepEqual(report.unreadable, [])
  t.deepEqual(
    report.snapshots.map(({ id, survives }) => [id, survives]),
    [[snapshot, 1]],
  )
  const target = lab.path(`${state}.img`)
  const restored = await imager('restore', snapshot, '--to', target, '--state', lab.path(state), '--json')
  t.is(restored.code, 0, restored.stdout + restored.stderr)
  t.is(firstDifference(disk, target), undefined)
  return report
}

async function eventsOf(state: string): Promise<EventRow[]> {
  const { stdout } = await imager('events', '--state', state, '--json')
  return stdout.split('\n').flatMap((line) => (line ? (JSON.parse(line) as EventRow) : []))
}

test('whatever root on the server, the coordinator, a peer and a stranger sign: with the words alone everything comes back', async (t) => {
  const tried = attacking(t)
  const lab = await TestLab.up(t, 3)
  const disk = lab.makeDisk('disk.img', 8)
  const snapshot = await lab.snapshot(t, disk)
  const { coordinator, appliance, peers } = lab.lab
  const [office, server] = [openHome(coordinator.state), openHome(appliance.state)]
  const pc = openHome(peers[0]?.state ?? '')
  const targets = peers.map(({ name, address, state }) => ({ name, address, host: openHome(state).host }))
  const attackers = {
    appliance: new Attacker(t, server.secret, targets),
    coordinator: new Attacker(t, office.secret, targets),
    peer: new Attacker(t, pc.secret, targets),
    stranger: new Attacker(t, Secret.random(), targets),
  }
  const { fleet, rootSealing } = server
  const all = (outcome: string) => targets.map(() => outcome)
  const maker = (identity: SecretHandle, term = 1) => ({ fleet, term, rootSealing, identity })
  const before = await heldBy(attackers.appliance)
  t.deepEqual(
    before.map(({ size }) => size),
    all('').map(() => 8),
    'four of the coordinator, four of the server',
  )

  // Root on the server, about its own keys. What opens for nobody is the strongest: it has the right name and signature.
  const own = server.ownEntries()
  for (const genuine of own) {
    const { sealed: _, ...entry } = readEntry(genuine).entry
    const key = keyOf(server, entry)
    const junk = sealEntry(key, { ...entry, readerSealing: nobody() }, server.secret)
    t.is(nameOf(junk), nameOf(genuine))
    t.deepEqual(await attackers.appliance.put(junk), all('HOST_REFUSED'))
    t.deepEqual(await attackers.coordinator.put(junk), all('HOST_REFUSED'), 'whoever brings it')
    for (const bytes of [Buffer.alloc(0), genuine.subarray(0, -1), signStatement('key', {}, server.secret)]) {
      t.deepEqual(await attackers.appliance.put(bytes, nameOf(genuine)), all('CORRUPT'))
    }
    const deleting = (connection: Connection) =>
      connection.request('DELETE' as 'PUT', `/v1/documents/key/${nameOf(genuine)}`, { maxBytes: 4096 })
    t.false((await attackers.appliance.each(deleting)).includes('taken'))
  }
  const list = { fleet, sequence: 2 ** 50, owner: server.host, entries: [] }
  const newer = signStatement('keybag', list, server.secret)
  t.deepEqual(await attackers.appliance.put(newer, server.host, 'keybag'), all('PROTOCOL'), 'there are no lists')
  t.deepEqual(await attackers.appliance.put(newer, nameOf(own[0] as Buffer)), all('FORGED'))
  tried('key-junk', 'key-cut', 'key-delete', 'key-list')

  // About others' keys, and with rights that it has not.
  const [foreign] = office.ownEntries()
  const inForeignName = sealEntry(Secret.random(), { ...shared(office), readerSealing: nobody() }, server.secret)
  const oneMore = sealToRecovery('manifest', Secret.random(), maker(server.secret))
  t.deepEqual(await attackers.appliance.put(inForeignName), all('NOT_ALLOWED'))
  t.deepEqual(await attackers.appliance.put(oneMore, nameOf(foreign as Buffer)), all('FORGED'))
  t.deepEqual(await attackers.appliance.put(makeKey('catalog', maker(server.secret))[1] as Buffer), all('NOT_ALLOWED'))
  t.deepEqual(
    await attackers.appliance.put(makeKey('manifest', maker(server.secret, 2))[1] as Buffer),
    all('NOT_ALLOWED'),
  )
  t.deepEqual(
    await attackers.appliance.put(makeKey('manifest', maker(Secret.random()))[1] as Buffer),
    all('NOT_ALLOWED'),
  )
  const elsewhere = { ...shared(server), purpose: 'manifest' as const, reader: pc.host, readerSealing: nobody() }
  t.deepEqual(await attackers.appliance.put(sealEntry(Secret.random(), elsewhere, server.secret)), all('NOT_ALLOWED'))
  t.deepEqual(await attackers.peer.put(makeKey('manifest', maker(pc.secret))[1] as Buffer), all('NOT_ALLOWED'))
  t.deepEqual(await attackers.peer.put(inForeignName), all('NOT_ALLOWED'))
  t.deepEqual(await attackers.stranger.put(own[0] as Buffer), all('NOT_ALLOWED'))
  t.deepEqual(await heldBy(attackers.appliance), before, 'so far nothing has changed')
  tried(
    'key-name',
    'key-owner',
    'key-right',
    'key-term',
    'key-signer',
    'key-reader',
    'peer-key',
    'peer-foreign-key',
    'stranger-key',
  )

  // More and more keys, each as good as the first. Joining took three of the four that a day has.
  t.deepEqual(await attackers.appliance.put(oneMore), all('taken'))
  for (const purpose of ['manifest', 'domain', 'trailer'] as const) {
    const bytes = sealToRecovery(purpose, Secret.random(), maker(server.secret))
    t.deepEqual(await attackers.appliance.put(bytes), all('TOO_MANY_KEYS'), purpose)
  }
  const asks = new Attacker(t, server.secret, [
    { name: 'coordinator', host: office.host, address: coordinator.address },
  ])
  const tell = (entries: Buffer[]) => asks.each((connection) => new RemoteCatalog(connection).keepKeys(entries))
  t.deepEqual(await tell([oneMore]), ['taken'])
  t.deepEqual(await tell(makeKey('manifest', maker(server.secret))), ['TOO_MANY_KEYS'])
  t.deepEqual(await tell(office.ownEntries()), ['NOT_ALLOWED'])
  tried('key-flood', 'key-flood-coordinator', 'key-foreign-coordinator')

  // Root on the coordinator: other bytes under its names, a server's keys, and shared keys that seal nothing.
  for (const genuine of office.ownEntries()) {
    const { sealed: _, ...entry } = readEntry(genuine).entry
    const junk = sealEntry(keyOf(office, entry), { ...entry, readerSealing: nobody() }, office.secret)
    t.deepEqual(await attackers.coordinator.put(junk), all('HOST_REFUSED'))
  }
  const ofServer = { ...shared(server), purpose: 'manifest' as const, readerSealing: rootSealing }
  t.deepEqual(await attackers.coordinator.put(sealEntry(Secret.random(), ofServer, office.secret)), all('NOT_ALLOWED'))
  const decoys = (['domain', 'catalog'] as const).map((purpose) =>
    sealToRecovery(purpose, Secret.random(), maker(office.secret)),
  )
  for (const decoy of decoys) t.deepEqual(await attackers.coordinator.put(decoy), all('taken'))
  t.deepEqual(
    await attackers.coordinator.put(makeKey('domain', maker(office.secret))[1] as Buffer),
    all('TOO_MANY_KEYS'),
  )

  // Its catalog full of junk, under the names of everybody's keys: its own courier is to spread it.
  const { LocalCatalog } = await import('../../src/catalog/local.js')
  const catalog = LocalCatalog.openFor(coordinator.state)
  const genuine = catalog.registry.documents('key')
  for (const { name, sequence } of genuine)
    catalog.registry.setDocument('key', name, sequence + 1, junkFor(server, office, name))
  await eventually(t, 'each peer refused it', async () => {
    const refusals = (await eventsOf(coordinator.state)).filter(({ sentence }) => /refused a key of/.test(sentence))
    return targets.every(({ name }) => refusals.some(({ sentence }) => sentence.startsWith(name)))
  })
  for (const { name, sequence, bytes } of genuine) catalog.registry.setDocument('key', name, sequence, bytes)
  const after = await heldBy(attackers.appliance)
  for (const [at, held] of before.entries()) for (const [name, bytes] of held) t.deepEqual(after[at]?.get(name), bytes)
  tried('office-junk', 'office-owner', 'office-courier')

  // First on a peer that joins later: the coordinator is kept away meanwhile.
  const listen = `127.0.0.1:${await freePort()}`
  const invited = await imager('invite', '--role', 'peer', '--state', coordinator.state, '--json')
  const late = ['--name', 'late', '--listen', listen, '--state', lab.path('late')]
  const joined = await imager('join', lastLine<{ token: string }>(invited).token, ...late, '--json')
  t.is(joined.code, 0, joined.stdout + joined.stderr)
  await lab.kill(coordinator.pid)
  await daemon(
    t,
    'peer',
    '--state',
    lab.path('late'),
    '--store',
    lab.path('late.store'),
    '--listen',
    listen,
    '--keep-free',
    '1M',
  )
  const target = { name: 'late', address: listen, host: openHome(lab.path('late')).host }
  const first = new Attacker(t, server.secret, [target])
  const squats = own.map((bytes) => junkFor(server, office, nameOf(bytes)))
  for (const junk of squats) t.deepEqual(await first.put(junk), ['taken'])
  const restarted = await daemon(t, 'coordinator', '--state', coordinator.state)
  await eventually(t, 'it is said that the peer does not hold the keys', async () => {
    const said = (await eventsOf(coordinator.state)).map(({ sentence }) => sentence)
    return said.some((sentence) => /^late refused a key of appliance: .*another entry of that key/.test(sentence))
  })
  await eventually(
    t,
    'it holds those of the coordinator',
    () => catalog.registry.keyHolders(office.host, [target.host]).size === 1,
  )
  t.is(catalog.registry.keyHolders(server.host, [target.host]).size, 0, 'and does not count for the server')
  catalog.close()

  await end(restarted)
  for (const { state } of [coordinator, appliance]) rmSync(state, { recursive: true })
  // Of all peers the one with the junk is asked first.
  await comesBack(t, lab, 'new', target, disk, snapshot)
  tried('key-first', 'office-decoys')

  // Another term: the coordinator that burned signs on, and the server that is still a member brings it.
  const old = sealToRecovery('domain', Secret.random(), maker(office.secret))
  t.deepEqual(await attackers.coordinator.put(old), all('NOT_ALLOWED'), 'it is no member any more')
  t.deepEqual(await attackers.appliance.put(old), all('TOO_MANY_KEYS'))
  t.deepEqual(await first.put(old), ['taken'], 'where it had none today')
  t.deepEqual(
    await attackers.appliance.put(makeKey('domain', maker(office.secret, 2))[1] as Buffer),
    all('NOT_ALLOWED'),
  )
  t.deepEqual(
    await attackers.appliance.put(makeKey('catalog', maker(office.secret, 3))[1] as Buffer),
    all('NOT_ALLOWED'),
  )
  rmSync(lab.path('new'), { recursive: true })
  t.is((await comesBack(t, lab, 'newer', targets[2] as Target, disk, snapshot)).term, 3)
  tried('key-old-term', 'office-former')
})

/** What a host shares, as an entry that the words open. */
const shared = (home: Home) => ({
  ...{ fleet: home.fleet, term: 1, purpose: 'domain' as const, owner: home.host, reader: RECOVERY },
})

/** The very key of one of its entries, as root on that host has it. */
function keyOf(home: Home, { purpose }: Pick<KeyEntry, 'purpose'>): SecretHandle {
  const keys = {
    domain: home.domainKey,
    manifest: home.manifestKey,
    catalog: home.catalogKey,
    trailer: home.trailerKey,
  }
  return keys[purpose] as SecretHandle
}

/** Of that name, signed by its owner, and it opens for nobody. */
function junkFor(server: Home, office: Home, name: string): Buffer {
  const home = name.startsWith(server.host) ? server : office
  const found = home.ownEntries().find((bytes) => nameOf(bytes) === name)
  // Of a key that is none of its own: whatever it is, under that name.
  if (!found) return signStatement('key', {}, home.secret)
  const { sealed: _, ...entry } = readEntry(found).entry
  return sealEntry(keyOf(home, entry), { ...entry, readerSealing: nobody() }, home.secret)
}
