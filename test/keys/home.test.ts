import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { toHex } from '../../src/base/ids.js'
import { RECOVERY, readEntry, type Sealing, sealEntry } from '../../src/keys/entry.js'
import { createHome, openHome, prepareIdentity } from '../../src/keys/home.js'
import { settlePort } from '../../src/keys/home-config.js'
import { sealForNext } from '../../src/keys/take-up.js'
import { openVault } from '../../src/keys/vault.js'
import { Secret, type SecretHandle } from '../../src/native.js'
import { fleet, hostOf, makeFleet, member, sealingOf, signPlain } from './fleet.js'

const known = makeFleet()

function folder(t: { teardown(undo: () => void): void }): string {
  const path = mkdtempSync(join(tmpdir(), 'imager-home-'))
  t.teardown(() => rmSync(path, { recursive: true, force: true }))
  return join(path, 'state')
}

function newHome(state: string) {
  const identity = prepareIdentity(state)
  const body = { ...known.body, sequence: 2, hosts: [...known.body.hosts, member(identity, 'me', 'appliance')] }
  const membership = signPlain(body, known.coordinator)
  const common = {
    fleet,
    term: 1,
    owner: hostOf(identity),
    reader: hostOf(identity),
    readerSealing: sealingOf(identity),
  }
  const own: Sealing = { ...common, purpose: 'manifest' }
  const shared: Sealing = { ...common, purpose: 'domain', owner: hostOf(known.coordinator) }
  const secrets = { manifest: Secret.random(), domain: Secret.random() }
  const keys = [
    sealEntry(secrets.manifest, own, identity),
    sealEntry(secrets.manifest, { ...own, reader: RECOVERY, readerSealing: sealingOf(known.root) }, identity),
    sealEntry(secrets.domain, shared, known.coordinator),
  ]
  const config = {
    state,
    fleet,
    rootKey: known.rootKey,
    rootSealing: sealingOf(known.root),
    role: 'appliance' as const,
    name: 'me',
    coordinator: { key: hostOf(known.coordinator), address: '127.0.0.1:7420' },
    listen: null,
  }
  return { identity, body, secrets, config: { ...config, membership, keys } }
}

test('what was created opens again, with its keys, and only its owner can read it', (t) => {
  const state = folder(t)
  const { identity, secrets, config } = newHome(state)
  createHome(config)
  const home = openHome(state)
  t.is(home.host, toHex(identity.signingKey()))
  t.is(home.tls.host, home.host)
  t.is(home.name, 'me')
  t.is(home.membership().sequence, 2)
  t.deepEqual(home.manifestKey?.id(), secrets.manifest.id())
  t.deepEqual(home.domainKey?.id(), secrets.domain.id())
  t.is(home.catalogKey, undefined)
  t.is(home.keyStatements().length, 3)
  t.is(statSync(state).mode & 0o777, 0o700)
  for (const entry of readdirSync(state, { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) t.is(statSync(join(entry.parentPath, entry.name)).mode & 0o777, 0o600, entry.name)
  }
})

test("a volume's own domain opens what is sealed under it; nothing is sealed under it, or of that volume under another", (t) => {
  const { identity, secrets, config } = newHome(folder(t))
  const [apart, trailer] = [Secret.random(), Secret.random()]
  const own = { fleet, term: 1, owner: hostOf(identity), reader: hostOf(identity), readerSealing: sealingOf(identity) }
  const volume = '3e'.repeat(16)
  const more = [
    sealEntry(apart, { ...own, purpose: 'domain', volume }, identity),
    sealEntry(trailer, { ...own, purpose: 'trailer', owner: hostOf(known.coordinator) }, known.coordinator),
  ]
  const home = createHome({ ...config, keys: [...config.keys, ...more] })
  t.deepEqual(home.domainKey?.id(), secrets.domain.id())
  t.deepEqual(
    home.domainKeys.map((key) => toHex(key.id())),
    [secrets.domain, apart].map((key) => toHex(key.id())),
  )
  t.notThrows(() => openVault(home, '4e'.repeat(16)))
  t.throws(() => openVault(home, volume), { code: 'UNSUPPORTED', message: /under a key of its own/ })
  const handed = sealForNext(
    { host: home.host, fleet: home.fleet, secret: home.secret, keyStatements: home.keyStatements() },
    hostOf(known.peer),
    sealingOf(known.peer),
  ).map((bytes) => readEntry(bytes).entry.key)
  t.deepEqual(handed.sort(), [secrets.domain, trailer].map((key) => toHex(key.id())).sort(), 'who comes reads the rest')
})

test('only a newer membership is adopted, and it stays', (t) => {
  const state = folder(t)
  const { body, config } = newHome(state)
  const home = createHome(config)
  const seen: number[] = []
  home.watchMembership(() => seen.push(home.membership().sequence))
  t.false(home.saveMembership(config.membership))
  t.false(home.saveMembership(signPlain({ ...body, sequence: 1 }, known.coordinator)))
  t.true(home.saveMembership(signPlain({ ...body, sequence: 3 }, known.coordinator)))
  t.throws(() => home.saveMembership(signPlain({ ...body, sequence: 4 }, known.peer)), { code: 'FORGED' })
  t.deepEqual(seen, [3])
  t.is(home.membership().sequence, 3)
  t.is(openHome(state).membership().sequence, 3)
})

test('no fleet, a second fleet, a damaged file', (t) => {
  const state = folder(t)
  t.throws(() => openHome(state), { code: 'NO_FLEET' })
  const { config } = newHome(state)
  t.throws(() => openHome(state), { code: 'NO_FLEET' })
  createHome(config)
  t.throws(() => createHome(config), { code: 'STATE_EXISTS' })
  t.throws(() => prepareIdentity(state), { code: 'STATE_EXISTS' })
  writeFileSync(join(state, 'home.json'), '{')
  t.throws(() => openHome(state), { code: 'CORRUPT', message: /home\.json/ })
})

test('an identity is made once, so a join that was cut short is repeated by the same host', (t) => {
  const state = folder(t)
  t.deepEqual(prepareIdentity(state).signingKey(), prepareIdentity(state).signingKey())
})

test('keys that a stranger hands out, or for another host, are not taken', (t) => {
  const state = folder(t)
  const { config, identity } = newHome(state)
  const shared: Sealing = {
    fleet,
    term: 1,
    purpose: 'domain',
    owner: hostOf(known.peer),
    reader: hostOf(identity),
    readerSealing: sealingOf(identity),
  }
  const stranger = sealEntry(Secret.random(), shared, known.peer)
  t.throws(() => createHome({ ...config, keys: [stranger] }), { code: 'FORGED' })
  const toAnother = { ...shared, owner: hostOf(known.coordinator), reader: hostOf(known.peer) }
  const foreign = sealEntry(Secret.random(), toAnother, known.coordinator)
  t.throws(() => createHome({ ...config, keys: [foreign] }), { code: 'FORGED' })
  t.throws(() => openHome(state), { code: 'NO_FLEET' })
})

test('a port that was taken at the first start is kept, and one that was named stays', (t) => {
  const state = folder(t)
  const { config } = newHome(state)
  const home = createHome({ ...config, listen: '0.0.0.0:0' })
  home.keepPort('0.0.0.0:12345')
  home.keepPort('0.0.0.0:23456')
  t.is(home.config.listen, '0.0.0.0:12345')
  t.is(openHome(state).config.listen, '0.0.0.0:12345')
  const { listen, coordinator } = settlePort(
    { ...home.config, listen: '[::]:0', coordinator: { key: home.host, address: '192.0.2.1:0' } },
    '[::]:777',
  )
  t.deepEqual([listen, coordinator.address], ['[::]:777', '192.0.2.1:777'])
})

test('of several keys of the domain the last rotation seals, all open, and who takes the coordinator over is told which is which', (t) => {
  const { identity, secrets, config } = newHome(folder(t))
  const home = createHome(config)
  const own = { fleet, term: 1, reader: hostOf(identity), readerSealing: sealingOf(identity) }
  const given = (key: SecretHandle, rotation: number) =>
    sealEntry(key, { ...own, purpose: 'domain', rotation, owner: hostOf(known.coordinator) }, known.coordinator)
  // Names of files begin with the key's id: whichever comes first, the rotation counts.
  const later = Array.from({ length: 4 }, () => Secret.random())
  home.takeKeys(later.map((key, at) => given(key, at + 1)))
  const inOrder = [...later.toReversed(), secrets.domain].map((key) => toHex(key.id()))
  for (const opened of [home, openHome(config.state)]) {
    t.deepEqual(
      opened.domainKeys.map((key) => toHex(key.id())),
      inOrder,
    )
    t.is(opened.domainEntry?.key, inOrder[0])
  }
  const next = Secret.random()
  const mine = { host: home.host, fleet: home.fleet, secret: home.secret, keyStatements: home.keyStatements() }
  const sealed = sealForNext(mine, hostOf(next), sealingOf(next)).map((bytes) => readEntry(bytes).entry)
  const rotations = new Map(sealed.map(({ key, rotation }) => [key, rotation]))
  t.deepEqual(
    inOrder.map((id) => rotations.get(id)),
    [4, 3, 2, 1, 0],
  )
  const forged = sealEntry(Secret.random(), { ...own, purpose: 'domain', rotation: 9, owner: own.reader }, known.peer)
  t.throws(() => home.takeKeys([forged]), { code: 'FORGED' })
  t.is(home.domainEntry?.rotation, 4)
})
