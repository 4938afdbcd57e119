import test from 'ava'
import { signDelegation } from '../../src/keys/delegation.js'
import { findHost, openMembership, signMembership, uniqueName } from '../../src/keys/membership.js'
import { Secret } from '../../src/native.js'
import { delegate, fleet, hostOf, makeFleet, member, otherFleet } from './fleet.js'

const known = makeFleet()
const open = (bytes: Uint8Array) => openMembership(bytes, fleet, known.rootKey)

test('signed by the enroller or the root, it opens and answers questions', (t) => {
  for (const signer of [known.coordinator, known.root]) {
    const membership = open(signMembership(known.body, signer))
    t.is(membership.coordinator, hostOf(known.coordinator))
    t.is(membership.role(hostOf(known.peer)), 'peer')
    t.is(membership.find(hostOf(known.appliance))?.name, 'server')
    t.is(membership.role('00'.repeat(32)), undefined)
    t.true(membership.delegated(hostOf(known.coordinator), 'holder'))
    t.false(membership.delegated(hostOf(known.peer), 'holder'))
  }
})

test('a member without the duty, and a stranger, cannot sign one', (t) => {
  for (const signer of [known.peer, Secret.random()]) {
    t.throws(() => open(signMembership(known.body, signer)), { code: 'FORGED', message: /may not admit/ })
  }
  const coordinatorOnly = {
    ...known.body,
    delegations: [delegate(known.root, hostOf(known.coordinator), 'coordinator')],
  }
  t.throws(() => open(signMembership(coordinatorOnly, known.coordinator)), { code: 'FORGED' })
})

test('a delegation made by anyone but the root is worth nothing', (t) => {
  const rogue = Secret.random()
  const forged = delegate(rogue, hostOf(rogue), 'enroller')
  const body = { ...known.body, delegations: [...known.body.delegations, forged] }
  t.throws(() => open(signMembership(body, rogue)), { code: 'FORGED', message: /root/ })
  const foreign = delegate(known.root, hostOf(rogue), 'enroller', 1, otherFleet)
  const second = { ...known.body, delegations: [...known.body.delegations, foreign] }
  t.throws(() => open(signMembership(second, rogue)), { code: 'FORGED', message: /another fleet/ })
})

test('a replaced coordinator cannot sign a membership of the new term', (t) => {
  const body = { ...known.body, term: 2, sequence: 9 }
  t.throws(() => open(signMembership(body, known.coordinator)), { code: 'FORGED' })
})

test('after a recovery the higher term counts, whatever the sequence', (t) => {
  const next = Secret.random()
  const duties = (['coordinator', 'enroller'] as const).map((duty) => delegate(known.root, hostOf(next), duty, 2))
  const body = {
    ...known.body,
    term: 2,
    sequence: 0,
    delegations: [...known.body.delegations, ...duties],
    hosts: [...known.body.hosts, member(next, 'new', 'coordinator')],
  }
  const recovered = open(signMembership(body, next))
  t.is(recovered.coordinator, hostOf(next))
  t.false(recovered.delegated(hostOf(known.coordinator), 'enroller'))
  const old = open(signMembership({ ...known.body, sequence: 99 }, known.coordinator))
  t.true(recovered.newerThan(old))
  t.false(old.newerThan(recovered))
  t.true(old.newerThan(known.membership))
  t.false(old.newerThan(old))
})

test('another fleet, no coordinator, a host twice, a name that rewrites the line: refused', (t) => {
  const sign = (change: object) => signMembership({ ...known.body, ...change }, known.root)
  t.throws(() => openMembership(sign({}), otherFleet, known.rootKey), { code: 'FORGED' })
  t.throws(() => open(sign({ delegations: [] })), { code: 'CORRUPT', message: /no coordinator/ })
  const [first] = known.body.hosts
  t.throws(() => open(sign({ hosts: [first, first] })), { code: 'CORRUPT', message: /twice/ })
  t.throws(() => open(sign({ hosts: [{ ...first, name: 'a\u001b[2Kb' }] })), { code: 'CORRUPT', message: /name/ })
  t.throws(() => open(sign({ hosts: [{ ...first, addresses: ['nowhere'] }] })), { code: 'CORRUPT' })
})

test('a delegation is no membership', (t) => {
  const bytes = signDelegation({ fleet, term: 1, duty: 'enroller', host: hostOf(known.peer) }, known.root)
  t.throws(() => open(bytes), { code: 'FORGED', message: /kind "delegation"/ })
})

test('names become unique by a number, within their length', (t) => {
  t.is(uniqueName('debian', []), 'debian')
  t.is(uniqueName('debian', ['Debian', 'debian-2', 'other']), 'debian-3')
  const long = 'x'.repeat(64)
  t.is(uniqueName(long, [long]), `${'x'.repeat(62)}-2`)
})

test('a host is found by its name, or by the beginning of its key where that is needed', (t) => {
  const [a, b, c] = [
    { host: `aaaa1${'0'.repeat(59)}`, name: 'pc' },
    { host: `aaaa2${'0'.repeat(59)}`, name: 'pc' },
    { host: `cccc0${'0'.repeat(59)}`, name: 'aaaa' },
  ]
  const hosts = [a, b, c]
  t.is(findHost(hosts, 'aaaa'), c, 'a name comes first')
  t.is(findHost(hosts, 'aaaa2'), b)
  t.throws(() => findHost(hosts, 'pc'), { code: 'NO_SUCH_HOST', message: /aaaa1.* or aaaa2/ })
  for (const wrong of ['PC', 'ccc', 'dddd', '']) t.throws(() => findHost(hosts, wrong), { code: 'NO_SUCH_HOST' })
})
