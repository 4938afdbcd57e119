import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { toHex } from '../../src/base/ids.js'
import { sealEntry } from '../../src/keys/entry.js'
import { createHome, type Home, prepareIdentity } from '../../src/keys/home.js'
import { type ApplianceOpened, keepOpenedKeys, OPEN_MS, removeOpenedKeys } from '../../src/keys/opened-keys.js'
import { keysHeld, openRoot, openVault, type SealedRoot } from '../../src/keys/vault.js'
import { hash, Runs, Secret, type SecretHandle } from '../../src/native.js'
import { stripeOf } from '../../src/stripes/names.js'
import { delegate, fleet, hostOf, makeFleet, member, sealingOf, signPlain } from './fleet.js'

interface Test {
  teardown(undo: () => void): void
}

const NOW = 1_800_000_000_000
const at = (now: number) => ({ now: () => now })

/** What the golden file of a root page's key was sealed under, and for which birth (native/tests/golden.rs). */
function sealedIn(path: string): SealedRoot {
  const names = new Runs()
  const writer = goldenKey(path, 4).signingKey()
  const stripe = stripeOf(names.number(Buffer.concat([writer, Buffer.from('drawn 64')])), 5)
  const key = readFileSync(new URL('../../../fixtures/golden/record-root-key-v1.bin', import.meta.url))
  return { key, birth: (BigInt(stripe) << 16n) | 9n, names }
}

function goldenKey(path: string, seed: number): SecretHandle {
  writeFileSync(path, hash(Buffer.from([seed])))
  return Secret.load(path)
}

function folder(t: Test): string {
  const path = mkdtempSync(join(tmpdir(), 'imager-vault-'))
  t.teardown(() => rmSync(path, { recursive: true, force: true }))
  return path
}

/** A host that recovered the fleet, and keeps these keys of the appliance that it opened then. */
function recovered(t: Test, theirs: ApplianceOpened) {
  const { root, rootKey, appliance, body } = makeFleet()
  const state = join(folder(t), 'state')
  const identity = prepareIdentity(state)
  const [host, readerSealing] = [hostOf(identity), sealingOf(identity)]
  const delegations = (['coordinator', 'enroller', 'holder'] as const).map((duty) => delegate(root, host, duty, 2))
  const hosts = [...body.hosts.filter(({ role }) => role !== 'coordinator'), member(identity, 'spare', 'coordinator')]
  const membership = signPlain({ ...body, term: 2, delegations, hosts }, identity)
  const own = { fleet, term: 2, owner: host, reader: host, readerSealing }
  const domain = Secret.random()
  const keys = [
    sealEntry(domain, { ...own, purpose: 'domain' }, identity),
    sealEntry(Secret.random(), { ...own, purpose: 'catalog' }, identity),
  ]
  const coordinator = { key: host, address: '127.0.0.1:7420' }
  const config = {
    fleet,
    rootKey,
    rootSealing: sealingOf(root),
    role: 'coordinator' as const,
    name: 'spare',
    coordinator,
  }
  keepOpenedKeys({ state, fleet, secret: identity }, [[hostOf(appliance), theirs]], NOW)
  const home: Home = createHome({ state, ...config, listen: null, membership, keys })
  return { home, appliance: hostOf(appliance), domain }
}

test('of several keys of an appliance those count that a snapshot was sealed under', (t) => {
  const path = join(folder(t), 'key')
  const sealed = sealedIn(path)
  const [manifest, another, domain] = [goldenKey(path, 2), Secret.random(), Secret.random()]
  for (const manifests of [
    [manifest, another],
    [another, manifest],
  ]) {
    const { home, appliance, domain: own } = recovered(t, { manifests, domains: [domain] })
    const opening = openRoot(keysHeld(home, appliance, at(NOW)), sealed)
    t.is(opening.root.birth, sealed.birth)
    t.notThrows(() => opening.vault([toHex(domain.id())]), "the appliance's own")
    t.notThrows(() => opening.vault([toHex(own.id()), toHex(domain.id())]))
    t.is(toHex(home.domainKey?.id() ?? Buffer.alloc(0)), toHex(own.id()), 'what it seals under is its own')
    const missing = { code: 'KEYS_LOCKED', message: /no key to the snapshots of server$/ }
    t.throws(() => opening.vault([toHex(own.id()), '00'.repeat(16)]), missing)
  }
})

test('without the key nothing opens, and it is said whose is missing', (t) => {
  const sealed = sealedIn(join(folder(t), 'key'))
  const { home, appliance } = recovered(t, { manifests: [Secret.random()], domains: [] })
  t.throws(() => openRoot(keysHeld(home, appliance, at(NOW)), sealed), { code: 'FORGED' })
  const stranger = 'ab'.repeat(32)
  t.throws(() => keysHeld(home, stranger, at(NOW)), { code: 'KEYS_LOCKED', message: /the snapshots of abababab$/ })
  const none = { code: 'NOT_ALLOWED', message: /^spare holds no keys for snapshots/ }
  t.throws(() => openVault(home, '00'.repeat(16)), none)
  t.throws(() => keysHeld(home, home.host, at(NOW)), none)
})

test("what a recovery opened is over after seven days, or when it is locked; the host's own keys stay", (t) => {
  const theirs = () => ({ manifests: [Secret.random()], domains: [Secret.random()] })
  const { home, appliance } = recovered(t, theirs())
  t.is(keysHeld(home, appliance, at(NOW + OPEN_MS - 1)).domains.length, 2)
  const over = { code: 'KEYS_LOCKED', message: /server, as the seven days after the recovery are over$/ }
  t.throws(() => keysHeld(home, appliance, at(NOW + OPEN_MS)), over)
  const locked = recovered(t, theirs())
  removeOpenedKeys(locked.home.state)
  const closed = { code: 'KEYS_LOCKED', message: /server$/ }
  t.throws(() => keysHeld(locked.home, locked.appliance, at(NOW)), closed)
  t.deepEqual(locked.home.domainKey?.id(), locked.domain.id())
})
