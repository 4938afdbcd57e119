import test from 'ava'
import { toHex } from '../../src/base/ids.js'
import { appoint } from '../../src/keys/admins.js'
import { openMembership } from '../../src/keys/membership.js'
import { forgottenBy, isHeld, type OrderBody, openOrder, orderName, signOrder } from '../../src/keys/orders.js'
import { choosePolicy, isNewerPolicy, openPolicy, type PolicyBody, signPolicy } from '../../src/keys/policy.js'
import { hash, Secret, type SecretHandle } from '../../src/native.js'
import { delegate, fleet, hostOf, makeFleet, otherFleet, sealingOf, signPlain } from './fleet.js'

const known = makeFleet()
const { root, rootKey, coordinator, appliance, peer } = known
const [anna, otto, next] = [Secret.random(), Secret.random(), Secret.random()]
const listed = (key: SecretHandle, term = 1) => ({
  delegation: appoint(hostOf(key), { fleet, term }, root).toString('base64'),
  ...{ sealing: sealingOf(key), name: hostOf(key).slice(0, 4) },
})
const first = openMembership(
  signPlain({ ...known.body, admins: [listed(anna), listed(otto)] }, coordinator),
  fleet,
  rootKey,
)
/** After a recovery: another coordinator, and Anna alone. */
const second = openMembership(
  signPlain(
    {
      ...known.body,
      term: 2,
      delegations: [delegate(root, hostOf(next), 'coordinator', 2)],
      admins: [listed(anna, 2)],
    },
    root,
  ),
  fleet,
  rootKey,
)
const by = first.adminsBy(rootKey)
const snapshots = ['5a'.repeat(16), '5b'.repeat(16)]
const server = hostOf(appliance)
const forget = { fleet, term: 1, time: 5, appliance: server, snapshots }
const hold = { ...forget, snapshots: null }

test('an order is the word of an admin, in his term and later', (t) => {
  const bytes = signOrder('forget', forget, anna)
  const opened = openOrder('forget', bytes, by)
  t.like(opened, { body: forget, signer: hostOf(anna), hash: toHex(hash(bytes)) })
  t.is(orderName(opened), `${hostOf(anna)}${toHex(hash(bytes))}`)
  t.notThrows(() => openOrder('forget', bytes, second.adminsBy(rootKey)))
  t.notThrows(() => openOrder('forget', signOrder('forget', forget, root), by))
  const forged = { code: 'FORGED' }
  for (const key of [coordinator, appliance, peer, Secret.random()]) {
    t.throws(() => openOrder('forget', signOrder('forget', forget, key), by), forged)
  }
  const ottos = signOrder('hold', hold, otto)
  t.notThrows(() => openOrder('hold', ottos, by))
  t.throws(() => openOrder('hold', ottos, second.adminsBy(rootKey)), forged, 'who is none any more')
  t.throws(() => openOrder('hold', bytes, by), forged, 'another kind')
  t.throws(() => openOrder('forget', signOrder('forget', { ...forget, fleet: otherFleet }, anna), by), forged)
  t.throws(() => openOrder('forget', signOrder('forget', { ...forget, term: 2 }, anna), by), forged)
  for (const wrong of [[], ['x'], Array<string>(1001).fill(snapshots[0] as string)]) {
    t.throws(() => openOrder('forget', signOrder('forget', { ...forget, snapshots: wrong }, anna), by), {
      code: 'CORRUPT',
    })
  }
})

test('what is held, and what is released; what is forgotten', (t) => {
  const order = <K extends 'hold' | 'release'>(kind: K, body: OrderBody<K>) =>
    openOrder(kind, signOrder(kind, body, anna), by)
  const [all, one] = [order('hold', hold), order('hold', { ...hold, snapshots: snapshots.slice(0, 1) })]
  const [a, b] = snapshots.map((snapshot) => ({ appliance: server, snapshot })) as [never, never]
  t.true(isHeld(a, [one], []))
  t.false(isHeld(b, [one], []))
  t.true(isHeld(b, [one, all], []))
  t.false(isHeld({ appliance: hostOf(peer), snapshot: snapshots[0] as string }, [one, all], []))
  const release = order('release', { fleet, term: 1, time: 6, hold: all.hash })
  t.false(isHeld(b, [one, all], [release]))
  t.true(isHeld(a, [one, all], [release]), 'another hold stands')
  const said = openOrder('forget', signOrder('forget', forget, anna), by)
  t.is(forgottenBy([said, said]).size, 2)
})

const body: PolicyBody = {
  ...{ fleet, term: 1, sequence: 4, time: 9, rules: { tolerate: 1, maxAgeMs: 0, keep: null } },
  ...{ volumes: [], quotas: [{ appliance: server, bytes: 1e12 }] },
}
const open = (key: SecretHandle, change: Partial<PolicyBody> = {}, members = first) =>
  openPolicy(signPolicy({ ...body, ...change }, key), members, rootKey)

test("an admin's policy goes before a coordinator's, of each the newest counts", (t) => {
  const [own, annas, ottos] = [open(coordinator, { sequence: 99 }), open(anna), open(otto, { sequence: 5 })]
  t.is(choosePolicy([]), undefined)
  t.is(choosePolicy([own]), own)
  t.is(choosePolicy([own, annas]), annas)
  t.is(choosePolicy([ottos, own, annas]), ottos)
  const same = open(otto, { sequence: 4 })
  t.is(choosePolicy([annas, same]), choosePolicy([same, annas]))
  t.true(isNewerPolicy(ottos, annas))
  t.false(isNewerPolicy(annas, open(anna)))
  const later = open(next, { term: 2, sequence: 1 }, second)
  const before = { ...own, isAdmins: false }
  t.true(isNewerPolicy(later, before), 'whatever number was signed in the term before')
})

test('nobody else signs one, nor a former coordinator', (t) => {
  const forged = { code: 'FORGED' }
  for (const key of [appliance, peer, Secret.random()]) t.throws(() => open(key), forged)
  t.throws(() => open(coordinator, {}, second), forged)
  t.throws(() => open(coordinator, { term: 2 }), forged)
  t.throws(() => open(anna, { fleet: otherFleet }), forged)
  t.throws(() => open(otto, {}, second), forged)
  t.notThrows(() => open(anna, {}, second))
  t.notThrows(() => open(next, {}, second), 'the coordinator of now, of a term before')
  t.throws(() => open(anna, { sequence: 0 }), { code: 'CORRUPT' })
})
