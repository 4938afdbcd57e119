import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { toHex } from '../../src/base/ids.js'
import { TOKEN_LIFETIME_MS } from '../../src/base/limits.js'
import { followMembership } from '../../src/fleet/follow.js'
import { signAddress } from '../../src/keys/address.js'
import { type AdmissionBody, signAdmission } from '../../src/keys/admission.js'
import { mayDeliver, openEntry } from '../../src/keys/entry.js'
import { createHome, openHome, prepareIdentity } from '../../src/keys/home.js'
import { decodeToken, TokenKey } from '../../src/keys/token.js'
import { Secret, type SecretHandle } from '../../src/native.js'
import { offer } from '../catalog/harness.js'
import { FLEET, keyOf, type Office, openOffice, sealingOf } from './harness.js'

function joining(office: Office, token: string, secret = Secret.random()) {
  const host = keyOf(secret)
  const { catalog } = office.connect(secret)
  const { fleet, term, role, secret: seed } = decodeToken(token)
  const key = new TokenKey(seed)
  const who = { name: 'pc-9', domain: 'attic', addresses: ['10.1.2.3:7421'] }
  const asked = { fleet, term, host, sealing: sealingOf(secret), role }
  const join = (change: Partial<AdmissionBody> = {}, by = key) =>
    catalog.join({ key, admission: signAdmission({ ...asked, ...change }, by), ...who })
  return { host, secret, catalog, join }
}

test('a token admits one host, once, and the membership that comes back lists it', async (t) => {
  const office = await openOffice(t)
  const { catalog: admin } = office.member('admin', 'boss')
  const { token, expires } = await admin.invite('peer')
  t.is(expires, office.clock.now() + TOKEN_LIFETIME_MS)
  t.deepEqual(decodeToken(token).coordinator, { key: office.home.host, address: office.address })
  const first = joining(office, token)
  const { membership, keys } = await first.join()
  t.deepEqual(keys, [], 'a peer gets no key')
  const members = office.home.openMembership(membership)
  t.like(members.find(first.host), { name: 'pc-9', role: 'peer', domain: 'attic' })
  t.is(openHome(office.state).membership().sequence, members.sequence)
  t.deepEqual(office.documents.at(-1)?.bytes, membership)

  const second = joining(office, token)
  await t.throwsAsync(second.join(), { code: 'WRONG_KEY', message: /used already/ })
  await t.throwsAsync(second.catalog.membership(), { code: 'NOT_ALLOWED' })
  t.is(office.catalog.members.role(second.host), undefined)
  t.truthy(await first.join(), 'the same host may repeat a join that was cut short')
  const sentences = (await admin.events()).map((event) => `${event.kind}: ${event.sentence}`)
  t.true(sentences.includes('join: pc-9 joined as peer'))
  t.true(sentences.some((sentence) => /^refusal: Refused a stranger: .*used already/.test(sentence)))
})

test('expired, unknown and forged tokens are refused and admit nobody', async (t) => {
  const office = await openOffice(t)
  const { catalog: admin } = office.member('admin', 'boss')
  const before = (await office.catalog.hosts()).length
  const { token } = await admin.invite('admin')
  office.clock.time += TOKEN_LIFETIME_MS + 1
  await t.throwsAsync(joining(office, token).join(), { code: 'WRONG_KEY', message: /expired/ })

  const { token: good } = await admin.invite('peer')
  const stranger = joining(office, good)
  const wrong = { code: 'WRONG_KEY', message: /proof/ }
  await t.throwsAsync(stranger.join({}, new TokenKey(Buffer.alloc(32, 7))), wrong)
  await t.throwsAsync(stranger.join({ host: office.home.host }), wrong, 'what another host asked for')
  await t.throwsAsync(stranger.join({ role: 'admin' }), wrong, 'another role than the enroller vouched for')
  await t.throwsAsync(stranger.join({ term: 2 }), wrong)
  t.is((await office.catalog.hosts()).length, before)
  await stranger.join()
})

test('an appliance gets the domain key and its own trailer key, sealed to it and signed by the holder', async (t) => {
  const office = await openOffice(t)
  const { catalog: admin } = office.member('admin', 'boss')
  const { token } = await admin.invite('appliance')
  const appliance = joining(office, token)
  const { membership, keys } = await appliance.join()
  const members = office.home.openMembership(membership)
  const accept = (signer: string, entry: Parameters<typeof mayDeliver>[1]) =>
    mayDeliver(signer, entry, members, office.home.rootKey)
  const opened = keys.map((key) =>
    openEntry(key, { fleet: FLEET, reader: appliance.host, secret: appliance.secret, accept }),
  )
  t.deepEqual(
    opened.map(({ entry }) => entry.purpose),
    ['domain', 'trailer'],
  )
  const trailer = office.catalogKey.derive('imager v1 trailer', Buffer.from(appliance.host, 'hex'))
  t.deepEqual(
    opened.map(({ key }) => toHex(key.id())),
    [toHex(office.domainKey.id()), toHex(trailer.id())],
  )
  const other = Secret.random()
  t.throws(() => openEntry(keys[0] as Buffer, { fleet: FLEET, reader: keyOf(other), secret: other, accept }))
})

test('only admin and coordinator invite', async (t) => {
  const office = await openOffice(t)
  const refused = { code: 'NOT_ALLOWED' }
  await t.throwsAsync(office.member('peer', 'pc').catalog.invite('admin'), refused)
  await t.throwsAsync(office.member('appliance', 'srv').catalog.invite('admin'), refused)
  t.truthy(await office.connect(office.home.secret).catalog.invite('admin'))
})

test('an address is what its host says, at most one a minute goes on to others; no membership is signed for it', async (t) => {
  const office = await openOffice(t)
  const peer = office.member('peer', 'pc-1')
  const say = (secret: SecretHandle, sequence: number, address: string) =>
    signAddress({ fleet: FLEET, host: keyOf(secret), sequence, addresses: [address] }, secret)
  const beat = (bytes: Buffer) => peer.catalog.heartbeat(offer('disk'), bytes)
  const spread = () => office.documents.filter(({ kind, name }) => kind === 'address' && name === peer.host)
  const before = await beat(say(peer.secret, 5, '10.0.0.1:7421'))
  t.is(spread().length, 1)
  t.deepEqual(await beat(say(peer.secret, 6, '10.0.0.2:7421')), before)
  const row = async () => (await office.catalog.hosts()).find(({ host }) => host === peer.host)
  t.deepEqual((await row())?.addresses, ['10.0.0.2:7421'], 'the coordinator itself knows at once')
  t.is(spread().length, 1, 'within a minute')
  office.clock.time += 61_000
  await beat(say(peer.secret, 6, '10.0.0.2:7421'))
  t.is(spread().length, 2)
  office.clock.time += 61_000
  await beat(say(peer.secret, 5, '10.0.0.1:7421'))
  t.is(spread().length, 2, 'an older one')
  await t.throwsAsync(beat(say(office.home.secret, 7, '10.0.0.3:7421')), { code: 'NOT_ALLOWED' })
  await t.throwsAsync(beat(say(peer.secret, 8, '224.0.0.1:7421')), { code: 'CORRUPT', message: /no host can be/ })
  await peer.catalog.heartbeat(offer('disk'))
  t.deepEqual((await row())?.addresses, ['10.0.0.1:7421'], 'without a word it stays')
  t.deepEqual((await office.catalog.hosts()).find(({ host }) => host === office.home.host)?.addresses, [office.address])
})

test('a membership that only the catalog kept reaches the state folder at the next start', async (t) => {
  const office = await openOffice(t)
  const { catalog: admin } = office.member('admin', 'boss')
  const { token } = await admin.invite('peer')
  const old = office.home.membership().bytes
  await joining(office, token).join()
  const newest = office.home.membership()
  const copy = mkdtempSync(join(tmpdir(), 'imager-home-'))
  const { cpSync, writeFileSync } = await import('node:fs')
  t.teardown(() => rmSync(copy, { recursive: true, force: true }))
  cpSync(office.state, copy, { recursive: true })
  writeFileSync(join(copy, 'membership.bin'), old)
  const home = openHome(copy)
  t.true(home.membership().sequence < newest.sequence)
  const { LocalCatalog } = await import('../../src/catalog/local.js')
  const { Admission } = await import('../../src/coordinator/admission.js')
  const catalog = LocalCatalog.openFor(copy)
  t.teardown(() => catalog.close())
  const { DomainKey } = await import('../../src/coordinator/domain-key.js')
  const domainKey = new DomainKey({ home, catalog, onKey: () => {} })
  new Admission({ home, catalog, domainKey, address: () => 'x:1', onMembership: () => {} })
  t.is(openHome(copy).membership().sequence, newest.sequence)
})

test('a name that is taken becomes another, without regard to case; the host itself keeps its own', async (t) => {
  const office = await openOffice(t)
  const { catalog: admin } = office.member('admin', 'PC-9')
  const first = joining(office, (await admin.invite('peer')).token)
  const second = joining(office, (await admin.invite('peer')).token)
  const names = async (host: string, membership: Buffer) => {
    return office.home.openMembership(membership).find(host)?.name
  }
  t.is(await names(first.host, (await first.join()).membership), 'pc-9-2')
  t.is(await names(second.host, (await second.join()).membership), 'pc-9-3')
  t.is(await names(second.host, (await second.join()).membership), 'pc-9-3', 'a repeated join')
  await t.throwsAsync(admin.rename('pc-9-2', 'PC-9-3'), { code: 'NAME_TAKEN' })
  await t.throwsAsync(admin.rename('pc-9-2', 'evil\u001b[2J'), { code: 'PROTOCOL' })
  t.is((await admin.rename(first.host.slice(0, 12), 'desk')).host, 'pc-9-2')
  t.is(office.home.membership().find(first.host)?.name, 'desk')
  t.is((await admin.rename('desk', 'Desk')).name, 'Desk', 'its own name in another case')
})

test('who was removed is a stranger, also with the token that let it in', async (t) => {
  const office = await openOffice(t)
  const { catalog: admin } = office.member('admin', 'boss')
  const peer = joining(office, (await admin.invite('peer')).token)
  await peer.join()
  await t.throwsAsync(peer.catalog.remove('boss', true), { code: 'NOT_ALLOWED', message: /may not ask for remove/ })
  const before = office.home.membership().sequence
  t.deepEqual(await admin.remove('pc-9', false), { host: 'pc-9', key: peer.host, snapshotsBelowTarget: 0 })
  t.is(office.home.membership().find(peer.host), undefined)
  t.true(office.home.membership().sequence > before)
  t.deepEqual(office.documents.at(-1)?.bytes, office.home.membership().bytes)
  await t.throwsAsync(peer.catalog.heartbeat(offer('disk')), { code: 'NOT_ALLOWED', message: /not a member/ })
  await t.throwsAsync(peer.join(), { code: 'WRONG_KEY' })
  await t.throwsAsync(admin.remove('pc-9', true), { code: 'NO_SUCH_HOST' })
  await t.throwsAsync(admin.remove('office', true), { code: 'USAGE' })
})

test('peers become witnesses as they come, and stay it; who was away while most left follows in steps', async (t) => {
  const office = await openOffice(t)
  const { catalog: admin } = office.member('admin', 'boss')
  const peers: string[] = []
  for (let number = 0; number < 5; number++) {
    const peer = joining(office, (await admin.invite('peer')).token)
    await peer.join()
    peers.push(peer.host)
  }
  t.deepEqual(office.home.membership().witnesses, peers, 'three first, and five now that there are five')
  const state = mkdtempSync(join(tmpdir(), 'imager-home-'))
  t.teardown(() => rmSync(state, { recursive: true, force: true }))
  const secret = prepareIdentity(state)
  const late = joining(office, (await admin.invite('admin')).token, secret)
  const { membership } = await late.join()
  const { fleet, rootKey, rootSealing, coordinator } = office.home.config
  const config = { state, fleet, rootKey, rootSealing, role: 'admin' as const, name: 'late', coordinator, listen: null }
  const home = createHome({ ...config, membership, keys: [] })
  for (const host of peers.slice(0, 3)) await admin.remove(host, false)
  const { witnesses, hosts } = office.home.membership()
  t.deepEqual(witnesses, [], 'of two nobody is a majority')
  t.throws(() => home.saveMembership(office.home.membership().bytes), { code: 'MEMBERSHIP_SHRINKS' })
  t.true(await followMembership(home, late.catalog))
  t.deepEqual(home.membership().bytes, office.home.membership().bytes)
  t.is(hosts.length, home.membership().hosts.length)
})
