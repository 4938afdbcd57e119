import type { ExecutionContext } from 'ava'
import test from 'ava'
import { verifyGrant } from '../../src/keys/grant.js'
import { openMembership } from '../../src/keys/membership.js'
import { Secret } from '../../src/native.js'
import { runName, shardOf } from '../../src/stripes/names.js'
import { conformance, type Stand } from '../catalog/conformance.js'
import {
  addPeers,
  held,
  hex,
  ids,
  nextStripe,
  offer,
  placement,
  recordsOf,
  references,
  summary,
} from '../catalog/harness.js'
import { FLEET, headOf, openOffice } from './harness.js'

async function stand(t: ExecutionContext): Promise<Stand> {
  const office = await openOffice(t)
  const { host: appliance, secret, catalog } = office.member('appliance', 'srv')
  office.member('admin', 'boss')
  const peers = addPeers(office.catalog, 6)
  const beat = () => {
    for (const peer of peers) office.catalog.members.heartbeat(peer, offer(`disk-${peer}`))
  }
  // Its key is on every peer.
  const name = `${appliance}${hex(32)}`
  office.catalog.registry.keepKey(name, Buffer.alloc(1))
  const version = String(office.clock.now())
  const delivery = { kind: 'key', name, version, due: 0, refused: null } as const
  for (const peer of peers) office.catalog.registry.deliveries.note(peer, delivery)
  const head: Stand['head'] = (facts, references) => headOf(office, secret, facts, references)
  return { catalog, local: office.catalog, clock: office.clock, appliance, peers, head, beat }
}

conformance(test, stand)

test('grants are statements that a peer believes', async (t) => {
  const office = await openOffice(t)
  const appliance = office.member('appliance', 'srv')
  const peers = addPeers(office.catalog, 3)
  const begun = await appliance.catalog.begin({
    appliance: appliance.host,
    volume: hex(16),
    source: 'x',
    label: '',
  })
  const stripe = nextStripe(appliance.catalog, appliance.host, begun)
  const request = placement(2, 1, peers, stripe)
  const grants = await appliance.catalog.place(begun.lease, request)
  const membership = openMembership(await appliance.catalog.membership(), FLEET, office.home.rootKey)
  for (const [i, grant] of grants.entries()) {
    const { host, index } = request.shards[i] as (typeof request.shards)[0]
    const shard = shardOf(runName(appliance.host, begun.run), stripe, index)
    const use = { membership, fleet: FLEET, host, bearer: appliance.host, shard, lengthBytes: request.lengthBytes }
    t.truthy(verifyGrant(Buffer.from(grant, 'base64'), use))
    t.throws(() => verifyGrant(Buffer.from(grant, 'base64'), { ...use, bearer: hex(32) }))
  }
})

test('a head that is forged, or names other references, is refused', async (t) => {
  const office = await openOffice(t)
  const appliance = office.member('appliance', 'srv')
  const peers = addPeers(office.catalog, 3)
  const volume = hex(16)
  const begun = await appliance.catalog.begin({ appliance: appliance.host, volume, source: 'x', label: '' })
  const stripe = nextStripe(appliance.catalog, appliance.host, begun)
  const request = placement(2, 1, peers, stripe)
  await appliance.catalog.place(begun.lease, request)
  const { k, m, packBytes } = request
  await appliance.catalog.commit(begun.lease, {
    stripe,
    k,
    m,
    packBytes,
    records: recordsOf(ids(1)),
    shards: held(request),
  })
  const { snapshot, sequence, parent } = begun
  const facts = { appliance: appliance.host, volume, sequence, snapshot, parent, time: 1 }
  const named = references([stripe], appliance.catalog.names)
  const other = office.member('appliance', 'other')
  const forged = headOf(office, other.secret, facts, named)
  const unsealed = headOf({ catalogKey: Secret.random() }, appliance.secret, facts, named)
  const mismatched = headOf(office, appliance.secret, facts, references([stripe + 1], appliance.catalog.names))
  for (const head of [forged, unsealed, mismatched, Buffer.from('no head')]) {
    const finish = appliance.catalog.finish(begun.lease, { head, references: named, asked: false, summary: summary() })
    const error = await t.throwsAsync(finish)
    t.true(['FORGED', 'CORRUPT'].includes((error as { code?: string }).code ?? ''))
  }
  t.deepEqual(await appliance.catalog.snapshots(), [])
  t.true(office.catalog.registry.events().some((event) => event.kind === 'refusal'))
})

test('a stopped coordinator is told apart from a refusing one', async (t) => {
  const office = await openOffice(t)
  const { connection } = office.connect(office.root)
  connection.close()
  const { Connection } = await import('../../src/wire/client.js')
  const { RemoteCatalog } = await import('../../src/coordinator/client.js')
  const nobody = new Connection({ tls: office.home.tls, addresses: ['127.0.0.1:1'], host: office.home.host })
  t.teardown(() => nobody.close())
  await t.throwsAsync(new RemoteCatalog(nobody).hosts(), { code: 'COORDINATOR_UNREACHABLE' })
})
