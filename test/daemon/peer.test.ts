import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { toHex } from '../../src/base/ids.js'
import { openFleet } from '../../src/fleet/open.js'
import { tlsIdentity } from '../../src/keys/certificate.js'
import { makeRemoval } from '../../src/keys/enroller.js'
import { openMembership, signMembership } from '../../src/keys/membership.js'
import { deriveRoot } from '../../src/keys/root.js'
import { openFleetKeys } from '../../src/keys/succession.js'
import { Secret } from '../../src/native.js'
import { PeerClient } from '../../src/peers/client.js'
import { Connection } from '../../src/wire/client.js'
import { eventually, TestFleet } from '../fleet/fleet.js'
import { openTransport } from '../peers/peer.js'

test('the words and one peer give every key back', async (t) => {
  const fleet = await TestFleet.found(t)
  const coordinator = await fleet.coordinator()
  const pc = await fleet.add('pc-1', 'peer')
  const peer = await fleet.peer(pc)
  const appliance = await fleet.add('server', 'appliance')
  const root = deriveRoot(Secret.fromWords(fleet.words))
  const connection = new Connection({ tls: tlsIdentity(root.secret), addresses: [peer.address], host: pc.host })
  fleet.closing({ close: async () => connection.close() })
  const client = new PeerClient(pc.host, 'pc-1', connection)
  const entries = async () => {
    const found: Buffer[] = []
    for await (const { bytes } of client.fetchDocuments('key')) found.push(bytes)
    return found
  }
  const all = [...fleet.home.ownEntries(), ...appliance.ownEntries()]
  await eventually(t, 'the keys of both are there', async () => (await entries()).length === all.length)
  t.deepEqual((await entries()).map(toHex).sort(), all.map(toHex).sort())
  await eventually(t, 'the newest membership is there', () => pc.membership().find(appliance.host) !== undefined)
  await coordinator.close()

  const bytes = await client.fetchDocument('membership', fleet.home.fleet)
  const membership = openMembership(bytes ?? Buffer.alloc(0), fleet.home.fleet, root.rootKey)
  const keys = openFleetKeys(await entries(), membership, root)
  t.deepEqual(keys?.domain.id(), fleet.home.domainKey?.id())
  t.deepEqual(keys?.catalog.id(), fleet.home.catalogKey?.id())
  const { manifests, domains, trailers } = keys?.appliances.get(appliance.host) ?? {}
  t.deepEqual(
    manifests?.map((key) => key.id()),
    [appliance.manifestKey?.id()],
  )
  t.deepEqual(
    domains?.map((key) => key.id()),
    [appliance.domainKey?.id()],
  )
  t.deepEqual(
    trailers?.map((key) => key.id()),
    [appliance.trailerKey?.id()],
  )
})

test('hosts show its space and its real address, and the peer serves on without the coordinator', async (t) => {
  const fleet = await TestFleet.found(t)
  const coordinator = await fleet.coordinator()
  const pc = await fleet.add('pc-1', 'peer')
  const peer = await fleet.peer(pc)
  const appliance = await fleet.add('server', 'appliance')
  const view = fleet.closing(await openFleet(appliance, fleet.clock))
  const row = async () => (await view.catalog.hosts()).find((host) => host.host === pc.host)
  await eventually(t, 'it was heard of', async () => (await row())?.storage !== '')
  const seen = await row()
  t.deepEqual(seen?.addresses, [peer.address])
  t.true(seen !== undefined && seen.freeBytes > 0 && !seen.away)
  await eventually(t, 'the appliance is known to the peer', () => pc.membership().find(appliance.host) !== undefined)
  await coordinator.close()
  await t.throwsAsync(view.catalog.hosts(), { code: 'COORDINATOR_UNREACHABLE' })
  const connection = new Connection({ tls: appliance.tls, addresses: [peer.address], host: pc.host })
  fleet.closing({ close: async () => connection.close() })
  t.true((await new PeerClient(pc.host, 'pc-1', connection).fetchState()).freeBytes > 0)
})

test('a host that leaves the fleet reads nothing from the moment on that the peer knows it', async (t) => {
  const fleet = await TestFleet.found(t)
  const coordinator = await fleet.coordinator()
  const pc = await fleet.add('pc-1', 'peer')
  const appliance = await fleet.add('server', 'appliance')
  const { address } = await fleet.peer(pc)
  await coordinator.close()
  const shard = '5a'.repeat(16)
  writeFileSync(join(fleet.dir, 'pc-1/store/shards/5a', `${shard}.shard`), 'sealed')
  const called = { tls: appliance.tls, addresses: [address], host: pc.host }
  const { shards, close } = openTransport('data connections', called)
  fleet.closing({ close: async () => close() })
  t.is((await shards.fetch(shard, [1, 4])).take().toString(), 'eal')
  const draft = pc.membership().draft()
  const left = pc.membership().hosts.map(({ host }) => host !== appliance.host)
  const hosts = draft.hosts.filter((_, at) => left[at])
  const without = (...removals: Buffer[]) =>
    signMembership(
      { ...draft, sequence: draft.sequence + 1, hosts, removals: removals.map((one) => one.toString('base64')) },
      fleet.home.secret,
      [],
    )
  t.throws(() => pc.saveMembership(without()), { code: 'FORGED', message: /no enroller removed/ })
  t.true(pc.saveMembership(without(makeRemoval(fleet.home, pc.membership(), appliance.host))))
  await t.throwsAsync(shards.fetch(shard, [1, 4]), { code: 'NOT_ALLOWED', message: /member/ })
})

test('a peer that was away gets what it missed when it is back', async (t) => {
  const fleet = await TestFleet.found(t)
  await fleet.coordinator()
  const pc = await fleet.add('pc-1', 'peer')
  const first = await fleet.peer(pc)
  await eventually(t, 'its address is known', () => pc.addresses.of(pc.host)[0] === first.address)
  await first.close()
  const appliance = await fleet.add('server', 'appliance')
  t.is(pc.membership().find(appliance.host), undefined)
  await fleet.peer(pc)
  await eventually(t, 'it knows the new member', () => pc.membership().find(appliance.host) !== undefined)
})

test('what was stored is told of when it has become quiet, and does not wait for the next heartbeat', async (t) => {
  const fleet = await TestFleet.found(t)
  await fleet.coordinator()
  const pc = await fleet.add('pc-1', 'peer')
  await fleet.peer(pc, { beatEveryMs: 3_600_000 })
  const view = fleet.closing(await openFleet(fleet.home, fleet.clock))
  await eventually(t, 'the documents that it was brought are counted', async () => {
    return (await view.catalog.hosts()).some(({ host, usedBytes }) => host === pc.host && usedBytes > 0)
  })
})
