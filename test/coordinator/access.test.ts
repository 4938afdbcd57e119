import test from 'ava'
import fc from 'fast-check'
import * as v from 'valibot'
import { toHex } from '../../src/base/ids.js'
import type { Catalog } from '../../src/catalog/types.js'
import { CALL_NAMES } from '../../src/coordinator/calls.js'
import { makeKey, sealToRecovery } from '../../src/keys/entry.js'
import { Secret } from '../../src/native.js'
import { numberOf, runName, stripeOf } from '../../src/stripes/names.js'
import { decodeMessage, encodeMessage } from '../../src/wire/message.js'
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
import { FLEET, headOf, keyOf, openOffice } from './harness.js'

const NOT_ALLOWED = { code: 'NOT_ALLOWED' }

for (const role of ['peer', 'restorer', 'lender'] as const) {
  test(`a ${role} may beat, read the membership and ask for itself, nothing else; each refusal is an event`, async (t) => {
    const office = await openOffice(t)
    const { connection, catalog } = office.member(role, 'pc-1')
    const refused = CALL_NAMES.filter((name) => !['join', 'show', 'heartbeat', 'membership', 'self'].includes(name))
    for (const name of refused) {
      const ask = connection.request('POST', `/v1/${name}`, { body: encodeMessage({}), maxBytes: 1e6 })
      await t.throwsAsync(ask, { ...NOT_ALLOWED, message: new RegExp(`The role ${role}`) }, name)
    }
    t.truthy(await catalog.heartbeat(offer('disk')))
    t.truthy(await catalog.membership())
    t.is((await catalog.self()).name, 'pc-1')
    const events = office.catalog.registry.events()
    t.is(
      events.filter(({ sentence }) => sentence.startsWith(`Refused pc-1: The role ${role} may not`)).length,
      refused.length,
    )
  })
}

test('a stranger may ask for nothing but to join, and show what proves itself', async (t) => {
  const office = await openOffice(t)
  const { connection } = office.connect(Secret.random())
  for (const name of CALL_NAMES.filter((one) => one !== 'join' && one !== 'show')) {
    const ask = connection.request('POST', `/v1/${name}`, { body: encodeMessage({}), maxBytes: 1e6 })
    await t.throwsAsync(ask, NOT_ALLOWED, name)
  }
})

test("an appliance acts for itself, and sees neither another's snapshots nor its leases", async (t) => {
  const office = await openOffice(t)
  const mine = office.member('appliance', 'srv-1')
  const other = office.member('appliance', 'srv-2')
  const admin = office.member('admin', 'boss')
  const peers = addPeers(office.catalog, 3)
  const volume = hex(16)
  const request = { appliance: mine.host, volume, source: '/dev/sda', label: '' }
  await t.throwsAsync(other.catalog.begin(request), NOT_ALLOWED)
  const begun = await mine.catalog.begin(request)
  const { lease, snapshot, sequence, parent } = begun
  const stripe = nextStripe(mine.catalog, mine.host, begun)
  const place = placement(2, 1, peers, stripe)
  await t.throwsAsync(other.catalog.place(lease, place), NOT_ALLOWED)
  await mine.catalog.place(lease, place)
  const { k, m, packBytes } = place
  const commit = { stripe, k, m, packBytes, records: recordsOf(ids(1)), shards: held(place) }
  await t.throwsAsync(other.catalog.commit(lease, commit), NOT_ALLOWED)
  await t.throwsAsync(other.catalog.lookup(lease, ids(1), 0), NOT_ALLOWED)
  await mine.catalog.commit(lease, commit)
  const named = references([stripe], mine.catalog.names)
  const facts = { appliance: mine.host, volume, sequence, snapshot, parent, time: 1 }
  const finish = {
    head: headOf(office, mine.secret, facts, named),
    references: named,
    asked: false,
    summary: summary(),
  }
  await t.throwsAsync(other.catalog.finish(lease, finish), NOT_ALLOWED)
  t.deepEqual(await mine.catalog.records([stripe]), [Uint32Array.of(90)])
  const called = ({ names }: Catalog) => stripeOf(names.number(runName(mine.host, begun.run)), numberOf(stripe))
  t.deepEqual(await other.catalog.records([called(other.catalog)]), [new Uint32Array()])
  t.deepEqual(await admin.catalog.records([called(admin.catalog)]), [Uint32Array.of(90)])
  await mine.catalog.finish(lease, finish)

  t.is((await mine.catalog.snapshots()).length, 1)
  t.is((await admin.catalog.snapshots()).length, 1)
  t.deepEqual(await other.catalog.snapshots(), [])
  await t.throwsAsync(other.catalog.snapshot('latest'), { code: 'NO_SUCH_SNAPSHOT' })
  await t.throwsAsync(other.catalog.snapshot(snapshot), { code: 'NO_SUCH_SNAPSHOT' })
  await t.throwsAsync(other.catalog.snapshotStripes(snapshot), { code: 'NO_SUCH_SNAPSHOT' })
  await t.throwsAsync(mine.catalog.events(), NOT_ALLOWED)
  const kinds = (await admin.catalog.events()).map((event) => event.kind)
  t.deepEqual(new Set(kinds), new Set(['refusal', 'snapshot']))
})

test('keys are taken from their owner only, and the first of each name stays', async (t) => {
  const office = await openOffice(t)
  const mine = office.member('appliance', 'srv-1')
  const other = office.member('appliance', 'srv-2')
  const { term } = office.home.membership()
  const maker = { fleet: FLEET, term, rootSealing: office.home.rootSealing, identity: mine.secret }
  // One that the catalog alone knows of.
  const unsigned = Secret.random()
  const row = {
    host: keyOf(unsigned),
    sealing: keyOf(unsigned),
    name: 'srv-0',
    role: 'appliance' as const,
    domain: 'd',
  }
  office.catalog.members.admit(row)
  const theirs = makeKey('manifest', { ...maker, identity: unsigned })
  await t.throwsAsync(office.connect(unsigned).catalog.keepKeys(theirs), NOT_ALLOWED)
  await office.member('admin', 'boss').catalog.rename('srv-2', 'srv-3')
  const key = Secret.random()
  const entries = [sealToRecovery('manifest', key, maker), ...makeKey('domain', maker)]
  await mine.catalog.keepKeys(entries)
  await mine.catalog.keepKeys(entries)
  await mine.catalog.keepKeys([sealToRecovery('manifest', key, maker)])
  t.deepEqual(
    office.catalog.registry
      .documents('key')
      .map(({ bytes }) => toHex(bytes))
      .sort(),
    entries.map(toHex).sort(),
  )
  t.is(office.documents.filter(({ kind }) => kind === 'key').length, 3, 'each is handed on once')
  await t.throwsAsync(other.catalog.keepKeys(entries), NOT_ALLOWED)
  await t.throwsAsync(mine.catalog.keepKeys(makeKey('catalog', maker)), NOT_ALLOWED, 'it is no holder')
  await t.throwsAsync(mine.catalog.keepKeys([Buffer.from('no entry')]), { code: 'CORRUPT' })
  await t.throwsAsync(mine.catalog.keepKeys(makeKey('domain', { ...maker, fleet: hex(16) })), { code: 'FORGED' })
  await t.throwsAsync(mine.catalog.keepKeys(makeKey('domain', { ...maker, term: term + 1 })), NOT_ALLOWED)
})

test('garbage is refused by name, and the coordinator goes on', async (t) => {
  const office = await openOffice(t)
  const { connection, catalog } = office.member('admin', 'boss')
  const ask = (name: string, body: Uint8Array) => connection.request('POST', `/v1/${name}`, { body, maxBytes: 1e6 })
  const refusals = new Set(['PROTOCOL', 'UNSUPPORTED', 'CORRUPT', 'LEASE_ENDED', 'WRONG_KEY', 'NO_SUCH_SNAPSHOT'])
  const codeOf = (error: unknown) => (error as { code?: string }).code ?? String(error)
  const named = fc.asyncProperty(
    // To move the coordinator no role is enough.
    fc.constantFrom(...CALL_NAMES.filter((name) => name !== 'heartbeat' && name !== 'move')),
    fc.oneof(
      fc.uint8Array({ maxLength: 200 }),
      fc.tuple(fc.jsonValue(), fc.uint8Array({ maxLength: 70 })).map(([body, rest]) => encodeMessage(body, rest)),
      fc.nat(20).map((at) => encodeMessage({ lease: hex(16), tolerate: 1 }).fill(0xee, at, at + 1)),
    ),
    async (name, body) => {
      try {
        // An empty question is a good one to some; then the answer is a message.
        decodeMessage(v.unknown(), (await ask(name, body)).body)
        return true
      } catch (error) {
        return refusals.has(codeOf(error))
      }
    },
  )
  await t.notThrowsAsync(fc.assert(named, { numRuns: 300 }))
  const long = { appliance: hex(32), volume: hex(16), source: 'x'.repeat(5000), label: '' }
  await t.throwsAsync(catalog.begin(long), { code: 'PROTOCOL' })
  await t.throwsAsync(ask('begin', Buffer.alloc(70_000)), { code: 'PROTOCOL', message: /70,?000/ })
  await t.throwsAsync(connection.request('GET', '/v1/nothing', { maxBytes: 1000 }), { code: 'PROTOCOL' })
  await t.throwsAsync(catalog.lookup(hex(16), new Uint8Array(32 * 65_537), 0), { code: 'PROTOCOL' })
  t.truthy(await catalog.hosts())
})
