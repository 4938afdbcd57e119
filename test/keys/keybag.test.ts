import test from 'ava'
import { toHex } from '../../src/base/ids.js'
import {
  type EntryReader,
  mayDeliver,
  openEntry,
  openKeybag,
  RECOVERY,
  readEntry,
  type Sealing,
  sealEntry,
  signKeybag,
} from '../../src/keys/keybag.js'
import { signStatement } from '../../src/keys/statement.js'
import { Secret, type SecretHandle } from '../../src/native.js'
import { fleet, hostOf, makeFleet, otherFleet, sealingOf } from './fleet.js'

const known = makeFleet()
const [appliance, coordinator, root] = [known.appliance, known.coordinator, known.root]
const key = Secret.random()
const toItself: Sealing = {
  fleet,
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
  for (const change of [{ purpose: 'domain' }, { key: '00'.repeat(16) }]) {
    const bytes = signStatement('key', { ...entry, ...change }, appliance)
    t.throws(() => openEntry(bytes, as(appliance)), { code: 'FORGED' })
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

test('a keybag is signed by its owner and nobody else', (t) => {
  const owner = hostOf(appliance)
  const bag = { fleet, sequence: 3, owner, entries: [sealEntry(key, toRecovery, appliance)] }
  const bytes = signKeybag(bag, appliance)
  t.deepEqual(openKeybag(bytes, fleet), bag)
  t.throws(() => openKeybag(bytes, otherFleet), { code: 'FORGED' })
  t.throws(() => openKeybag(signKeybag(bag, coordinator), fleet), { code: 'FORGED', message: /owner/ })
})
