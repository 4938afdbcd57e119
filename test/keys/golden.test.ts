/**
 * Version 1 of every statement, of the token and of what a head and a keybag seal, against fixtures/golden/. The bytes
 * were made once from these values; what differs is a broken format. HPKE is randomised, so that keys are only opened.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import test from 'ava'
import { toHex } from '../../src/base/ids.js'
import { type Delegation, openDelegation, signDelegation } from '../../src/keys/delegation.js'
import { type Grant, signGrant, verifyGrant } from '../../src/keys/grant.js'
import { type Head, openHead, signHead } from '../../src/keys/head.js'
import { mayDeliver, openEntry, openKeybag, RECOVERY, readEntry, signKeybag } from '../../src/keys/keybag.js'
import { type MembershipBody, openMembership, signMembership } from '../../src/keys/membership.js'
import { deriveRoot } from '../../src/keys/root.js'
import { decodeToken, encodeToken, type Token } from '../../src/keys/token.js'
import { hash, Secret, type SecretHandle, Vault } from '../../src/native.js'
import { fleet, hostOf, member, shard } from './fleet.js'

const golden = (name: string) => readFileSync(new URL(`../../../fixtures/golden/${name}-v1.bin`, import.meta.url))

const words = `${'abandon '.repeat(23)}art`
const seed = Secret.fromWords(words)
const of = (context: string) => seed.derive(`imager v1 golden ${context}`)
const [coordinator, appliance, peer, manifestKey] = [of('coordinator'), of('appliance'), of('peer'), of('manifest')]
const root = deriveRoot(seed)
const time = 1_800_000_000_000

const delegation: Delegation = { fleet, term: 3, duty: 'enroller', host: hostOf(coordinator) }
const coordinates: Delegation = { ...delegation, duty: 'coordinator' }
const body: MembershipBody = {
  fleet,
  sequence: 7,
  term: 3,
  delegations: [delegation, coordinates].map((one) => signDelegation(one, root.secret).toString('base64')),
  hosts: [
    { ...member(coordinator, 'Büro', 'coordinator'), domain: 'site 1' },
    { ...member(appliance, 'server', 'appliance'), addresses: [] },
    { ...member(peer, 'pc-1', 'peer'), addresses: ['[2001:db8::1]:7420', 'pc-1.example:7420'] },
  ],
}
const grant: Grant = {
  fleet,
  term: 3,
  operation: 'put',
  shard,
  lengthBytes: 4460,
  host: hostOf(peer),
  bearer: hostOf(appliance),
  expires: time,
}
const head: Head = {
  fleet,
  appliance: hostOf(appliance),
  volume: '01'.repeat(16),
  sequence: 2,
  snapshot: '02'.repeat(16),
  parent: '04'.repeat(16),
  time,
  root: {
    key: golden('record-root-key').toString('base64'),
    birth: ((5n << 16n) | 9n).toString(),
    stripe: 5,
    k: 2,
    m: 1,
    packBytes: 727,
    offset: 270,
    length: 254,
    shards: [0, 2].map((index) => ({ index, host: hostOf(peer), shard })),
  },
  references: '03'.repeat(32),
}
const token: Token = {
  fleet,
  rootKey: '22'.repeat(32),
  rootSealing: '33'.repeat(32),
  coordinator: { key: '44'.repeat(32), address: '[2001:db8::1]:7420' },
  role: 'appliance',
  secret: Buffer.alloc(32, 0x55),
  expires: time,
}

test('delegation', (t) => {
  t.deepEqual(signDelegation(delegation, root.secret), golden('delegation'))
  t.deepEqual(openDelegation(golden('delegation'), fleet, root.rootKey), delegation)
})

test('membership', (t) => {
  t.deepEqual(signMembership(body, coordinator), golden('membership'))
  const membership = openMembership(golden('membership'), fleet, root.rootKey)
  t.deepEqual(membership.body, body)
  t.deepEqual([...membership.delegations], [delegation, coordinates])
  t.is(membership.coordinator, hostOf(coordinator))
})

test('grant', (t) => {
  t.deepEqual(signGrant(grant, coordinator), golden('grant'))
  const membership = openMembership(golden('membership'), fleet, root.rootKey)
  const use = { membership, fleet, host: grant.host, bearer: grant.bearer, shard, lengthBytes: 4460, now: time - 1 }
  t.deepEqual(verifyGrant(golden('grant'), use), grant)
})

test('head, and the key of its root page', (t) => {
  t.deepEqual(signHead(head, appliance), golden('head'))
  t.deepEqual(openHead(golden('head'), fleet), head)
})

test('key entries: sealed to their owner and to the recovery words', (t) => {
  const membership = openMembership(golden('membership'), fleet, root.rootKey)
  const accept: Parameters<typeof openEntry>[1]['accept'] = (signer, entry) =>
    mayDeliver(signer, entry, membership, root.rootKey)
  const readers = [
    { name: 'key-host', reader: hostOf(appliance), secret: appliance },
    { name: 'key-recovery', reader: RECOVERY, secret: root.secret },
  ]
  for (const { name, reader, secret } of readers) {
    const { key, entry } = openEntry(golden(name), { fleet, reader, secret, accept })
    t.deepEqual(key.id(), manifestKey.id())
    const { sealed, ...rest } = entry
    const owner = hostOf(appliance)
    t.deepEqual(rest, { fleet, purpose: 'manifest', key: toHex(manifestKey.id()), owner, reader })
    t.is(Buffer.from(sealed, 'base64').length, 80)
    t.is(readEntry(golden(name)).signer, owner)
  }
})

test('keybag', (t) => {
  const bag = { fleet, sequence: 4, owner: hostOf(appliance), entries: [golden('key-host'), golden('key-recovery')] }
  t.deepEqual(signKeybag(bag, appliance), golden('keybag'))
  t.deepEqual(openKeybag(golden('keybag'), fleet), bag)
})

test('token', (t) => {
  t.is(encodeToken(token), golden('token').toString('ascii'))
  t.deepEqual(decodeToken(golden('token').toString('ascii')), token)
})

/** The keys of native/tests/golden.rs: key(n) is the BLAKE3 of one byte n. */
function rustKey(n: number): SecretHandle {
  const path = join(mkdtempSync(join(tmpdir(), 'imager-golden-')), 'key')
  writeFileSync(path, hash(Buffer.from([n])))
  const secret = Secret.load(path)
  rmSync(dirname(path), { recursive: true })
  return secret
}

test('what is made of a key is the same on both sides of the addon', (t) => {
  const secret = rustKey(1)
  const message = Buffer.from('message')
  const made = [secret.signingKey(), secret.sealingKey(), secret.sign(message), secret.tag(message)]
  t.deepEqual(golden('keys').subarray(0, 16), secret.id())
  t.deepEqual(golden('keys').subarray(48, 48 + 160), Buffer.concat(made))
})

test("the key of a root page opens for its appliance's manifest key and birth number only", (t) => {
  const vault = new Vault(rustKey(1), rustKey(2), rustKey(3), Buffer.from(fleet, 'hex'))
  const sealed = golden('record-root-key')
  t.is(vault.openRoot(sealed, BigInt(head.root.birth)).id().length, 32)
  t.throws(() => vault.openRoot(sealed, 1n), { code: 'FORGED' })
  t.throws(() =>
    new Vault(rustKey(1), rustKey(3), rustKey(3), Buffer.alloc(16)).openRoot(sealed, BigInt(head.root.birth)),
  )
})
