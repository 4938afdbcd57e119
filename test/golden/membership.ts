/** The values behind `delegation-v1.bin`, `membership-v1.bin` and what a membership is made of, and `token-v1.bin`. */

import { type AddressBody, signAddress } from '../../src/keys/address.js'
import { appoint, type Dismissal, signDismissal } from '../../src/keys/admins.js'
import {
  type AdmissionBody,
  admit,
  type Removal,
  signRemoval,
  signVoucher,
  type Voucher,
} from '../../src/keys/admission.js'
import { type Delegation, signDelegation } from '../../src/keys/delegation.js'
import { type Handover, signHandover } from '../../src/keys/handover.js'
import { WORDS } from '../../src/keys/labels.js'
import { type MembershipDraft, signMembership } from '../../src/keys/membership.js'
import { deriveRoot } from '../../src/keys/root.js'
import { encodeToken, type Token, TokenKey } from '../../src/keys/token.js'
import { Secret, type SecretHandle } from '../../src/native.js'
import { fleet, hostOf, sealingOf } from '../keys/fleet.js'

const seed = Secret.fromWords(`${'abandon '.repeat(23)}art`)
const of = (context: string) => seed.derive(`imager v1 golden ${context}`)
const [coordinator, appliance, enroller, admin] = [of('coordinator'), of('appliance'), of('enroller'), of('admin')]
const peers = [of('peer'), of('peer 2'), of('peer 3')]
const root = deriveRoot(seed)
const term = 3

/** By a host that is not the coordinator. */
export const delegation: Delegation = { fleet, term, duty: 'enroller', host: hostOf(enroller) }
export const coordinates: Delegation = { fleet, term, duty: 'coordinator', host: hostOf(coordinator) }

export const token: Token = {
  fleet,
  rootKey: '22'.repeat(32),
  rootSealing: '33'.repeat(32),
  coordinator: { key: '44'.repeat(32), address: '[2001:db8::1]:7420' },
  role: 'appliance',
  secret: Buffer.alloc(32, 0x55),
  expires: 1_800_000_000_000,
  term,
}
const key = new TokenKey(token.secret)

export const voucher: Voucher = {
  fleet,
  term,
  token: key.signingKey().toString('hex'),
  role: token.role,
  expires: token.expires,
}
const admissionOf = (host: SecretHandle, role: AdmissionBody['role']): AdmissionBody => {
  return { fleet, term, host: hostOf(host), sealing: sealingOf(host), role }
}
/** By the token's key. */
export const admission = admissionOf(appliance, 'appliance')
export const dismissal: Dismissal = { fleet, term, admin: '88'.repeat(32), delegation: '99'.repeat(32) }
export const handover: Handover = { fleet, term, number: 1, from: hostOf(coordinator), to: hostOf(admin) }
export const removal: Removal = { fleet, term, host: '66'.repeat(32), admission: '77'.repeat(32) }

/** Of the first peer. */
export const address: AddressBody = {
  fleet,
  host: hostOf(peers[0] as SecretHandle),
  sequence: 1_800_000_000_000,
  addresses: ['[2001:db8::1]:7420', 'pc-1.example:7420'],
}
export const makeAddress = (): Buffer => signAddress(address, peers[0] as SecretHandle)

export const makeDelegation = (): Buffer => signDelegation(delegation, root.secret)
export const makeVoucher = (): Buffer => signVoucher(voucher, enroller)
export const makeAdmission = (): Buffer => Buffer.from(admit(admission, key).admission, 'base64')
export const makeRemoval = (): Buffer => signRemoval(removal, enroller)
export const makeHandover = (): Buffer => Buffer.from(signHandover(handover, coordinator), 'base64')
export const makeDismissal = (): Buffer => signDismissal(dismissal, admin)
export const makeToken = (): Buffer => Buffer.from(encodeToken(token))

const row = (name: string, domain = name) => ({ name, domain })
export const body: MembershipDraft = {
  fleet,
  sequence: 7,
  term,
  delegations: [delegation, coordinates].map((one) => signDelegation(one, root.secret).toString('base64')),
  hosts: [
    { ...admit(admissionOf(coordinator, 'coordinator'), root.secret), ...row('Büro', 'site 1') },
    { ...admit(admission, key), voucher: makeVoucher().toString('base64'), ...row('server') },
    ...peers.map((peer, at) => ({ ...admit(admissionOf(peer, 'peer'), enroller), ...row(`pc-${at + 1}`) })),
  ],
  removals: [makeRemoval().toString('base64')],
  witnesses: peers.map(hostOf),
  admins: [
    {
      delegation: appoint(hostOf(admin), { fleet, term }, root.secret).toString('base64'),
      sealing: sealingOf(admin),
      name: 'Anna',
    },
  ],
  dismissals: [makeDismissal().toString('base64')],
}

/** The key of the names is random, and so are the bytes. */
export const membership = (): Buffer =>
  signMembership(body, coordinator, [
    { reader: WORDS, sealing: root.rootSealing },
    { reader: hostOf(appliance), sealing: sealingOf(appliance) },
  ])
