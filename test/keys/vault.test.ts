import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { toHex } from '../../src/base/ids.js'
import { type KeyPurpose, sealEntry } from '../../src/keys/entry.js'
import { createHome, type Home, prepareIdentity } from '../../src/keys/home.js'
import { signMembership } from '../../src/keys/membership.js'
import { openRoot, openVault, type SealedRoot } from '../../src/keys/vault.js'
import { hash, Runs, Secret, type SecretHandle } from '../../src/native.js'
import { stripeOf } from '../../src/stripes/names.js'
import { delegate, fleet, hostOf, makeFleet, member, sealingOf } from './fleet.js'

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

function folder(t: { teardown(undo: () => void): void }): string {
  const path = mkdtempSync(join(tmpdir(), 'imager-vault-'))
  t.teardown(() => rmSync(path, { recursive: true, force: true }))
  return path
}

/** A host that recovered the fleet, with these keys of the appliance. */
function recovered(t: { teardown(undo: () => void): void }, theirs: [KeyPurpose, SecretHandle][]) {
  const { root, rootKey, appliance, body } = makeFleet()
  const state = join(folder(t), 'state')
  const identity = prepareIdentity(state)
  const [host, readerSealing] = [hostOf(identity), sealingOf(identity)]
  const delegations = (['coordinator', 'enroller', 'holder'] as const).map((duty) => delegate(root, host, duty, 2))
  const hosts = [...body.hosts.filter(({ role }) => role !== 'coordinator'), member(identity, 'spare', 'coordinator')]
  const membership = signMembership({ ...body, term: 2, delegations, hosts }, identity)
  const own = { fleet, term: 2, owner: host, reader: host, readerSealing }
  const domain = Secret.random()
  const keys = [
    sealEntry(domain, { ...own, purpose: 'domain' }, identity),
    sealEntry(Secret.random(), { ...own, purpose: 'catalog' }, identity),
    ...theirs.map(([purpose, key]) => sealEntry(key, { ...own, owner: hostOf(appliance), purpose }, root)),
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
    const theirs = manifests.map((key): [KeyPurpose, SecretHandle] => ['manifest', key])
    const { home, appliance, domain: own } = recovered(t, [...theirs, ['domain', domain]])
    const opening = openRoot(home, appliance, sealed)
    t.is(opening.root.birth, sealed.birth)
    t.notThrows(() => opening.vault(toHex(domain.id())), "the appliance's own")
    t.notThrows(() => opening.vault(toHex(own.id())))
    t.is(toHex(home.domainKey?.id() ?? Buffer.alloc(0)), toHex(own.id()), 'what it seals under is its own')
    const missing = { code: 'NOT_ALLOWED', message: /holds no keys for the snapshots of server/ }
    t.throws(() => opening.vault('00'.repeat(16)), missing)
  }
})

test('without the key nothing opens, and it is said whose is missing', (t) => {
  const sealed = sealedIn(join(folder(t), 'key'))
  const { home, appliance } = recovered(t, [['manifest', Secret.random()]])
  t.throws(() => openRoot(home, appliance, sealed), { code: 'FORGED' })
  const stranger = 'ab'.repeat(32)
  t.throws(() => openRoot(home, stranger, sealed), { code: 'NOT_ALLOWED', message: /the snapshots of abababab/ })
  t.throws(() => openVault(home), { code: 'NOT_ALLOWED', message: /^spare holds no keys for snapshots/ })
})
