/**
 * Version 1 of every statement, of the token and of what a head and a key entry seal, against fixtures/golden/. What differs is a
 * broken format; `test/golden/make` writes them, until version 1 is released. HPKE is randomised, so that keys are only opened.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { toHex } from '../../src/base/ids.js'
import { openAddress } from '../../src/keys/address.js'
import { openDismissal } from '../../src/keys/admins.js'
import { openAdmission, openRemoval, openVoucher } from '../../src/keys/admission.js'
import { openDelegation, signDelegation } from '../../src/keys/delegation.js'
import { entryName, mayDeliver, openEntry, RECOVERY, readEntry } from '../../src/keys/entry.js'
import { type Grant, signGrant, verifyGrant } from '../../src/keys/grant.js'
import { openHandovers } from '../../src/keys/handover.js'
import { openHead, signHead } from '../../src/keys/head.js'
import { WORDS } from '../../src/keys/labels.js'
import { openMembership } from '../../src/keys/membership.js'
import { openOrder } from '../../src/keys/orders.js'
import { openPolicy } from '../../src/keys/policy.js'
import { deriveRoot } from '../../src/keys/root.js'
import { decodeToken } from '../../src/keys/token.js'
import { hash, Runs, Secret, type SecretHandle, shardId, Vault } from '../../src/native.js'
import { runName, stripeOf } from '../../src/stripes/names.js'
import { writeGolden } from '../golden/golden-file.js'
import { head, trailerKey } from '../golden/head.js'
import {
  address,
  admission,
  body,
  coordinates,
  delegation,
  dismissal,
  handover,
  makeAddress,
  makeAdmission,
  makeDismissal,
  makeHandover,
  membership as makeMembership,
  makeRemoval,
  makeToken,
  makeVoucher,
  removal,
  token,
  voucher,
} from '../golden/membership.js'
import { forget, hold, orders, policy, release } from '../golden/orders.js'
import { fleet, hostOf } from './fleet.js'

const place = (name: string) => new URL(`../../../fixtures/golden/${name}-v1.bin`, import.meta.url)
const golden = (name: string) => readFileSync(place(name))

/** `test/golden/make` alone writes them. */
function same(t: ExecutionContext, name: string, bytes: Buffer): void {
  if (process.env.IMAGER_MAKE_GOLDEN === '1') writeGolden(name, bytes)
  t.deepEqual(bytes, golden(name))
}

const words = `${'abandon '.repeat(23)}art`
const seed = Secret.fromWords(words)
const of = (context: string) => seed.derive(`imager v1 golden ${context}`)
const [coordinator, appliance, peer, manifestKey] = [of('coordinator'), of('appliance'), of('peer'), of('manifest')]
const root = deriveRoot(seed)

const grant: Grant = {
  fleet,
  term: 3,
  operation: 'put',
  lease: '1e'.repeat(16),
  ...{ writer: hostOf(appliance), run: '0123456789abcdef', number: 5, index: 2 },
  lengthBytes: 4460,
  host: hostOf(peer),
  bearer: hostOf(appliance),
}
test('delegation', (t) => {
  same(t, 'delegation', signDelegation(delegation, root.secret))
  t.deepEqual(openDelegation(golden('delegation'), fleet, root.rootKey), delegation)
})

test('membership', (t) => {
  // The key of the names is random, and so are the bytes.
  if (process.env.IMAGER_MAKE_GOLDEN === '1') writeFileSync(place('membership'), makeMembership())
  const readers = [
    { reader: WORDS, secret: root.secret },
    { reader: hostOf(appliance), secret: appliance },
  ]
  const membership = openMembership(golden('membership'), fleet, root.rootKey, readers[0])
  for (const reader of readers) {
    t.deepEqual(openMembership(golden('membership'), fleet, root.rootKey, reader).draft(), body)
  }
  t.deepEqual(
    membership.delegations.map(({ text: _text, ...one }) => one),
    [delegation, coordinates],
  )
  t.is(membership.coordinator, hostOf(coordinator))
})

test('grant', (t) => {
  same(t, 'grant', signGrant(grant, coordinator))
  const membership = openMembership(golden('membership'), fleet, root.rootKey)
  const shard = shardId(runName(grant.writer, grant.run), grant.number, grant.index)
  const use = { membership, fleet, host: grant.host, bearer: grant.bearer, shard, lengthBytes: 4460 }
  t.deepEqual(verifyGrant(golden('grant'), use), grant)
  const beneficiary = { host: hostOf(appliance), lease: '2e'.repeat(16) }
  const forAnother = { ...grant, bearer: hostOf(peer), beneficiary }
  same(t, 'grant-for-another', signGrant(forAnother, coordinator))
  t.deepEqual(verifyGrant(golden('grant-for-another'), { ...use, bearer: hostOf(peer) }), forAnother)
})

test('head, and the key of its root page', (t) => {
  const keys = (of: string) => (of === head.appliance ? [trailerKey] : [])
  t.deepEqual(openHead(golden('head'), fleet, keys), head)
  // What is sealed is compressed, which another zstd may do otherwise.
  t.deepEqual(openHead(signHead(head, appliance, trailerKey), fleet, keys), head)
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
    t.deepEqual(rest, { fleet, term: 3, purpose: 'manifest', rotation: 0, key: toHex(manifestKey.id()), owner, reader })
    t.is(Buffer.from(sealed, 'base64').length, 80)
    t.is(readEntry(golden(name)).signer, owner)
  }
  const own = openEntry(golden('key-volume'), { fleet, reader: hostOf(appliance), secret: appliance, accept })
  t.like(own.entry, { purpose: 'domain', volume: '3e'.repeat(16), key: toHex(of('private domain').id()) })
})

test('the names under which key entries are kept', (t) => {
  const names = ['key-host', 'key-recovery', 'key-volume'].map((name) => entryName(readEntry(golden(name)).entry))
  const name = `${hostOf(appliance)}${toHex(manifestKey.id())}`
  const apart = `${hostOf(appliance)}${toHex(of('private domain').id())}`
  t.deepEqual(names, [
    `${name}d0b7ca26f4f73716d112a581bbaaea85`,
    `${name}500c0bf2b4d8c01c6d85c30702a3e35a`,
    `${apart}40e887881a58aa174b4afc0e57464673`,
  ])
})

test('address', (t) => {
  same(t, 'address', makeAddress())
  t.deepEqual(openAddress(golden('address'), fleet), address)
})

test('token', (t) => {
  same(t, 'token', makeToken())
  t.deepEqual(decodeToken(golden('token').toString('ascii')), token)
})

test('handover', (t) => {
  same(t, 'handover', makeHandover())
  const enroller = signDelegation({ ...coordinates, duty: 'enroller' }, root.secret).toString('base64')
  const handed = { handover: golden('handover').toString('base64'), enroller }
  const of = { fleet, term: 3, rootKey: root.rootKey, first: coordinates.host }
  t.deepEqual(openHandovers([handed], of), [handover])
})

test('voucher, admission, removal and dismissal', (t) => {
  same(t, 'voucher', makeVoucher())
  same(t, 'admission', makeAdmission())
  same(t, 'removal', makeRemoval())
  same(t, 'dismissal', makeDismissal())
  const members = openMembership(golden('membership'), fleet, root.rootKey)
  const by = members.admitters(root.rootKey)
  t.deepEqual(openDismissal(golden('dismissal'), members.adminsBy(root.rootKey)), dismissal)
  t.deepEqual(openVoucher(golden('voucher'), by), voucher)
  t.like(openRemoval(golden('removal'), by), removal)
  const [text, vouched] = [golden('admission'), golden('voucher')].map((bytes) => bytes.toString('base64'))
  t.like(openAdmission({ admission: text ?? '', voucher: vouched ?? '' }, by), { ...admission, token: voucher.token })
})

test('forget, hold, release and policy', (t) => {
  for (const [name, bytes] of Object.entries(orders())) t.deepEqual(bytes, golden(name))
  const members = openMembership(golden('membership'), fleet, root.rootKey)
  const by = members.adminsBy(root.rootKey)
  t.deepEqual(openOrder('forget', golden('forget'), by).body, forget)
  t.deepEqual(openOrder('hold', golden('hold'), by).body, hold)
  t.deepEqual(openOrder('release', golden('release'), by).body, release)
  t.like(openPolicy(golden('policy'), members, root.rootKey), { ...policy, isAdmins: true })
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

test("the key of a root page opens for its appliance's manifest key and birth only", (t) => {
  const runs = new Runs()
  const writer = rustKey(4).signingKey()
  const run = runs.number(Buffer.concat([writer, Buffer.from('drawn 64')]))
  const other = runs.number(Buffer.concat([writer, Buffer.from('drawn 65')]))
  const birth = (of: number) => (BigInt(stripeOf(of, 5)) << 16n) | 9n
  const vault = new Vault([rustKey(1)], rustKey(2), rustKey(3), Buffer.from(fleet, 'hex'))
  const sealed = golden('record-root-key')
  t.is(vault.openRoot(sealed, birth(run), runs).id().length, 32)
  for (const wrong of [birth(run) + 1n, birth(other)]) {
    t.throws(() => vault.openRoot(sealed, wrong, runs), { code: 'FORGED' })
  }
  t.throws(() => vault.openRoot(sealed, 1n, runs))
  const stranger = new Vault([rustKey(1)], rustKey(3), rustKey(3), Buffer.alloc(16))
  t.throws(() => stranger.openRoot(sealed, birth(run), runs), { code: 'FORGED' })
})
