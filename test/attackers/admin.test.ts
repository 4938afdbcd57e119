/**
 * Who would be an admin, or speak as one: a stranger's key, an admin who was dismissed, a coordinator alone, a server. Real processes;
 * the attacker is the project's own code over what he has.
 */
import { cpSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { systemClock } from '../../src/base/clock.js'
import { toHex } from '../../src/base/ids.js'
import { LocalCatalog } from '../../src/catalog/local.js'
import type { Policy, SnapshotRow, VolumePolicy } from '../../src/catalog/types.js'
import { RemoteCatalog } from '../../src/coordinator/client.js'
import type { LabReport } from '../../src/daemon/lab.js'
import type { RecoverReport } from '../../src/jobs/recover/recover.js'
import { loadAdminKey, makeAdminKey } from '../../src/keys/admin-key.js'
import { appoint } from '../../src/keys/admins.js'
import { signRemoval, signVoucher } from '../../src/keys/admission.js'
import { openCheckpoint, signCheckpoint } from '../../src/keys/checkpoint.js'
import { makeDismissal } from '../../src/keys/enroller.js'
import { encodeHeadId, HEAD_ID_BYTES, HeadSet } from '../../src/keys/head-set.js'
import { type Home, openHome } from '../../src/keys/home.js'
import { admissionOf, findHost, signMembership } from '../../src/keys/membership.js'
import { signOrder } from '../../src/keys/orders.js'
import { openPolicy, signPolicy } from '../../src/keys/policy.js'
import { TokenKey } from '../../src/keys/token.js'
import { hash, type SecretHandle } from '../../src/native.js'
import { PeerClient } from '../../src/peers/client.js'
import type { DocumentKind } from '../../src/peers/store.js'
import { WitnessClient } from '../../src/peers/witness-client.js'
import { Connection } from '../../src/wire/client.js'
import { startCoordinator } from '../e2e/coordinator.js'
import { imager, lastLine, TestLab } from '../e2e/lab.js'
import { eventually } from '../fleet/fleet.js'
import { freePort } from '../free-port.js'
import { attacking } from './attacks.js'

type Peer = LabReport['peers'][number]

/** Brings a document to a peer as that host; 'taken', or why not. */
async function send(
  from: Home,
  { name, address, state }: Peer,
  bytes: Buffer,
  kind: DocumentKind = 'membership',
  as = from.fleet,
): Promise<string> {
  const { host } = openHome(state)
  const connection = new Connection({ tls: from.tls, addresses: [address], host, name })
  try {
    await new PeerClient(host, name, connection).sendDocument(kind, as, bytes)
    return 'taken'
  } catch (error) {
    return (error as { code: string }).code
  } finally {
    connection.close()
  }
}

/** Asks the coordinator as that host. */
async function ask<T>(home: Home, work: (catalog: RemoteCatalog) => Promise<T>): Promise<T | string> {
  const { key, addresses } = home.coordinator
  const connection = new Connection({ tls: home.tls, addresses, host: key, name: 'coordinator' })
  try {
    return await work(new RemoteCatalog(connection))
  } catch (error) {
    return (error as { code: string }).code
  } finally {
    connection.close()
  }
}

const hex = (key: SecretHandle) => toHex(key.signingKey())

/** What a holder of that key would have the coordinator believe, brought by any member. */
async function tries(t: ExecutionContext, from: Home, key: SecretHandle, victim: string): Promise<string[]> {
  const { fleet } = from
  const membership = from.membership()
  const { term } = membership
  const token = toHex(new TokenKey(Buffer.alloc(32, 3)).signingKey())
  const voucher = signVoucher({ fleet, term, token, role: 'peer', expires: Date.now() + 60_000 }, key)
  const { host } = findHost(membership.hosts, victim)
  const removal = signRemoval({ fleet, term, host, admission: admissionOf(membership, host) }, key)
  const delegation = appoint(hex(key), { fleet, term }, key)
  const [admin] = membership.admins
  t.truthy(admin)
  const answers = [
    await ask(from, (catalog) => catalog.invite('peer', voucher)),
    await ask(from, (catalog) => catalog.remove(host, true, removal)),
    await ask(from, (catalog) => catalog.appoint({ name: 'Mallory', sealing: toHex(key.sealingKey()) }, delegation)),
    await ask(from, (catalog) => catalog.dismiss(makeDismissal(membership, admin as NonNullable<typeof admin>, key))),
  ]
  return answers.map((answer) => (typeof answer === 'string' ? answer : 'taken'))
}

test('only the words make an admin; whoever has the key lets in and removes, until another admin ends that for good', async (t) => {
  const tried = attacking(t)
  const lab = await TestLab.up(t, 3)
  const { coordinator, appliance, peers, wordsFile } = lab.lab
  const [first, second, third] = peers as [Peer, Peer, Peer]
  const [annas, ottos, strangers] = ['anna.key', 'otto.key', 'stranger.key'].map((name) => lab.path(join('keys', name)))
  const add = (name: string, file: string | undefined, at: string) =>
    imager('admin', 'add', name, '--words-file', wordsFile, '--admin-key', file ?? '', '--state', at, '--json')
  // On any machine: the words are what counts.
  const added = await add('Anna', annas, appliance.state)
  t.is(added.code, 0, added.stdout + added.stderr)
  t.like(lastLine<object>(added), { status: 'done', name: 'Anna', file: annas })
  const again = await add('Anna', annas, appliance.state)
  t.is(again.code, 0, again.stdout + again.stderr)
  t.like(lastLine<object>(await add('Bea', annas, coordinator.state)), { code: 'USAGE' })
  t.like(lastLine<object>(await add('anna', ottos, coordinator.state)), { code: 'NAME_TAKEN' })
  t.is((await add('Otto', ottos, first.state)).code, 0)
  const listed = await imager('admin', 'list', '--state', appliance.state)
  t.regex(listed.stdout, /^Anna +[0-9a-f]{16}\nOtto +[0-9a-f]{16}$/m)
  t.regex((await imager('duties', '--state', coordinator.state)).stdout, /^admin +Anna +1 +say what is forgotten/m)
  await eventually(t, 'all peers know both', () => {
    return peers.every(({ state }) => openHome(state).membership().admins.length === 2)
  })

  // A coordinator alone makes none, and leaves none out; nor does a stranger speak as one.
  const home = openHome(coordinator.state)
  const now = home.membership()
  const stranger = makeAdminKey(strangers ?? '')
  const rogue = appoint(hex(stranger), now, home.secret).toString('base64')
  const draft = { ...now.draft(), sequence: now.sequence + 1 }
  const [anna] = draft.admins ?? []
  const admins = [...(draft.admins ?? []), { delegation: rogue, sealing: toHex(stranger.sealingKey()), name: 'x' }]
  const said = makeDismissal(now, now.admins[0] as (typeof now.admins)[number], home.secret)
  for (const change of [
    { admins },
    { admins: draft.admins?.slice(1) ?? [] },
    { admins: draft.admins?.slice(1) ?? [], dismissals: [said.dismissal] },
  ]) {
    const bytes = signMembership({ ...draft, ...change }, home.secret, [])
    for (const peer of peers) t.is(await send(home, peer, bytes), 'FORGED')
  }
  tried('admin-made', 'admin-left-out', 'admin-ended-alone')
  const refused = ['FORGED', 'FORGED', 'FORGED', 'FORGED']
  t.deepEqual(await tries(t, openHome(first.state), stranger, openHome(third.state).host), refused)
  const server = openHome(appliance.state)
  t.deepEqual(await tries(t, server, server.secret, openHome(third.state).host), refused)
  const asStranger = ['--admin-key', strangers ?? '', '--state', second.state, '--json']
  t.like(lastLine<object>(await imager('invite', ...asStranger)), { code: 'NOT_ADMIN' })
  tried('admin-stranger', 'admin-server')

  // With her key, on a PC that may do nothing itself: the coordinator passes on what she signed.
  t.like(lastLine<object>(await imager('invite', '--state', second.state, '--json')), { code: 'NOT_ALLOWED' })
  const asAnna = ['--admin-key', annas ?? '', '--state', second.state, '--json']
  const join_ = async (name: string) => {
    const { token } = lastLine<{ token: string }>(await imager('invite', ...asAnna))
    const joined = await imager('join', token, '--name', name, '--state', lab.path(name), '--json')
    t.is(joined.code, 0, joined.stdout + joined.stderr)
  }
  await join_('sold')
  await join_('desk')
  const gone = await imager('remove', 'sold', ...asAnna)
  t.is(gone.code, 0, gone.stdout + gone.stderr)
  const exposed = await imager('invite', '--admin-key', wordsFile.replace(/[^/]+$/, 'none'), ...asAnna.slice(2))
  t.like(lastLine<object>(exposed), { code: 'NOT_ADMIN' })

  // She is ended by another admin; what she had said of hosts he says again.
  const own = await imager('admin', 'remove', 'Anna', ...asAnna)
  t.like(lastLine<object>(own), { code: 'USAGE' })
  const asOtto = ['--admin-key', ottos ?? '', '--state', second.state, '--json']
  const ended = await imager('admin', 'remove', 'Anna', ...asOtto)
  t.is(ended.code, 0, ended.stdout + ended.stderr)
  t.like(lastLine<object>(ended), { name: 'Anna', letIn: ['desk'] })
  await eventually(t, 'all peers know', () => {
    return peers.every(({ state }) => openHome(state).membership().admins.length === 1)
  })
  t.deepEqual(await tries(t, openHome(first.state), loadAdminKey(annas ?? ''), openHome(third.state).host), refused)
  t.like(lastLine<object>(await imager('invite', ...asAnna)), { code: 'NOT_ADMIN' })
  t.like(lastLine<object>(await add('Anna', annas, coordinator.state)), { code: 'USAGE' })
  const later = openHome(coordinator.state).membership()
  t.is(later.find(openHome(lab.path('desk')).host)?.name, 'desk')
  t.is(later.find(openHome(lab.path('sold')).host), undefined)
  const { dismissals: _, ...undone } = later.draft()
  const back = {
    ...undone,
    sequence: later.sequence + 1,
    admins: [anna, ...(undone.admins ?? [])].flatMap((one) => one ?? []),
  }
  for (const peer of peers) t.is(await send(home, peer, signMembership(back, home.secret, [])), 'FORGED')
  tried('admin-taken-back', 'admin-former')

  // A recovery makes the same admins again, in its own term.
  await lab.burn()
  const given = ['--words-file', wordsFile, '--peer', first.address, '--name', 'spare', '--state', lab.path('new')]
  const recovered = await imager('recover', ...given, '--listen', `127.0.0.1:${await freePort()}`, '--json')
  t.is(recovered.code, 0, recovered.stdout + recovered.stderr)
  t.is(lastLine<RecoverReport>(recovered).term, 2)
  const after = openHome(lab.path('new')).membership()
  t.deepEqual(
    after.admins.map(({ name, key }) => [name, key]),
    [['Otto', hex(loadAdminKey(ottos ?? ''))]],
  )
  for (const { state } of peers) t.is(openHome(state).membership().admins[0]?.id, after.admins[0]?.id)
  // The words end the last one, in the state folder itself, as no daemon runs there yet.
  const last = await imager('admin', 'remove', 'Otto', '--words-file', wordsFile, '--state', lab.path('new'), '--json')
  t.is(last.code, 0, last.stdout + last.stderr)
  t.deepEqual(openHome(lab.path('new')).membership().admins, [])
})

interface Shown {
  fleet: Policy
  volumes: VolumePolicy[]
}

/** What a coordinator keeps. */
function ordersIn(state: string, kind: string): Buffer[] {
  const catalog = LocalCatalog.openFor(state, systemClock)
  try {
    return catalog.registry.documents(kind).map(({ bytes }) => bytes)
  } finally {
    catalog.close()
  }
}

/** Names of the documents of a kind that a peer holds. */
function heldBy({ store }: Peer, kind: string): string[] {
  return readdirSync(join(store, 'documents', kind)).sort()
}

test('what an admin says outlives the coordinator; said by a server or the coordinator it is nothing', async (t) => {
  const tried = attacking(t)
  const lab = await TestLab.up(t, 3)
  const { appliance, peers, wordsFile } = lab.lab
  const { state } = lab.lab.coordinator
  await lab.kill(lab.lab.coordinator.pid)
  let daemon = startCoordinator(lab)
  t.teardown(() => daemon.kill())
  t.true(await daemon.ready, daemon.said())
  const disk = lab.makeDisk('disk.img', 8)
  const ids = [await lab.snapshot(t, disk), await lab.snapshot(t, disk)] as const
  const annas = lab.path('anna.key')
  const done = async (...argv: string[]) => {
    const outcome = await imager(...argv, '--json')
    t.is(outcome.code, 0, outcome.stdout + outcome.stderr)
  }
  const policy = async (at = state) => lastLine<Shown>(await imager('policy', 'show', '--state', at, '--json'))
  await done('admin', 'add', 'Anna', '--words-file', wordsFile, '--admin-key', annas, '--state', state)
  const [anna, home, server] = [loadAdminKey(annas), openHome(state), openHome(appliance.state)]
  const { fleet } = home

  // A coordinator that is set back has the policy again.
  await done('policy', 'set', '--max-age', '40d', '--state', state)
  await daemon.kill()
  cpSync(state, lab.path('kept'), { recursive: true })
  daemon = startCoordinator(lab)
  t.true(await daemon.ready)
  await done('policy', 'set', '--max-age', '30h', '--state', state)
  await done('policy', 'set', disk, '--tolerate', '1', '--state', state)
  const third = (peer: Peer) => {
    const [name] = heldBy(peer, 'policy')
    const bytes = name === home.host && readFileSync(join(peer.store, 'documents', 'policy', name))
    return bytes ? openPolicy(bytes, home.membership(), home.rootKey).sequence === 3 : false
  }
  const held = { fleet, term: 1, time: Date.now(), appliance: server.host, snapshots: [ids[1]] }
  const hold = signOrder('hold', held, anna)
  await ask(server, (catalog) => catalog.say('hold', hold))
  await eventually(t, 'all peers keep it', () =>
    peers.every((peer) => third(peer) && heldBy(peer, 'hold').length === 1),
  )
  await daemon.kill()
  rmSync(state, { recursive: true })
  cpSync(lab.path('kept'), state, { recursive: true })
  daemon = startCoordinator(lab)
  t.true(await daemon.ready)
  await eventually(t, 'it is what it was', async () => {
    const { fleet, volumes } = await policy()
    return fleet.maxAgeMs === 30 * 3_600_000 && volumes[0]?.tolerate === 1
  })

  // An admin's goes before the coordinator's, whatever number that one signs.
  await done('policy', 'set', '--tolerate', '2', '--admin-key', annas, '--state', appliance.state)
  t.like((await policy()).fleet, { tolerate: 2, maxAgeMs: 30 * 3_600_000 })
  const other = await imager('policy', 'set', '--tolerate', '1', '--state', state, '--json')
  t.like(lastLine<object>(other), { code: 'NOT_ADMIN' })
  const rules = { tolerate: 1, maxAgeMs: 0, keep: null }
  const body = { fleet, term: 1, sequence: 99, time: 1, rules, volumes: [], quotas: [] }
  t.is(await ask(server, (catalog) => catalog.say('policy', signPolicy(body, server.secret))), 'FORGED')
  await ask(server, (catalog) => catalog.say('policy', signPolicy(body, home.secret)))
  t.is((await policy()).fleet.tolerate, 2)
  tried('policy-server', 'policy-number')

  // Orders: kept by all, from an admin alone.
  const order = { fleet, term: 1, time: Date.now(), appliance: server.host, snapshots: [ids[0]] }
  const forget = signOrder('forget', order, anna)
  const forged = [home.secret, server.secret].map((key) => signOrder('forget', order, key))
  for (const bytes of forged) {
    t.is(await ask(server, (catalog) => catalog.say('forget', bytes)), 'FORGED')
    const name = `${bytes.toString('hex', 15, 47)}${toHex(hash(bytes))}`
    for (const peer of peers) t.is(await send(home, peer, bytes, 'forget', name), 'FORGED')
  }
  await ask(server, (catalog) => catalog.say('forget', forget))
  const name = `${hex(anna)}${toHex(hash(forget))}`
  await eventually(t, 'all peers keep it', () => peers.every((peer) => heldBy(peer, 'forget').includes(name)))
  tried('forget-server', 'forget-office')

  // Said wherever the snapshot is, and nothing of it goes.
  const seen = async (...argv: string[]) => (await imager(...argv, '--state', appliance.state)).stdout
  const { snapshots } = lastLine<{ snapshots: SnapshotRow[] }>(
    await imager('snapshots', '--json', '--state', appliance.state),
  )
  t.deepEqual(
    snapshots.map(({ id, ordered }) => [id, ordered?.what, ordered?.by]),
    [
      [ids[0], 'forget', 'Anna'],
      [ids[1], 'hold', 'Anna'],
    ],
  )
  const said = /to be forgotten: Anna said so, .*; this version deletes nothing, so it stays/
  t.regex(await seen('show', ids[0]), said)
  t.regex(await seen('snapshots'), said)
  t.regex(await seen('status'), /Note: 1 snapshot is to be forgotten, as admins said. This version deletes nothing/)
  await done('restore', ids[0], '--to', lab.path('forgotten.img'), '--state', appliance.state)

  // The coordinator's own key, in foreign hands: a list without a snapshot takes an admin's word.
  await daemon.kill()
  t.deepEqual(ordersIn(state, 'hold'), [hold], 'given while it was its later self')
  const head = encodeHeadId({ appliance: server.host, snapshot: ids[0] })
  for (const peer of peers) {
    const { host } = openHome(peer.state)
    const connection = new Connection({ tls: home.tls, addresses: [peer.address], host, name: peer.name })
    const witness = new WitnessClient(host, peer.name, fleet, connection)
    const signed = await witness.fetchHeld({})
    const last = openCheckpoint(signed?.checkpoint as Buffer, fleet, home.rootKey)
    const live = HeadSet.empty.with(await witness.fetchHeads({})).minus(head)
    const { bytes: _, hash: previous, signer: _signer, handed: _handed, ...said } = last
    const count = ({ size, root }: HeadSet) => ({ count: size, root })
    const next = { ...said, sequence: last.sequence + 1, previous, heads: count(live) }
    const link = signCheckpoint({ ...next, removals: count(HeadSet.empty.with(head)) }, home.secret)
    const shrink = async (...forgets: Buffer[]) => {
      const given = { base: 'own' as const, links: [link], proof: null, added: Buffer.alloc(0), entries: [] }
      const answer = await witness.offer({ ...given, removed: head, forgets }, {})
      return 'refused' in answer ? answer.refused : 'signed'
    }
    t.is(await shrink(), 'removal')
    t.is(await shrink(...forged), 'removal')
    t.is(await shrink(forget), 'signed')
    t.is((await witness.fetchHeads({})).length, HEAD_ID_BYTES)
    connection.close()
  }

  tried('list-without')

  // And a recovery finds it all again.
  for (const folder of [state, appliance.state]) rmSync(folder, { recursive: true })
  const listen = ['--listen', `127.0.0.1:${await freePort()}`, '--state', lab.path('new')]
  await done('recover', '--words-file', wordsFile, '--peer', peers[0]?.address ?? '', '--name', 'spare', ...listen)
  t.like(await policy(lab.path('new')), { fleet: { tolerate: 2, maxAgeMs: 30 * 3_600_000 } })
  t.deepEqual(ordersIn(lab.path('new'), 'forget'), [forget])
  t.deepEqual(ordersIn(lab.path('new'), 'hold'), [hold])
})
