import test from 'ava'
import { signDelegation } from '../../src/keys/delegation.js'
import {
  chooseWitnesses,
  findHost,
  type MembershipHost,
  openMembership,
  requireFollows,
  uniqueName,
} from '../../src/keys/membership.js'
import { Secret } from '../../src/native.js'
import { delegate, fleet, hostOf, makeFleet, member, otherFleet, signPlain } from './fleet.js'

const known = makeFleet()
const as = { reader: hostOf(known.appliance), secret: known.appliance }
const open = (bytes: Uint8Array) => openMembership(bytes, fleet, known.rootKey, as)

test('signed by the coordinator or the root, it opens and answers questions', (t) => {
  for (const signer of [known.coordinator, known.root]) {
    const membership = open(signPlain(known.body, signer))
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
    t.throws(() => open(signPlain(known.body, signer)), { code: 'FORGED', message: /not signed by the coordinator/ })
    t.throws(() => open(signPlain(known.body, known.coordinator, signer)), { code: 'FORGED', message: /may not admit/ })
  }
  const coordinatorOnly = {
    ...known.body,
    delegations: [delegate(known.root, hostOf(known.coordinator), 'coordinator')],
  }
  t.throws(() => open(signPlain(coordinatorOnly, known.coordinator)), { code: 'FORGED' })
})

test('a delegation made by anyone but the root is worth nothing', (t) => {
  const rogue = Secret.random()
  const forged = delegate(rogue, hostOf(rogue), 'enroller')
  const body = { ...known.body, delegations: [...known.body.delegations, forged] }
  t.throws(() => open(signPlain(body, rogue)), { code: 'FORGED', message: /root/ })
  const foreign = delegate(known.root, hostOf(rogue), 'enroller', 1, otherFleet)
  const second = { ...known.body, delegations: [...known.body.delegations, foreign] }
  t.throws(() => open(signPlain(second, rogue)), { code: 'FORGED', message: /another fleet/ })
})

test('a replaced coordinator cannot sign a membership of the new term', (t) => {
  const next = hostOf(Secret.random())
  const duties = (['coordinator', 'enroller'] as const).map((duty) => delegate(known.root, next, duty, 2))
  const body = { ...known.body, term: 2, sequence: 9, delegations: [...known.body.delegations, ...duties] }
  t.throws(() => open(signPlain(body, known.coordinator)), { code: 'FORGED' })
})

test('after a recovery the higher term counts, whatever the sequence', (t) => {
  const next = Secret.random()
  const duties = (['coordinator', 'enroller'] as const).map((duty) => delegate(known.root, hostOf(next), duty, 2))
  const body = {
    ...known.body,
    term: 2,
    sequence: 1,
    delegations: [...known.body.delegations, ...duties],
    hosts: [...known.body.hosts, member(next, 'new', 'coordinator')],
  }
  const recovered = open(signPlain(body, next))
  t.is(recovered.coordinator, hostOf(next))
  t.false(recovered.delegated(hostOf(known.coordinator), 'enroller'))
  const old = open(signPlain({ ...known.body, sequence: 99 }, known.coordinator))
  t.true(recovered.newerThan(old))
  t.false(old.newerThan(recovered))
  t.true(old.newerThan(known.membership))
  t.false(old.newerThan(old))
})

test('another fleet, no coordinator, a host twice, a name that rewrites the line: refused', (t) => {
  const sign = (change: object) => signPlain({ ...known.body, ...change }, known.root)
  t.throws(() => openMembership(sign({}), otherFleet, known.rootKey), { code: 'FORGED' })
  t.throws(() => open(sign({ delegations: [] })), { code: 'CORRUPT', message: /no coordinator/ })
  const [first] = known.body.hosts
  t.throws(() => open(sign({ hosts: [first, first] })), { code: 'CORRUPT', message: /twice/ })
  for (const label of [{ name: 'a\u001b[2Kb' }, { domain: '' }]) {
    const opened = open(sign({ hosts: [{ ...first, ...label }, ...known.body.hosts.slice(1)] }))
    t.is(opened.hosts[0]?.name, opened.hosts[0]?.host.slice(0, 8), 'as if it had none')
    t.is(opened.hosts[1]?.name, 'server')
  }
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

const row = (name: string, domain = name, role: MembershipHost['role'] = 'peer') => {
  const host = Buffer.from(name.padEnd(32)).toString('hex')
  return { ...member(known.peer, name, role), host, domain }
}
const names = (hosts: readonly string[]) => hosts.map((host) => Buffer.from(host, 'hex').toString().trim())

test('who repeats a delegation has said it once; one of a later term, or a second coordinator, cannot be', (t) => {
  const [first = ''] = known.body.delegations
  const many = { ...known.body, delegations: [...known.body.delegations, ...Array<string>(252).fill(first)] }
  t.is(open(signPlain(many, known.coordinator)).delegations.length, 4)
  const later = delegate(known.root, hostOf(known.peer), 'coordinator', 2)
  const body = { ...known.body, delegations: [...known.body.delegations, later] }
  t.throws(() => open(signPlain(body, known.coordinator)), { code: 'CORRUPT', message: /earlier term/ })
  const second = delegate(known.root, hostOf(known.peer), 'coordinator')
  const two = { ...known.body, delegations: [...known.body.delegations, second] }
  t.throws(() => open(signPlain(two, known.coordinator)), { code: 'CORRUPT', message: /two coordinators/ })
  const old = { ...known.body, term: 2, delegations: [...known.body.delegations] }
  t.throws(() => open(signPlain(old, known.root)), { code: 'CORRUPT', message: /no coordinator of its term/ })
})

test('more than half of the peers do not leave at once, unless the root says so', (t) => {
  const peers = ['a', 'b', 'c', 'd', 'e'].map((name) => row(name))
  const others = known.body.hosts.slice(0, 2)
  const of = (left: number, sequence: number, signer = known.coordinator) =>
    open(
      signPlain(
        { ...known.body, sequence, hosts: [...others, ...peers.slice(0, left)], gone: peers.slice(left) },
        signer,
      ),
    )
  const held = of(5, 1)
  for (const left of [5, 4, 3]) t.notThrows(() => requireFollows(held, of(left, 2), known.rootKey))
  for (const left of [2, 1, 0]) {
    const error = t.throws(() => requireFollows(held, of(left, 2 ** 53 - 1), known.rootKey))
    t.like(error, { code: 'MEMBERSHIP_SHRINKS', details: { gone: 5 - left, peers: 5 } })
  }
  t.notThrows(() => requireFollows(held, of(0, 2, known.root), known.rootKey))
  t.notThrows(() => requireFollows(of(1, 1), of(0, 2), known.rootKey), 'one at a time is what a person removes')
  const asAdmins = {
    ...known.body,
    sequence: 2,
    hosts: [...others, ...peers.map((one) => ({ ...one, role: 'admin' as const }))],
  }
  t.throws(() => requireFollows(held, open(signPlain(asAdmins, known.coordinator)), known.rootKey), {
    code: 'MEMBERSHIP_SHRINKS',
  })
})

test('witnesses are 0, 3, 5 or 7 peers of the membership', (t) => {
  const peers = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'].map((name) => row(name))
  const body = { ...known.body, hosts: [...known.body.hosts, ...peers] }
  const watched = (witnesses: string[]) => open(signPlain({ ...body, witnesses }, known.coordinator)).witnesses
  const keys = peers.map(({ host }) => host)
  for (const count of [0, 3, 5, 7]) t.deepEqual(watched(keys.slice(0, count)), keys.slice(0, count))
  t.deepEqual(known.membership.witnesses, [])
  const refused = { code: 'CORRUPT' }
  for (const count of [1, 2, 4, 6, 8]) t.throws(() => watched(keys.slice(0, count)), refused)
  t.throws(() => watched([keys[0] ?? '', keys[0] ?? '', keys[1] ?? '']), refused, 'one twice')
  t.throws(() => watched([keys[0] ?? '', keys[1] ?? '', hostOf(known.appliance)]), refused, 'no peer')
})

test('witnesses are chosen by how long they are members, from different failure domains, and stay', (t) => {
  const choose = (hosts: MembershipHost[], before?: string[]) => names(chooseWitnesses(hosts, before))
  t.deepEqual(choose([row('a'), row('b')]), [], 'two cannot be a majority of anything')
  t.deepEqual(choose([row('s', 's', 'appliance'), row('a'), row('b'), row('c'), row('d')]), ['a', 'b', 'c'])
  const rooms = [row('a', 'x'), row('b', 'x'), row('c', 'y'), row('d', 'x'), row('e', 'z')]
  t.deepEqual(choose(rooms), ['a', 'c', 'e', 'b', 'd'])
  const five = rooms.map(({ host }) => host)
  const many = [...rooms, row('f'), row('g'), row('h')]
  t.deepEqual(choose(many.slice(0, 6), five), ['a', 'b', 'c', 'd', 'e'], 'unchanged while they are members')
  t.deepEqual(choose(many, five), ['a', 'b', 'c', 'd', 'e', 'f', 'g'], 'more, where the fleet has grown')
  t.deepEqual(choose(many.slice(1), five), ['b', 'c', 'd', 'e', 'f', 'g', 'h'])
  t.deepEqual(choose(many.slice(3, 7), five), ['d', 'e', 'f'])
})
