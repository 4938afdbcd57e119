import test from 'ava'
import { makeKey, openEntry, RECOVERY, readEntry, sealEntry, signKeybag } from '../../src/keys/keybag.js'
import { openMembership, signMembership } from '../../src/keys/membership.js'
import { deriveRoot, rootFromWords } from '../../src/keys/root.js'
import { openFleetKeys, succeed } from '../../src/keys/succession.js'
import { Secret, type SecretHandle } from '../../src/native.js'
import { delegate, fleet, hostOf, makeFleet, sealingOf } from './fleet.js'

function stand() {
  const seed = Secret.random()
  const root = deriveRoot(seed)
  const { coordinator, appliance, peer, body } = makeFleet()
  const duties = ['coordinator', 'enroller', 'holder', 'pruner'] as const
  const delegations = duties.map((duty) => delegate(root.secret, hostOf(coordinator), duty))
  const membership = openMembership(signMembership({ ...body, delegations }, coordinator), fleet, root.rootKey)
  const bag = (owner: SecretHandle, entries: Buffer[]) =>
    signKeybag({ fleet, sequence: entries.length, owner: hostOf(owner), entries }, owner)
  const made = (purpose: 'domain' | 'catalog' | 'manifest', owner: SecretHandle) =>
    makeKey(purpose, fleet, root.rootSealing, owner)
  const shared = [...made('domain', coordinator), ...made('catalog', coordinator)]
  const keybags = [bag(coordinator, shared), bag(appliance, made('manifest', appliance))]
  return { words: seed.words(), root, coordinator, appliance, peer, membership, keybags, bag, made, shared }
}

const spare = { name: 'spare', domain: 'office', address: '192.168.1.9:7420' }

test('every key comes back, and from a second recovery too', (t) => {
  const { words, membership, keybags, appliance, coordinator, shared, peer } = stand()
  const root = rootFromWords(words)
  const keys = openFleetKeys(keybags, membership, root)
  t.truthy(keys)
  if (!keys) return
  t.deepEqual(keys.domain.id().toString('hex'), readEntry(shared[0] as Buffer).entry.key)
  t.deepEqual([...keys.manifests.keys()], [hostOf(appliance)])

  const identity = Secret.random()
  const next = succeed(membership, keys, root, spare, identity)
  t.is(next.membership.term, 2)
  t.is(next.membership.coordinator, hostOf(identity))
  t.is(next.membership.role(hostOf(coordinator)), undefined)
  t.is(next.membership.role(hostOf(peer)), 'peer')
  t.is(next.membership.role(hostOf(appliance)), 'appliance')
  t.true(next.membership.newerThan(membership))
  const own = next.keys.filter((bytes) => readEntry(bytes).entry.reader === hostOf(identity))
  const opened = own.map((bytes) =>
    openEntry(bytes, { fleet, reader: hostOf(identity), secret: identity, accept: () => true }),
  )
  t.deepEqual(
    opened.map(({ entry }) => entry.purpose),
    ['domain', 'catalog', 'manifest'],
  )

  const owned = next.keys.filter((bytes) => readEntry(bytes).entry.owner === hostOf(identity))
  const bag = signKeybag({ fleet, sequence: 4, owner: hostOf(identity), entries: owned }, identity)
  // Whichever of the two key bags of holders is left: cut short, or spread everywhere.
  for (const left of [keybags, [bag, keybags[1] as Buffer], [bag, ...keybags]]) {
    const again = openFleetKeys(left, next.membership, root)
    t.deepEqual(again?.domain.id(), keys.domain.id())
    t.deepEqual(again?.catalog.id(), keys.catalog.id())
    t.is(again?.manifests.size, 1)
  }
})

test('shared keys come from holders only, and each appliance vouches for its own manifest key', (t) => {
  const { root, membership, keybags, bag, made, appliance, coordinator, peer } = stand()
  const keys = openFleetKeys(keybags, membership, root)
  const entry = (purpose: 'catalog' | 'manifest', owner: string) =>
    sealEntry(Secret.random(), { fleet, purpose, owner, reader: RECOVERY, readerSealing: root.rootSealing }, peer)
  const poisoned = [
    ...keybags,
    bag(appliance, [...made('domain', appliance), ...made('catalog', appliance)]),
    bag(peer, [entry('manifest', hostOf(appliance)), entry('catalog', hostOf(coordinator))]),
  ]
  const all = openFleetKeys(poisoned, membership, root)
  t.deepEqual(all?.domain.id(), keys?.domain.id())
  t.deepEqual(all?.catalog.id(), keys?.catalog.id())
  t.deepEqual(all?.manifests.get(hostOf(appliance))?.id(), keys?.manifests.get(hostOf(appliance))?.id())
  t.is(openFleetKeys([keybags[1] as Buffer], membership, root), undefined)
  t.not(sealingOf(peer), root.rootSealing)
})

test('other words open nothing', (t) => {
  const { membership, keybags } = stand()
  t.is(openFleetKeys(keybags, membership, deriveRoot(Secret.random())), undefined)
  t.throws(() => rootFromWords('abandon '.repeat(24)), { code: 'WRONG_WORDS', message: /^The recovery words: all are/ })
})
