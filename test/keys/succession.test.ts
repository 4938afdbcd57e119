import test from 'ava'
import { toHex } from '../../src/base/ids.js'
import {
  deriveTrailerKey,
  type KeyPurpose,
  type Maker,
  makeKey,
  openEntry,
  RECOVERY,
  readEntry,
  sealEntry,
  sealToRecovery,
} from '../../src/keys/entry.js'
import { openMembership } from '../../src/keys/membership.js'
import { deriveRoot, rootFromWords } from '../../src/keys/root.js'
import { openFleetKeys, succeed } from '../../src/keys/succession.js'
import { Secret, type SecretHandle } from '../../src/native.js'
import { delegate, fleet, hostOf, makeFleet, sealingOf, signPlain } from './fleet.js'

function stand() {
  const seed = Secret.random()
  const root = deriveRoot(seed)
  const { coordinator, appliance, peer, body } = makeFleet()
  const duties = ['coordinator', 'enroller', 'holder', 'pruner'] as const
  const delegations = duties.map((duty) => delegate(root.secret, hostOf(coordinator), duty))
  const membership = openMembership(signPlain({ ...body, delegations }, coordinator), fleet, root.rootKey)
  const maker = (identity: SecretHandle, term = 1): Maker => ({ fleet, term, rootSealing: root.rootSealing, identity })
  const [domain, catalog] = [Secret.random(), Secret.random()]
  const shared = [
    sealToRecovery('domain', domain, maker(coordinator)),
    sealToRecovery('catalog', catalog, maker(coordinator)),
  ]
  const own = [
    ...makeKey('manifest', maker(appliance)),
    sealToRecovery('domain', domain, maker(appliance)),
    sealToRecovery('trailer', deriveTrailerKey(catalog, hostOf(appliance)), maker(appliance)),
  ]
  return { words: seed.words(), root, coordinator, appliance, peer, membership, maker, domain, catalog, shared, own }
}

const spare = { name: 'spare', domain: 'office', address: '192.168.1.9:7420' }
const idsOf = (keys: readonly SecretHandle[] = []) => keys.map((key) => toHex(key.id()))
const entryOf = (entries: readonly Buffer[], purpose: KeyPurpose, reader: string) => {
  const found = entries
    .map((bytes) => readEntry(bytes).entry)
    .find((one) => one.purpose === purpose && one.reader === reader)
  return found?.key ?? ''
}

test('every key comes back, and from a second recovery too', (t) => {
  const { words, membership, shared, own, appliance, coordinator, peer, domain, catalog } = stand()
  const root = rootFromWords(words)
  const keys = openFleetKeys([...shared, ...own], membership, root)
  t.truthy(keys)
  if (!keys) return
  t.deepEqual(keys.domain.id(), domain.id())
  const manifest = entryOf(own, 'manifest', RECOVERY)
  const host = hostOf(appliance)
  t.deepEqual(idsOf(keys.appliances.get(host)?.manifests), [manifest])
  t.deepEqual(
    idsOf(keys.trailersOf(host)),
    idsOf([deriveTrailerKey(catalog, host)]),
    'its own, and the one that follows from C',
  )

  const identity = Secret.random()
  const next = succeed(membership, keys, root, spare, identity)
  t.is(next.membership.term, 2)
  t.is(next.membership.coordinator, hostOf(identity))
  t.is(next.membership.role(hostOf(coordinator)), undefined)
  t.is(next.membership.role(hostOf(peer)), 'peer')
  t.is(next.membership.role(host), 'appliance')
  t.true(next.membership.newerThan(membership))
  const forIt = next.keys.filter((bytes) => readEntry(bytes).entry.reader === hostOf(identity))
  const opened = forIt.map((bytes) =>
    openEntry(bytes, { fleet, reader: hostOf(identity), secret: identity, accept: () => true }),
  )
  t.deepEqual(
    opened.map(({ entry }) => [entry.purpose, entry.term]),
    [
      ['domain', 2],
      ['catalog', 2],
    ],
  )

  const its = next.keys.filter((bytes) => readEntry(bytes).entry.owner === hostOf(identity))
  t.deepEqual(its, next.keys, 'no host is sealed what opens the snapshots of others')
  // Whichever of the two holders' keys are left: cut short, or spread everywhere.
  for (const left of [
    [...shared, ...own],
    [...its, ...own],
    [...its, ...shared, ...own],
  ]) {
    const again = openFleetKeys(left, next.membership, root)
    t.deepEqual(again?.domain.id(), keys.domain.id())
    t.deepEqual(again?.catalog.id(), keys.catalog.id())
    t.deepEqual(idsOf(again?.appliances.get(host)?.manifests), [manifest])
  }
})

test("a domain of one volume's own opens its snapshots, and never becomes the fleet's", (t) => {
  const { root, membership, coordinator, appliance, maker, domain, shared, own } = stand()
  const apart = (identity: SecretHandle, key: SecretHandle) => {
    const { rootSealing: readerSealing } = maker(identity)
    const named = { fleet, term: 1, owner: hostOf(identity), reader: RECOVERY, readerSealing, volume: '3e'.repeat(16) }
    return sealEntry(key, { ...named, purpose: 'domain' }, identity)
  }
  const [its, holders] = [Secret.random(), Secret.random()]
  const entries = [apart(coordinator, holders), apart(appliance, its), apart(appliance, holders), ...shared, ...own]
  const keys = openFleetKeys(entries, membership, root)
  t.deepEqual(keys?.domain.id(), domain.id())
  t.true(idsOf(keys?.appliances.get(hostOf(appliance))?.domains).includes(toHex(its.id())))
  t.is(openFleetKeys([apart(coordinator, holders), ...shared.slice(1), ...own], membership, root), undefined)
})

test('a trailer key that does not follow from the catalog key is handed over: its heads open with it', (t) => {
  const { words, membership, shared, own, appliance, maker } = stand()
  const root = rootFromWords(words)
  const odd = Secret.random()
  const entries = [...shared, ...own, sealToRecovery('trailer', odd, maker(appliance))]
  const keys = openFleetKeys(entries, membership, root)
  if (!keys) return t.fail()
  const identity = Secret.random()
  const given = succeed(membership, keys, root, spare, identity).keys.map((bytes) => readEntry(bytes).entry)
  const trailers = given.filter(({ purpose, reader }) => purpose === 'trailer' && reader === hostOf(identity))
  t.deepEqual(
    trailers.map(({ owner, key }) => [owner, key]),
    [[hostOf(appliance), toHex(odd.id())]],
  )
})

test('a host that goes on with its key finds its entries as they were; what does not open is sealed anew', (t) => {
  const { root, membership, coordinator, maker, domain, catalog, shared, own } = stand()
  const keys = openFleetKeys([...shared, ...own], membership, root)
  if (!keys) return t.fail()
  const { sealed: _, ...entry } = readEntry(sealToRecovery('catalog', catalog, maker(coordinator))).entry
  const junk = sealEntry(catalog, { ...entry, readerSealing: sealingOf(Secret.random()) }, coordinator)
  const toSelf = sealEntry(
    domain,
    { ...entry, purpose: 'domain', reader: hostOf(coordinator), readerSealing: sealingOf(coordinator) },
    coordinator,
  )
  const held = [junk, shared[0] as Buffer, toSelf]
  const next = succeed(membership, keys, root, spare, coordinator, held)
  const its = next.keys.filter((bytes) => readEntry(bytes).entry.owner === hostOf(coordinator))
  t.is(next.keys.length, 4)
  t.is(its.length, 4)
  t.true(its.some((bytes) => bytes.equals(shared[0] as Buffer)))
  t.true(its.some((bytes) => bytes.equals(toSelf)))
  t.false(its.some((bytes) => bytes.equals(junk)))
  t.truthy(openFleetKeys(its, next.membership, root))
})

test('shared keys come from holders only, and each appliance vouches for its own', (t) => {
  const { root, membership, shared, own, maker, appliance, coordinator, peer } = stand()
  const keys = openFleetKeys([...shared, ...own], membership, root)
  const entry = (purpose: 'catalog' | 'manifest', owner: string) =>
    sealEntry(
      Secret.random(),
      { fleet, term: 1, purpose, owner, reader: RECOVERY, readerSealing: root.rootSealing },
      peer,
    )
  const poisoned = [
    ...makeKey('domain', maker(appliance)),
    ...makeKey('catalog', maker(appliance)),
    entry('manifest', hostOf(appliance)),
    entry('catalog', hostOf(coordinator)),
    ...shared,
    ...own,
  ]
  const all = openFleetKeys(poisoned, membership, root)
  t.deepEqual(all?.domain.id(), keys?.domain.id())
  t.deepEqual(all?.catalog.id(), keys?.catalog.id())
  const host = hostOf(appliance)
  t.deepEqual(idsOf(all?.appliances.get(host)?.manifests), idsOf(keys?.appliances.get(host)?.manifests))
  t.is(openFleetKeys(own, membership, root), undefined)
  t.not(sealingOf(peer), root.rootSealing)
})

test('whatever a holder or an appliance in wrong hands adds: every key that opens is kept, in whichever order they come', (t) => {
  const { root, membership, shared, own, maker, appliance, coordinator, domain, catalog } = stand()
  const host = hostOf(appliance)
  const added = [
    ...makeKey('domain', maker(coordinator)),
    ...makeKey('catalog', maker(coordinator)),
    ...makeKey('manifest', maker(appliance)),
    ...makeKey('domain', maker(appliance)),
    // Of the right name, and it opens for nobody.
    sealEntry(
      domain,
      { ...readEntry(shared[0] as Buffer).entry, readerSealing: sealingOf(Secret.random()) },
      coordinator,
    ),
  ]
  for (const entries of [
    [...added, ...shared, ...own],
    [...own, ...shared, ...added],
  ]) {
    const keys = openFleetKeys(entries, membership, root)
    t.deepEqual(keys?.domain.id(), domain.id(), 'the one that an appliance says it uses')
    t.true(idsOf(keys?.appliances.get(host)?.manifests).includes(entryOf(own, 'manifest', RECOVERY)))
    t.true(idsOf(keys?.appliances.get(host)?.domains).includes(toHex(domain.id())))
    t.true(idsOf(keys?.trailersOf(host)).includes(toHex(deriveTrailerKey(catalog, host).id())))
    const stranger = hostOf(Secret.random())
    t.true(idsOf(keys?.trailersOf(stranger)).includes(toHex(deriveTrailerKey(catalog, stranger).id())))
  }
})

test('other words open nothing', (t) => {
  const { membership, shared, own } = stand()
  t.is(openFleetKeys([...shared, ...own], membership, deriveRoot(Secret.random())), undefined)
  t.throws(() => rootFromWords('abandon '.repeat(24)), { code: 'WRONG_WORDS', message: /^The recovery words: all are/ })
})

test('new hosts are given the last rotation of the newest term, and what is older opens all the same', (t) => {
  const { root, coordinator, appliance, membership, maker, domain, shared, own } = stand()
  const [later, last] = [Secret.random(), Secret.random()]
  const rotated = (key: SecretHandle, rotation: number) => sealToRecovery('domain', key, maker(coordinator), rotation)
  // Of the last one no server has said yet that it uses it.
  const used = sealToRecovery('domain', later, maker(appliance), 1)
  const all = [rotated(last, 2), ...shared, ...own, used, rotated(later, 1)]
  for (const entries of [all, all.toReversed()]) {
    const keys = openFleetKeys(entries, membership, root)
    t.deepEqual(keys?.domain.id(), last.id())
    const domains = idsOf(keys?.appliances.get(hostOf(appliance))?.domains)
    t.deepEqual(domains.sort(), idsOf([domain, later]).sort())
    if (keys)
      t.is(entryOf(succeed(membership, keys, root, spare, Secret.random()).keys, 'domain', RECOVERY), toHex(last.id()))
  }
})
