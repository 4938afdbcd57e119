/** It takes two: an enroller lets a host in, and the coordinator signs the membership that says so. */
import test from 'ava'
import { type AdmissionBody, admit, signRemoval, signVoucher } from '../../src/keys/admission.js'
import { isServed } from '../../src/keys/fields.js'
import {
  admissionOf,
  admitAll,
  type ListedHost,
  type Membership,
  MOST_ENROLLERS,
  openMembership,
  readersOf,
  requireFollows,
  signMembership,
} from '../../src/keys/membership.js'
import { TokenKey } from '../../src/keys/token.js'
import { Secret, type SecretHandle } from '../../src/native.js'
import { delegate, fleet, hostOf, makeFleet, otherFleet, sealingOf } from './fleet.js'

const { root, rootKey, coordinator, body: plain } = makeFleet()
const enroller = Secret.random()
const duties = [delegate(root, hostOf(coordinator), 'coordinator'), delegate(root, hostOf(enroller), 'enroller')]
const row = (name: string) => ({ name, domain: name })
const admission = (host: SecretHandle, change: Partial<AdmissionBody> = {}): AdmissionBody => {
  return { fleet, term: 1, host: hostOf(host), sealing: sealingOf(host), role: 'peer', ...change }
}
const first = admitAll(plain.hosts, fleet, 1, root)

interface Said {
  hosts?: ListedHost[]
  removals?: Buffer[]
  delegations?: string[]
  signer?: SecretHandle
}

let sequence = 1
function say({ hosts = [], removals = [], delegations = duties, signer = coordinator }: Said): Membership {
  const texts = removals.map((one) => one.toString('base64'))
  const body = { fleet, term: 1, sequence: sequence++, delegations, hosts: [...first, ...hosts], removals: texts }
  return openMembership(signMembership(body, signer, []), fleet, rootKey)
}
const forged = (message: RegExp) => ({ code: 'FORGED', message })

test('neither coordinator nor enroller lets anybody in alone; both do, and so does the root', (t) => {
  const stranger = Secret.random()
  const by = (signer: SecretHandle) => [{ ...admit(admission(stranger), signer), ...row('ghost') }]
  t.throws(() => say({ hosts: by(coordinator) }), forged(/may not admit/))
  t.throws(() => say({ hosts: by(stranger) }), forged(/may not admit/))
  t.throws(() => say({ hosts: by(enroller), signer: enroller }), forged(/not signed by the coordinator/))
  t.is(say({ hosts: by(enroller) }).role(hostOf(stranger)), 'peer')
  t.is(say({ hosts: by(root), signer: root }).role(hostOf(stranger)), 'peer')
  t.throws(() => say({ hosts: by(enroller), delegations: duties.slice(0, 1) }), forged(/may not admit/))
})

test('a token lets in one host, in the role, fleet and term that an enroller vouched for', (t) => {
  const key = new TokenKey(Buffer.alloc(32, 3))
  const token = key.signingKey().toString('hex')
  const good = { fleet, term: 1, token, role: 'peer' as const, expires: 5 }
  const by = (host: SecretHandle, voucher: Buffer, change: Partial<AdmissionBody> = {}, signer = key) => {
    const admitted = admit(admission(host, change), signer)
    return { ...admitted, voucher: voucher.toString('base64'), ...row(hostOf(host).slice(0, 8)) }
  }
  const [host, other] = [Secret.random(), Secret.random()]
  const vouched = signVoucher(good, enroller)
  t.is(say({ hosts: [by(host, vouched)] }).role(hostOf(host)), 'peer')
  const twice = [by(host, vouched), by(other, vouched)]
  t.throws(() => say({ hosts: twice }), { code: 'CORRUPT', message: /by one token/ })
  t.throws(() => say({ hosts: [by(host, vouched, { role: 'admin' })] }), forged(/another role/))
  t.throws(() => say({ hosts: [by(host, vouched, {}, new TokenKey(Buffer.alloc(32, 4)))] }), forged(/by its token/))
  t.throws(() => say({ hosts: [by(host, signVoucher(good, coordinator))] }), forged(/may not admit/))
  t.throws(() => say({ hosts: [by(host, signVoucher({ ...good, term: 2 }, enroller))] }), forged(/another term/))
  t.throws(() => say({ hosts: [by(host, signVoucher({ ...good, fleet: otherFleet }, enroller))] }), forged(/fleet/))
  t.throws(() => say({ hosts: [by(host, vouched, { term: 2 })] }), forged(/another term/))
})

test('who is removed stays so: no admission that ended comes back, and nobody is left out in silence', (t) => {
  const [host, other] = [Secret.random(), Secret.random()]
  const hosts = [host, other].map((one) => ({ ...admit(admission(one), enroller), ...row(hostOf(one).slice(0, 8)) }))
  const held = say({ hosts })
  const over = { fleet, term: 1, host: hostOf(host), admission: admissionOf(held, hostOf(host)) }
  const removal = signRemoval(over, enroller)
  const follows = (offered: Membership) => requireFollows(held, offered, rootKey)
  t.notThrows(() => follows(say({ hosts: hosts.slice(1), removals: [removal] })))
  t.throws(() => follows(say({ hosts: hosts.slice(1) })), forged(/no enroller removed/))
  t.throws(() => say({ hosts: hosts.slice(1), removals: [signRemoval(over, coordinator)] }), forged(/may not admit/))
  t.throws(() => say({ hosts, removals: [removal] }), forged(/lists a host that was removed/))
  const without = say({ hosts: hosts.slice(1), removals: [removal] })
  t.throws(() => requireFollows(without, say({ hosts }), rootKey), forged(/takes back a removal/))
  const again = { ...admit(admission(host, { sealing: sealingOf(other) }), enroller), ...row('again') }
  t.notThrows(() => requireFollows(without, say({ hosts: [...hosts.slice(1), again], removals: [removal] }), rootKey))
})

test('up to three enrollers; roles that are kept free are taken', (t) => {
  const many = Array.from({ length: MOST_ENROLLERS }, () => delegate(root, hostOf(Secret.random()), 'enroller'))
  t.is(say({ delegations: [duties[0] ?? '', ...many] }).enrollers.length, 3)
  t.throws(() => say({ delegations: [...duties, ...many] }), { code: 'CORRUPT', message: /too many enrollers/ })
  for (const role of ['restorer', 'lender'] as const) {
    const host = Secret.random()
    const listed = say({ hosts: [{ ...admit(admission(host, { role }), enroller), ...row(role) }] })
    t.is(listed.role(hostOf(host)), role)
    const readers = readersOf(listed.hosts, listed.enrollers, sealingOf(root)).map(({ reader }) => reader)
    t.false(readers.includes(hostOf(host)), 'it reads no names')
    t.false(isServed(role), 'and no peer takes a head of its')
  }
})
