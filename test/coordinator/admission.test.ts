import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { toHex } from '../../src/base/ids.js'
import { TOKEN_LIFETIME_MS } from '../../src/base/limits.js'
import { mayDeliver, openEntry } from '../../src/keys/entry.js'
import { openHome } from '../../src/keys/home.js'
import { openMembership } from '../../src/keys/membership.js'
import { decodeToken } from '../../src/keys/token.js'
import { Secret } from '../../src/native.js'
import { offer } from '../catalog/harness.js'
import { FLEET, keyOf, type Office, openOffice, sealingOf } from './harness.js'

function joining(office: Office, token: string, secret = Secret.random()) {
  const host = keyOf(secret)
  const { catalog } = office.connect(secret)
  const who = { name: 'pc-9', sealing: sealingOf(secret), domain: 'attic', addresses: ['10.1.2.3:7421'] }
  return { host, secret, catalog, join: () => catalog.join({ host, secret: decodeToken(token).secret, ...who }) }
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
  const members = openMembership(membership, FLEET, office.home.rootKey)
  t.like(members.find(first.host), { name: 'pc-9', role: 'peer', domain: 'attic', addresses: ['10.1.2.3:7421'] })
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
  const { secret } = decodeToken(good)
  const stranger = joining(office, good)
  const who = { name: 'x', sealing: sealingOf(stranger.secret), domain: 'd', addresses: [] }
  const wrong = Buffer.from(secret)
  wrong.writeUInt8(wrong.readUInt8(0) ^ 1, 0)
  await t.throwsAsync(stranger.catalog.join({ host: stranger.host, secret: wrong, ...who }), { code: 'WRONG_KEY' })
  const asAnother = stranger.catalog.join({ host: office.home.host, secret, ...who })
  await t.throwsAsync(asAnother, { code: 'WRONG_KEY', message: /proof/ })
  t.is((await office.catalog.hosts()).length, before)
  await stranger.join()
})

test('an appliance gets the domain key and its own trailer key, sealed to it and signed by the holder', async (t) => {
  const office = await openOffice(t)
  const { catalog: admin } = office.member('admin', 'boss')
  const { token } = await admin.invite('appliance')
  const appliance = joining(office, token)
  const { membership, keys } = await appliance.join()
  const members = openMembership(membership, FLEET, office.home.rootKey)
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

test('a heartbeat that brings a new address makes a new membership', async (t) => {
  const office = await openOffice(t)
  const peer = office.member('peer', 'pc-1')
  const beat = { ...offer('disk'), addresses: ['10.0.0.1:7421'] }
  const first = await peer.catalog.heartbeat(beat)
  t.deepEqual(await peer.catalog.heartbeat({ ...beat, freeBytes: 5 }), first)
  const second = await peer.catalog.heartbeat({ ...beat, addresses: ['10.0.0.2:7421'] })
  t.is(second.sequence, first.sequence + 1)
  const members = openMembership(await peer.catalog.membership(), FLEET, office.home.rootKey)
  t.deepEqual(members.find(peer.host)?.addresses, ['10.0.0.2:7421'])
  t.deepEqual(members.find(office.home.host)?.addresses, [office.address])
})

test('a membership that only the catalog kept reaches the state folder at the next start', async (t) => {
  const office = await openOffice(t)
  const { catalog: admin } = office.member('admin', 'boss')
  const { token } = await admin.invite('peer')
  await joining(office, token).join()
  const newest = office.home.membership()
  const copy = mkdtempSync(join(tmpdir(), 'imager-home-'))
  const { cpSync, rmSync, writeFileSync } = await import('node:fs')
  t.teardown(() => rmSync(copy, { recursive: true, force: true }))
  cpSync(office.state, copy, { recursive: true })
  const old = office.documents[0]?.bytes as Buffer
  writeFileSync(join(copy, 'membership.bin'), old)
  const home = openHome(copy)
  t.true(home.membership().sequence < newest.sequence)
  const { LocalCatalog } = await import('../../src/catalog/local.js')
  const { Admission } = await import('../../src/coordinator/admission.js')
  const catalog = LocalCatalog.openFor(copy)
  t.teardown(() => catalog.close())
  new Admission({ home, catalog, address: () => 'x:1', onMembership: () => {} })
  t.is(openHome(copy).membership().sequence, newest.sequence)
})

test('a name that is taken becomes another, without regard to case; the host itself keeps its own', async (t) => {
  const office = await openOffice(t)
  const { catalog: admin } = office.member('admin', 'PC-9')
  const first = joining(office, (await admin.invite('peer')).token)
  const second = joining(office, (await admin.invite('peer')).token)
  const names = async (host: string, membership: Buffer) => {
    return openMembership(membership, FLEET, office.home.rootKey).find(host)?.name
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
