import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { openFleet } from '../../src/fleet/open.js'
import { tlsIdentity } from '../../src/keys/certificate.js'
import { mayDeliver, openEntry, openKeybag, RECOVERY } from '../../src/keys/keybag.js'
import { openMembership, signMembership } from '../../src/keys/membership.js'
import { deriveRoot } from '../../src/keys/root.js'
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
  const keybags = async () => {
    const found: Buffer[] = []
    for await (const { bytes } of client.fetchDocuments('keybag')) found.push(bytes)
    return found
  }
  await eventually(t, 'both keybags are there', async () => (await keybags()).length === 2)
  await eventually(t, 'the newest membership is there', () => pc.membership().find(appliance.host) !== undefined)
  await coordinator.close()

  const bytes = await client.fetchDocument('membership', fleet.home.fleet)
  const membership = openMembership(bytes ?? Buffer.alloc(0), fleet.home.fleet, root.rootKey)
  const keys = new Map<string, Buffer>()
  for (const bag of await keybags()) {
    for (const entry of openKeybag(bag, fleet.home.fleet).entries) {
      const accept = (signer: string, of: Parameters<typeof mayDeliver>[1]) =>
        of.reader === RECOVERY && mayDeliver(signer, of, membership, root.rootKey)
      const reader = { fleet: fleet.home.fleet, reader: RECOVERY, secret: root.secret, accept }
      try {
        const opened = openEntry(entry, reader)
        keys.set(opened.entry.purpose, opened.key.id())
      } catch {
        // Sealed to its owner.
      }
    }
  }
  t.deepEqual(keys.get('domain'), fleet.home.domainKey?.id())
  t.deepEqual(keys.get('catalog'), fleet.home.catalogKey?.id())
  t.deepEqual(keys.get('manifest'), appliance.manifestKey?.id())
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
  const { body } = pc.membership()
  const hosts = body.hosts.filter(({ host }) => host !== appliance.host)
  t.true(pc.saveMembership(signMembership({ ...body, sequence: body.sequence + 1, hosts }, fleet.home.secret)))
  await t.throwsAsync(shards.fetch(shard, [1, 4]), { code: 'NOT_ALLOWED', message: /member/ })
})

test('a peer that was away gets what it missed when it is back', async (t) => {
  const fleet = await TestFleet.found(t)
  await fleet.coordinator()
  const pc = await fleet.add('pc-1', 'peer')
  const first = await fleet.peer(pc)
  await eventually(t, 'its address is known', () => {
    return fleet.home.membership().find(pc.host)?.addresses[0] === first.address
  })
  await first.close()
  const appliance = await fleet.add('server', 'appliance')
  t.is(pc.membership().find(appliance.host), undefined)
  await fleet.peer(pc)
  await eventually(t, 'it knows the new member', () => pc.membership().find(appliance.host) !== undefined)
})
