import test from 'ava'
import { toHex } from '../../src/base/ids.js'
import {
  type EntryReader,
  entryName,
  type KeyEntry,
  mayBeKept,
  mayDeliver,
  openEntry,
  partsOfEntryName,
  RECOVERY,
  readEntry,
  type Sealing,
  sealEntry,
} from '../../src/keys/entry.js'
import { requireKeyRoom } from '../../src/keys/entry-room.js'
import { openMembership } from '../../src/keys/membership.js'
import { signStatement } from '../../src/keys/statement.js'
import { Secret, type SecretHandle } from '../../src/native.js'
import { delegate, fleet, hostOf, makeFleet, member, otherFleet, sealingOf, signPlain } from './fleet.js'

const known = makeFleet()
const [appliance, coordinator, root] = [known.appliance, known.coordinator, known.root]
const key = Secret.random()
const toItself: Sealing = {
  fleet,
  term: 1,
  purpose: 'manifest',
  owner: hostOf(appliance),
  reader: hostOf(appliance),
  readerSealing: sealingOf(appliance),
}
const toRecovery: Sealing = { ...toItself, reader: RECOVERY, readerSealing: sealingOf(root) }
const sharedDomain: Sealing = { ...toItself, purpose: 'domain', owner: hostOf(coordinator) }
const as = (secret: SecretHandle, reader = hostOf(secret)): EntryReader => ({
  fleet,
  reader,
  secret,
  accept: (signer, entry) => mayDeliver(signer, entry, known.membership, known.rootKey),
})

test('the reader, and the recovery words, open what is sealed to them', (t) => {
  const own = openEntry(sealEntry(key, toItself, appliance), as(appliance))
  t.deepEqual(own.key.id(), key.id())
  t.is(own.entry.key, toHex(key.id()))
  t.deepEqual(openEntry(sealEntry(key, toRecovery, appliance), as(root, RECOVERY)).key.id(), key.id())
  t.deepEqual(openEntry(sealEntry(key, sharedDomain, coordinator), as(appliance)).key.id(), key.id())
})

test('another reader opens nothing, even under a false name', (t) => {
  const bytes = sealEntry(key, toItself, appliance)
  t.throws(() => openEntry(bytes, as(known.peer)), { code: 'FORGED', message: /another host/ })
  t.throws(() => openEntry(bytes, as(known.peer, hostOf(appliance))), { code: 'FORGED' })
  t.throws(() => openEntry(bytes, { ...as(appliance), fleet: otherFleet }), { code: 'FORGED' })
})

test('a sealed key cannot be passed off as another purpose or key', (t) => {
  const { entry } = readEntry(sealEntry(key, toItself, appliance))
  for (const change of [{ purpose: 'domain' }, { key: '00'.repeat(16) }, { owner: hostOf(coordinator) }]) {
    const bytes = signStatement('key', { ...entry, ...change }, known.root)
    t.throws(() => openEntry(bytes, as(appliance)), { code: 'FORGED' }, JSON.stringify(change))
  }
})

test('who may hand out what', (t) => {
  const deliver = (to: Sealing, signer: SecretHandle) => openEntry(sealEntry(key, to, signer), as(appliance))
  t.notThrows(() => deliver(sharedDomain, root))
  t.notThrows(() => deliver({ ...toItself, purpose: 'trailer', owner: hostOf(coordinator) }, coordinator))
  t.notThrows(() => deliver({ ...toItself, purpose: 'domain' }, appliance))
  t.throws(() => deliver(toItself, coordinator), { code: 'FORGED', message: /may not hand it out/ })
  t.throws(() => deliver({ ...sharedDomain, owner: hostOf(known.peer) }, known.peer), { code: 'FORGED' })
  t.throws(() => deliver({ ...toItself, purpose: 'catalog' }, appliance), { code: 'FORGED' })
})

test("a domain of one volume's own is its owner's and the words', and nothing else's", (t) => {
  const own: Sealing = { ...toItself, purpose: 'domain', volume: '3e'.repeat(16) }
  const bytes = sealEntry(key, own, appliance)
  const { entry } = openEntry(bytes, as(appliance))
  t.is(entry.volume, own.volume)
  t.notThrows(() =>
    openEntry(
      sealEntry(key, { ...toRecovery, purpose: 'domain', volume: '3e'.repeat(16) }, appliance),
      as(root, RECOVERY),
    ),
  )
  const plain = readEntry(sealEntry(key, { ...toItself, purpose: 'domain' }, appliance)).entry
  t.not(entryName(entry), entryName(plain))
  // As another volume's, or as everybody's.
  const { volume: _, ...shared } = entry
  for (const passed of [{ ...entry, volume: '4e'.repeat(16) }, shared]) {
    t.throws(() => openEntry(signStatement('key', passed, known.root), as(appliance)), { code: 'FORGED' })
  }
  const handed = { ...sharedDomain, volume: '3e'.repeat(16) }
  t.throws(() => openEntry(sealEntry(key, handed, coordinator), as(appliance)), { message: /may not hand it out/ })
  for (const purpose of ['manifest', 'trailer'] as const) {
    t.throws(() => openEntry(sealEntry(key, { ...own, purpose }, appliance), as(appliance)), { code: 'FORGED' })
    t.throws(() => openEntry(sealEntry(key, { ...own, purpose }, root), as(appliance)), { code: 'FORGED' })
  }
})

/** The same fleet after a recovery: the coordinator of term 1 is gone, and known as a holder of that term. */
function recovered() {
  const next = Secret.random()
  const duties = ['coordinator', 'enroller', 'holder', 'pruner'] as const
  const delegations = duties.map((duty) => delegate(root, hostOf(next), duty, 2))
  const former = delegate(root, hostOf(coordinator), 'holder', 1)
  const hosts = [member(next, 'spare', 'coordinator'), member(appliance, 'server', 'appliance')]
  const body = { ...known.body, term: 2, delegations: [...delegations, former], hosts }
  return { next, membership: openMembership(signPlain(body, next), fleet, known.rootKey) }
}

test('an entry counts where its signer had the right in the term under which it signed', (t) => {
  const { next, membership } = recovered()
  const counts = (sealing: Sealing, signer: SecretHandle) => {
    const read = readEntry(sealEntry(key, sealing, signer))
    return mayDeliver(read.signer, read.entry, membership, known.rootKey)
  }
  const of = (host: SecretHandle, term: number): Sealing => ({ ...sharedDomain, term, owner: hostOf(host) })
  t.true(counts(of(coordinator, 1), coordinator))
  t.false(counts(of(coordinator, 2), coordinator), 'it was replaced')
  t.true(counts(of(next, 2), next))
  t.false(counts(of(next, 1), next), 'it was none then')
  t.false(counts(of(next, 3), next), 'a term that has not come')
  t.true(counts({ ...toRecovery, term: 1 }, appliance))
  t.false(counts({ ...toRecovery, term: 3 }, appliance))
})

test('peers keep what a recovery needs: of members with keys and of holders, for themselves and the words', (t) => {
  const { next, membership } = recovered()
  const kept = (sealing: Sealing, signer: SecretHandle) => {
    const read = readEntry(sealEntry(key, sealing, signer))
    return mayBeKept(read.signer, read.entry, membership, known.rootKey)
  }
  const own = (host: SecretHandle, more: Partial<Sealing> = {}): Sealing => ({
    ...toRecovery,
    owner: hostOf(host),
    ...more,
  })
  t.true(kept(own(appliance), appliance))
  t.true(kept(own(appliance, { purpose: 'domain' }), appliance))
  t.true(kept(own(appliance, { purpose: 'trailer' }), appliance))
  t.false(kept(own(appliance, { purpose: 'catalog' }), appliance))
  t.true(kept(own(coordinator, { purpose: 'catalog' }), coordinator), 'a former holder')
  t.true(kept(own(next, { purpose: 'catalog', term: 2 }), next))
  t.false(kept(own(known.peer), known.peer), 'no member any more')
  t.false(kept(own(Secret.random()), Secret.random()), 'a stranger')
  t.false(kept(own(appliance), next), "another's")
  t.true(kept(own(appliance), root))
  t.false(kept({ ...own(next, { term: 2 }), reader: hostOf(appliance) }, next), 'it is handed to its reader')
  const { membership: before } = known
  const peers = readEntry(sealEntry(key, own(known.peer), known.peer))
  t.false(mayBeKept(peers.signer, peers.entry, before, known.rootKey), 'a peer has no keys')
})

test("a name binds the owner: nobody takes one that is another host's", (t) => {
  const { entry } = readEntry(sealEntry(key, toRecovery, appliance))
  const name = entryName(entry)
  t.regex(name, /^[0-9a-f]{128}$/)
  t.deepEqual(partsOfEntryName(name), { owner: hostOf(appliance), key: toHex(key.id()) })
  t.is(entryName(readEntry(sealEntry(key, toRecovery, appliance)).entry), name, 'sealed once more')
  t.is(entryName({ ...entry, term: 7 } as KeyEntry), name, 'whatever the term: the first stays')
  const others: Partial<KeyEntry>[] = [
    { owner: hostOf(coordinator) },
    { key: '00'.repeat(16) },
    { purpose: 'domain' },
    { reader: hostOf(appliance) },
  ]
  for (const other of others) t.not(entryName({ ...entry, ...other }), name)
  t.is(
    entryName({ ...entry, owner: '0a'.repeat(32), key: '0b'.repeat(16) }).slice(0, 96),
    '0a'.repeat(32) + '0b'.repeat(16),
  )
})

test('so many keys of one owner, and so many new ones a day, whatever the clock did', (t) => {
  const day = 86_400_000
  const now = 100 * day
  const name = (id: number, use = 0) =>
    `${'0a'.repeat(32)}${id.toString(16).padStart(32, '0')}${use.toString(16).padStart(32, '0')}`
  const held = (count: number, since: number) => Array.from({ length: count }, (_, id) => ({ name: name(id), since }))
  const asks = (which: string, others: { name: string; since: number }[]) => () =>
    requireKeyRoom('pc-1', which, others, now)
  t.notThrows(asks(name(9), held(3, now)))
  t.throws(asks(name(9), held(4, now - day + 1)), { code: 'TOO_MANY_KEYS', message: /^pc-1 .*4 new ones within a day/ })
  t.notThrows(asks(name(9), held(4, now - day)))
  t.throws(asks(name(9), held(4, now + 1)), { code: 'TOO_MANY_KEYS' })
  t.notThrows(asks(name(9), held(4, now + day)), 'of a time to come: the clock was turned back')
  t.notThrows(asks(name(2, 1), held(4, now)), 'a key that is held, for another reader')
  const twice = [...held(4, now - day), { name: name(0, 1), since: now }]
  t.notThrows(asks(name(9), twice), 'a key is as new as its first entry')
  t.notThrows(asks(name(99), held(63, 0)))
  t.throws(asks(name(99), held(64, 0)), { code: 'TOO_MANY_KEYS', message: /holds 64 of them/ })
  t.notThrows(asks(name(63, 1), held(64, 0)))
})
