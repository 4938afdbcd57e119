import test from 'ava'
import { toHex } from '../../src/base/ids.js'
import { openMembership } from '../../src/keys/membership.js'
import { hash, Secret } from '../../src/native.js'
import { keepMembership, VERSIONS_KEPT, type Version, versionsToDrop } from '../../src/peers/memberships.js'
import { fleet, makeFleet, member, signPlain } from '../keys/fleet.js'
import { folder, openStore } from './peer.js'

const DAY = 24 * 3_600_000
const NOW = 1000 * DAY

function version(sequence: number, received: number, term = 1): Version {
  return { name: `${term}.${sequence}`, term, handed: 0, sequence, received }
}

test('kept are the newest, the last of each term, and what was in force within four weeks', (t) => {
  const versions = [
    version(1, NOW - 900 * DAY),
    version(7, NOW - 800 * DAY),
    version(1, NOW - 700 * DAY, 2),
    version(2, NOW - 60 * DAY, 2),
    version(3, NOW - 27 * DAY, 2),
    version(4, NOW - DAY, 2),
  ]
  t.deepEqual(versionsToDrop(versions, NOW), ['1.1', '2.1'], 'for years in force until four weeks ago: 2.2 stays')
  t.deepEqual(versionsToDrop(versions, NOW + 40 * DAY), ['1.1', '2.1', '2.2', '2.3'])
  t.deepEqual(versionsToDrop([{ ...version(0, NOW), term: 0, name: 'rotten' }, version(1, NOW)], NOW), ['rotten'])
})

test('a flood of memberships pushes out itself', (t) => {
  const honest = [version(1, NOW - 90 * DAY), version(2, NOW - 3 * DAY)]
  const flood = Array.from({ length: 500 }, (_, index) => version(3 + index, NOW - 10_000 + index))
  const dropped = new Set(versionsToDrop([...honest, ...flood], NOW))
  t.false(dropped.has('1.1') || dropped.has('1.2') || dropped.has('1.502'))
  t.is(502 - dropped.size, VERSIONS_KEPT + 1)
})

test('a membership that is replaced stays beside the newest, byte for byte', async (t) => {
  const { root, rootKey, coordinator, body, membership } = makeFleet()
  const store = await openStore(folder(t))
  let newest = membership
  const trust = { fleet, rootKey, membership: () => newest, watchMembership: () => {} }
  const clock = { now: () => Date.now() }
  const keep = async (bytes: Buffer) => {
    await keepMembership(store, trust, clock, bytes)
    newest = openMembership(bytes, fleet, rootKey)
  }
  const peers = [Secret.random(), Secret.random()].map((one, index) => member(one, `pc-${index}`, 'peer'))
  const second = signPlain({ ...body, sequence: 2, hosts: [...body.hosts, ...peers] }, coordinator)
  const third = signPlain({ ...body, sequence: 3 }, root)
  await keep(membership.bytes)
  await keep(second)
  const none = signPlain(
    { ...body, sequence: 4, hosts: body.hosts.slice(0, 2), gone: [...body.hosts.slice(2), ...peers] },
    coordinator,
  )
  await t.throwsAsync(keep(none), { code: 'MEMBERSHIP_SHRINKS' })
  await keep(third)
  await keep(third)
  await t.throwsAsync(keep(second), { code: 'HOST_REFUSED' })
  t.deepEqual(await store.document('membership', fleet), third)
  const names = [membership.bytes, second, third].map((bytes) => toHex(hash(bytes)))
  t.deepEqual((await store.documents('membership')).sort(), [fleet, ...names].sort())
  t.deepEqual(await store.document('membership', names[1] ?? ''), second)
  const { usedBytes } = await store.free()
  await store.dropDocument('membership', names[1] ?? '')
  t.is((await store.free()).usedBytes, usedBytes - second.length)
})
