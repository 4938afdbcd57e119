/** A fleet of one coordinator, one appliance and one peer, for tests of who believes what. */
import { toHex } from '../../src/base/ids.js'
import { signAdmission, signRemoval } from '../../src/keys/admission.js'
import { type Duty, signDelegation } from '../../src/keys/delegation.js'
import {
  admitAll,
  type Membership,
  type MembershipDraft,
  type MembershipHost,
  openMembership,
  readersOf,
  signMembership,
} from '../../src/keys/membership.js'
import { hash, Secret, type SecretHandle } from '../../src/native.js'

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
  body: PlainBody
  membership: Membership
}

export function delegate(root: SecretHandle, host: string, duty: Duty, term = 1, inFleet = fleet): string {
  return signDelegation({ fleet: inFleet, term, duty, host }, root).toString('base64')
}

export function member(secret: SecretHandle, name: string, role: MembershipHost['role']): MembershipHost {
  return { host: hostOf(secret), sealing: sealingOf(secret), name, role, domain: name }
}

/** A membership before its hosts are let in. */
export interface PlainBody extends Omit<MembershipDraft, 'hosts' | 'removals'> {
  hosts: MembershipHost[]
  /** Whom `admitter` let in, and does no more. */
  gone?: MembershipHost[]
}

/** Each host let in by `admitter`, without a token. */
export function signPlain({ gone = [], ...body }: PlainBody, signer: SecretHandle, admitter = signer): Buffer {
  const { fleet, term } = body
  const removals = gone.map(({ host, sealing, role }) => {
    const admission = toHex(hash(signAdmission({ fleet, term, host, sealing, role }, admitter)))
    return signRemoval({ fleet, term, host, admission }, admitter).toString('base64')
  })
  const readers = readersOf(body.hosts, [], sealingOf(admitter))
  return signMembership({ ...body, hosts: admitAll(body.hosts, fleet, term, admitter), removals }, signer, readers)
}

export function makeFleet(): TestFleet {
  const [root, coordinator, appliance, peer] = [Secret.random(), Secret.random(), Secret.random(), Secret.random()]
  const duties: Duty[] = ['coordinator', 'enroller', 'holder', 'pruner']
  const body: PlainBody = {
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
  const membership = openMembership(signPlain(body, coordinator), fleet, rootKey, {
    reader: hostOf(appliance),
    secret: appliance,
  })
  return { root, rootKey, coordinator, appliance, peer, body, membership }
}
