/** A fleet of one coordinator, one appliance and one peer, for tests of who believes what. */
import { toHex } from '../../src/base/ids.js'
import { type Duty, signDelegation } from '../../src/keys/delegation.js'
import {
  type Membership,
  type MembershipBody,
  type MembershipHost,
  openMembership,
  signMembership,
} from '../../src/keys/membership.js'
import { Secret, type SecretHandle } from '../../src/native.js'

export const fleet = '00112233445566778899aabbccddeeff'
export const otherFleet = 'ff'.repeat(16)

export const hostOf = (secret: SecretHandle) => toHex(secret.signingKey())
export const sealingOf = (secret: SecretHandle) => toHex(secret.sealingKey())

export interface TestFleet {
  root: SecretHandle
  rootKey: string
  coordinator: SecretHandle
  appliance: SecretHandle
  peer: SecretHandle
  body: MembershipBody
  membership: Membership
}

export function delegate(root: SecretHandle, host: string, duty: Duty, term = 1, inFleet = fleet): string {
  return signDelegation({ fleet: inFleet, term, duty, host }, root).toString('base64')
}

export function member(secret: SecretHandle, name: string, role: MembershipHost['role']): MembershipHost {
  const addresses = role === 'appliance' ? [] : ['127.0.0.1:7420']
  return { host: hostOf(secret), sealing: sealingOf(secret), name, role, domain: name, addresses }
}

export function makeFleet(): TestFleet {
  const [root, coordinator, appliance, peer] = [Secret.random(), Secret.random(), Secret.random(), Secret.random()]
  const duties: Duty[] = ['coordinator', 'enroller', 'holder', 'pruner']
  const body: MembershipBody = {
    fleet,
    sequence: 1,
    term: 1,
    delegations: duties.map((duty) => delegate(root, hostOf(coordinator), duty)),
    hosts: [
      member(coordinator, 'office', 'coordinator'),
      member(appliance, 'server', 'appliance'),
      member(peer, 'pc-1', 'peer'),
    ],
  }
  const rootKey = hostOf(root)
  const membership = openMembership(signMembership(body, coordinator), fleet, rootKey)
  return { root, rootKey, coordinator, appliance, peer, body, membership }
}
