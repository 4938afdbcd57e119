import test from 'ava'
import { signAddress } from '../../src/keys/address.js'
import { Secret, type SecretHandle } from '../../src/native.js'
import { decodeAddresses, encodeAddresses } from '../../src/peers/addresses.js'
import { fleet, hostOf } from '../keys/fleet.js'
import { startPeer } from './peer.js'

test('addresses of members are kept, the newest of each, and any member reads them', async (t) => {
  const peer = await startPeer(t)
  const { coordinator, appliance, peer: itself } = peer.fleet
  peer.now.value = Date.now() + 5000
  const say = (secret: SecretHandle, sequence: number) =>
    signAddress({ fleet, host: hostOf(secret), sequence, addresses: [`10.0.0.1:${sequence}`] }, secret)
  const bring = (...statements: Buffer[]) => peer.client(coordinator).sendAddresses(encodeAddresses(statements))
  const held = (secret: SecretHandle) => peer.client(itself).fetchDocument('address', hostOf(secret))
  const stranger = Secret.random()
  await bring(say(coordinator, 5), say(stranger, 5), say(appliance, 5))
  t.deepEqual(await held(coordinator), say(coordinator, 5))
  t.is(await held(stranger), undefined)
  await bring(say(coordinator, 5), say(appliance, 4))
  t.deepEqual(await held(appliance), say(appliance, 5))
  await t.throwsAsync(bring(say(coordinator, 6)), { code: 'HOST_REFUSED', message: /within a minute/ })
  await t.throwsAsync(peer.client(coordinator).sendDocument('address', hostOf(coordinator), say(coordinator, 6)), {
    code: 'HOST_REFUSED',
  })
  t.deepEqual(await held(coordinator), say(coordinator, 5))
  peer.now.value += 60_000
  await bring(say(coordinator, 6))
  t.deepEqual(await held(coordinator), say(coordinator, 6))
  const forged = signAddress({ fleet, host: hostOf(coordinator), sequence: 9, addresses: [] }, appliance)
  await t.throwsAsync(bring(forged), { code: 'FORGED' })
})

test('a message of addresses that is cut short is refused', (t) => {
  const message = encodeAddresses([Buffer.alloc(10, 1), Buffer.alloc(20, 2)])
  t.deepEqual(decodeAddresses(message), [Buffer.alloc(10, 1), Buffer.alloc(20, 2)])
  t.throws(() => decodeAddresses(message.subarray(0, -1)), { code: 'PROTOCOL' })
})
