import test from 'ava'
import { toHex } from '../../src/base/ids.js'
import { adminOf, appoint, openDismissal, signDismissal } from '../../src/keys/admins.js'
import { admit, signVoucher } from '../../src/keys/admission.js'
import { signDelegation } from '../../src/keys/delegation.js'
import { moveEnroller } from '../../src/keys/duties.js'
import {
  type Membership,
  type MembershipDraft,
  openMembership,
  readersOf,
  requireFollows,
  signMembership,
} from '../../src/keys/membership.js'
import { deriveRoot } from '../../src/keys/root.js'
import { TokenKey } from '../../src/keys/token.js'
import { hash, Secret, type SecretHandle } from '../../src/native.js'
import { delegate, fleet, hostOf, makeFleet, member, sealingOf, signPlain } from './fleet.js'

const { coordinator, appliance, peer, body: plain } = makeFleet()
const root = deriveRoot(Secret.random())
const duties = ['coordinator', 'enroller', 'holder', 'pruner'] as const
const delegations = duties.map((duty) => delegate(root.secret, hostOf(coordinator), duty))
const as = { reader: hostOf(coordinator), secret: coordinator }
const open = (bytes: Buffer, by = as) => openMembership(bytes, fleet, root.rootKey, by)
const founded = open(signPlain({ ...plain, delegations }, coordinator))

const [anna, otto] = [Secret.random(), Secret.random()]
const listed = (key: SecretHandle, name: string, term = 1) => {
  const delegation = appoint(hostOf(key), { fleet, term }, root.secret).toString('base64')
  return { delegation, sealing: sealingOf(key), name }
}
const both = [listed(anna, 'Anna'), listed(otto, 'Otto')]
const idOf = ({ delegation }: { delegation: string }) => toHex(hash(Buffer.from(delegation, 'base64')))
/** As the coordinator signs the next one. */
const next = (before: Membership, change: Partial<MembershipDraft>) => {
  const draft = before.draft()
  const readers = readersOf(before.hosts, [], root.rootSealing, [{ key: hostOf(anna), sealing: sealingOf(anna) }])
  return signMembership({ ...draft, sequence: draft.sequence + 1, ...change }, coordinator, readers)
}
const withBoth = open(next(founded, { admins: both }))
const dismissed = (of: (typeof both)[number], by: SecretHandle, term = 1) =>
  signDismissal({ fleet, term, admin: adminOf(of.delegation), delegation: idOf(of) }, by).toString('base64')

test('the root makes an admin, the coordinator lists him under his name, and he reads the names of hosts', (t) => {
  t.deepEqual(
    withBoth.admins.map(({ name, key }) => [name, key]),
    [
      ['Anna', hostOf(anna)],
      ['Otto', hostOf(otto)],
    ],
  )
  t.notThrows(() => requireFollows(founded, withBoth, root.rootKey))
  const seen = open(withBoth.bytes, { reader: hostOf(anna), secret: anna })
  t.is(seen.hosts[1]?.name, 'server')
  const stolen = open(withBoth.bytes, { reader: hostOf(peer), secret: peer })
  t.is(stolen.admins[0]?.name, hostOf(anna).slice(0, 8), 'a PC that is carried away names nobody')
  t.true(withBoth.adminsBy(root.rootKey).isAdmin(hostOf(otto)))
  for (const key of [coordinator, appliance, peer]) t.false(withBoth.adminsBy(root.rootKey).isAdmin(hostOf(key)))
})

test('nobody but the root makes one, and only in its own term', (t) => {
  const forged = { code: 'FORGED' }
  for (const rogue of [coordinator, anna, Secret.random()]) {
    const delegation = appoint(hostOf(rogue), { fleet, term: 1 }, rogue).toString('base64')
    t.throws(() => open(next(founded, { admins: [{ ...listed(anna, 'x'), delegation }] })), forged)
  }
  t.throws(() => open(next(founded, { admins: [listed(anna, 'x', 2)] })), { ...forged, message: /another term/ })
  const other = { fleet, term: 1, duty: 'enroller' as const, host: hostOf(anna) }
  const enroller = { ...listed(anna, 'x'), delegation: signDelegation(other, root.secret).toString('base64') }
  t.throws(() => open(next(founded, { admins: [enroller] })), { ...forged, message: /enroller, not of admin/ })
  t.throws(() => open(next(founded, { admins: [both[0], both[0]] as typeof both })), { code: 'CORRUPT' })
})

test('an admin lets hosts in and removes them, and what he signed ends with him', (t) => {
  const stranger = Secret.random()
  const { host, sealing, role, ...label } = member(stranger, 'new', 'peer')
  const admission = { fleet, term: 1, host, sealing, role }
  const token = new TokenKey(Buffer.alloc(32, 7))
  const key = toHex(token.signingKey())
  const voucher = signVoucher({ fleet, term: 1, token: key, role, expires: 9 }, anna).toString('base64')
  const byToken = { ...admit(admission, token), voucher, ...label }
  const { hosts } = withBoth.draft()
  const joined = open(next(withBoth, { hosts: [...hosts, byToken] }))
  t.is(joined.role(host), 'peer')
  t.is(joined.parts.admittedBy.get(host), hostOf(anna))
  const without = { admins: [both[1] as (typeof both)[number]] }
  const dismissals = [dismissed(both[0] as (typeof both)[number], otto)]
  t.throws(() => open(next(joined, { ...without, dismissals })), { code: 'FORGED', message: /may not admit/ })
  const anew = { ...admit(admission, otto), ...label }
  const after = open(next(joined, { ...without, dismissals, hosts: [...hosts, anew] }))
  t.notThrows(() => requireFollows(joined, after, root.rootKey))
  t.is(after.role(host), 'peer')
})

test('who is dismissed by another admin or the root stays so; a coordinator or enroller cannot, nor leave him out', (t) => {
  const [first, second] = both as [(typeof both)[number], (typeof both)[number]]
  t.throws(() => requireFollows(withBoth, open(next(withBoth, { admins: [first] })), root.rootKey), {
    code: 'FORGED',
    message: /whom no admin dismissed/,
  })
  for (const by of [coordinator, peer, otto]) {
    t.throws(() => open(next(withBoth, { admins: [first], dismissals: [dismissed(second, by)] })), { code: 'FORGED' })
  }
  for (const by of [anna, root.secret]) {
    const after = open(next(withBoth, { admins: [first], dismissals: [dismissed(second, by)] }))
    t.notThrows(() => requireFollows(withBoth, after, root.rootKey))
    const { dismissals: _, ...draft } = after.draft()
    const back = signMembership({ ...draft, sequence: 9, admins: both }, coordinator, [])
    t.throws(() => requireFollows(after, open(back), root.rootKey), { code: 'FORGED', message: /takes back/ })
    const both2 = next(after, { admins: both })
    t.throws(() => open(both2), { code: 'FORGED', message: /was dismissed/ })
  }
  const mutual = [dismissed(first, otto), dismissed(second, anna)]
  t.throws(() => open(next(withBoth, { admins: [], dismissals: mutual })), { code: 'FORGED' })
  const old = { ...withBoth.adminsBy(root.rootKey), term: 2 }
  t.throws(() => openDismissal(Buffer.from(dismissed(first, otto), 'base64'), old), { code: 'FORGED' })
})

test('in a new term the root makes the same admins again, without who was dismissed', (t) => {
  const [first, second] = both as [(typeof both)[number], (typeof both)[number]]
  const after = open(next(withBoth, { admins: [first], dismissals: [dismissed(second, anna)] }))
  const moved = moveEnroller(after, [hostOf(peer)], root)
  t.deepEqual(
    moved.admins.map(({ name, key }) => [name, key]),
    [['Anna', hostOf(anna)]],
  )
  t.not(moved.admins[0]?.id, after.admins[0]?.id)
  t.is(open(moved.bytes, { reader: hostOf(anna), secret: anna }).hosts[1]?.name, 'server')
  const former = signMembership({ ...moved.draft(), sequence: 2, admins: both }, coordinator, [])
  t.throws(() => open(former), { code: 'FORGED', message: /another term/ })
})
