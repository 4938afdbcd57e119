import test from 'ava'
import { TOKEN_LIFETIME_MS } from '../../src/base/limits.js'
import { hasHome } from '../../src/keys/home.js'
import { decodeToken, encodeToken } from '../../src/keys/token.js'
import { Secret } from '../../src/native.js'
import { TestFleet } from './fleet.js'

test('a peer gets no key; an appliance gets D, its own part of C, and makes its manifest key', async (t) => {
  const fleet = await TestFleet.found(t)
  await fleet.coordinator()
  const peer = await fleet.add('pc-1', 'peer')
  t.is(peer.role, 'peer')
  t.deepEqual(peer.keyStatements(), [])
  const appliance = await fleet.add('server', 'appliance')
  t.deepEqual(appliance.domainKey?.id(), fleet.home.domainKey?.id())
  const trailer = fleet.home.catalogKey?.derive('imager v1 trailer', Buffer.from(appliance.host, 'hex'))
  t.deepEqual(appliance.trailerKey?.id(), trailer?.id())
  t.is(appliance.catalogKey, undefined)
  t.truthy(appliance.manifestKey)
  t.is(fleet.home.manifestKey, undefined)
  t.is(appliance.membership().role(peer.host), 'peer')
  t.is(fleet.home.membership().role(appliance.host), 'appliance')
})

test('a token works once; the second host is told, and is in no fleet', async (t) => {
  const fleet = await TestFleet.found(t)
  await fleet.coordinator()
  const token = await fleet.invite('peer')
  await fleet.join('pc-1', token)
  await t.throwsAsync(fleet.join('pc-2', token), { code: 'WRONG_KEY' })
  t.false(hasHome(fleet.state('pc-2')))
  await t.throwsAsync(fleet.join('pc-1', await fleet.invite('peer')), { code: 'STATE_EXISTS' })
})

test('a token with another secret, and one an hour old, are refused', async (t) => {
  const fleet = await TestFleet.found(t)
  await fleet.coordinator()
  const token = decodeToken(await fleet.invite('peer'))
  const forged = encodeToken({ ...token, secret: Buffer.alloc(32, 7) })
  await t.throwsAsync(fleet.join('pc-1', forged), { code: 'WRONG_KEY' })
  fleet.clock.skipped = TOKEN_LIFETIME_MS + 1
  await t.throwsAsync(fleet.join('pc-1', encodeToken(token)), { code: 'WRONG_KEY' })
  t.false(hasHome(fleet.state('pc-1')))
})

test('the role comes from the coordinator: a token that was edited does not raise it', async (t) => {
  const fleet = await TestFleet.found(t)
  await fleet.coordinator()
  const token = decodeToken(await fleet.invite('peer'))
  const home = await fleet.join('pc-1', encodeToken({ ...token, role: 'admin' })).catch(() => undefined)
  t.is(home, undefined)
  for (const { role } of fleet.home.membership().hosts) t.not(role, 'admin')
})

test('an absent coordinator: said so, no half member, and the same host joins later with the same token', async (t) => {
  const fleet = await TestFleet.found(t)
  const first = await fleet.coordinator()
  const token = await fleet.invite('peer')
  await first.close()
  const error = await t.throwsAsync(fleet.join('pc-1', token), { code: 'COORDINATOR_UNREACHABLE' })
  t.regex(error?.message ?? '', /127\.0\.0\.1/)
  t.false(hasHome(fleet.state('pc-1')))
  await fleet.coordinator()
  const home = await fleet.join('pc-1', token)
  t.is(home.membership().role(home.host), 'peer')
})

test('another host at the coordinator’s address learns nothing and changes nothing', async (t) => {
  const [fleet, other] = [await TestFleet.found(t), await TestFleet.found(t)]
  await fleet.coordinator()
  const impostor = await other.coordinator()
  const token = decodeToken(await fleet.invite('peer'))
  const led = { ...token, coordinator: { ...token.coordinator, address: impostor.address } }
  await t.throwsAsync(fleet.join('pc-1', encodeToken(led)), { code: 'HOST_LIED' })
  t.is(other.home.membership().hosts.length, 1)
  t.false(hasHome(fleet.state('pc-1')))
})

test('a coordinator of another root is not believed, even with the right key and token', async (t) => {
  const fleet = await TestFleet.found(t)
  await fleet.coordinator()
  const token = decodeToken(await fleet.invite('peer'))
  const rootKey = Secret.random().signingKey().toString('hex')
  await t.throwsAsync(fleet.join('pc-1', encodeToken({ ...token, rootKey })), { code: 'FORGED' })
  t.false(hasHome(fleet.state('pc-1')))
})

test('only the coordinator’s own host runs it, on a port that is free', async (t) => {
  const fleet = await TestFleet.found(t)
  await fleet.coordinator()
  await t.throwsAsync(fleet.coordinator(), { code: 'ADDRESS_IN_USE' })
  const peer = await fleet.add('pc-1', 'peer')
  const { startCoordinator } = await import('../../src/daemon/coordinator.js')
  await t.throwsAsync(startCoordinator(peer, { listen: '127.0.0.1:0' }), { code: 'NOT_ALLOWED' })
})
