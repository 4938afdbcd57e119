import test from 'ava'
import { appoint } from '../../src/keys/admins.js'
import { moveEnroller } from '../../src/keys/duties.js'
import { makeDismissal } from '../../src/keys/enroller.js'
import { mayBeKept, readEntry, sealEntry } from '../../src/keys/entry.js'
import { type Membership, openMembership, requireFollows } from '../../src/keys/membership.js'
import { Line, openReplacement, signReplacement } from '../../src/keys/replacement.js'
import { deriveRoot } from '../../src/keys/root.js'
import { succeed } from '../../src/keys/succession.js'
import { Secret, type SecretHandle } from '../../src/native.js'
import { fleet, hostOf, makeFleet, member, otherFleet, sealingOf, signPlain } from './fleet.js'

const known = makeFleet()
const heir = Secret.random()
const [former, taken] = [hostOf(known.appliance), hostOf(heir)]
const say = (by: SecretHandle, of = former, to = taken, inFleet = fleet) =>
  signReplacement({ fleet: inFleet, former: of, heir: to }, by)
const open = (bytes: Uint8Array) => openMembership(bytes, fleet, known.rootKey)
const others = known.body.hosts.filter(({ host }) => host !== former)
const heirs = [...others, member(heir, 'server', 'appliance')]

function next(replacements: string[], hosts = heirs, sequence = 9): Membership {
  return open(signPlain({ ...known.body, sequence, hosts, replacements }, known.coordinator))
}

const admin = Secret.random()
const named = {
  delegation: appoint(hostOf(admin), { fleet, term: 1 }, known.root).toString('base64'),
  sealing: sealingOf(admin),
  name: 'Anna',
}
const withAdmin = (replacements: string[], sequence = 9) =>
  open(signPlain({ ...known.body, sequence, hosts: heirs, replacements, admins: [named] }, known.coordinator))

test('the root, or an admin of now, says who took a place, and for its fleet', (t) => {
  const byRoot = { fleet, isAdmin: (signer: string) => signer === known.rootKey }
  t.like(openReplacement(say(known.root), byRoot), { former, heir: taken, signer: known.rootKey })
  t.is(withAdmin([say(admin)]).line.heirOf(former), taken)
  t.throws(() => next([say(admin)]), { code: 'FORGED' }, 'who is no admin here')
  t.throws(() => withAdmin([say(Secret.random())]), { code: 'FORGED' })
  for (const by of [known.coordinator, known.appliance, heir]) {
    t.throws(() => next([say(by)]), { code: 'FORGED', message: /neither by the fleet's root nor by an admin/ })
  }
  t.throws(() => next([say(known.root, former, taken, otherFleet)]), { code: 'FORGED', message: /another fleet/ })
})

test('the former goes without a removal, and never comes back', (t) => {
  const after = next([say(known.root)])
  t.notThrows(() => requireFollows(known.membership, after, known.rootKey))
  t.throws(() => requireFollows(known.membership, next([]), known.rootKey), { code: 'FORGED' }, 'else it takes one')
  t.throws(() => next([say(known.root)], [...heirs, member(known.appliance, 'again', 'appliance')]), {
    code: 'FORGED',
    message: /whose place another took/,
  })
  t.throws(() => requireFollows(after, next([], heirs, 10), known.rootKey), {
    code: 'FORGED',
    message: /leaves out who/,
  })
})

test('what an admin said of a place is said again by who ends him, and by the root in the next term', (t) => {
  const before = withAdmin([say(admin)])
  const [one] = before.admins
  const { replacements } = makeDismissal(before, one as (typeof before.admins)[number], known.root)
  t.deepEqual(replacements, [say(known.root)])
  const after = next(replacements, heirs, 10)
  t.is(after.line.heirOf(former), taken)
  const root = { secret: known.root, rootKey: known.rootKey, rootSealing: sealingOf(known.root) }
  const term2 = moveEnroller(before, [hostOf(known.coordinator)], root)
  t.is(term2.term, 2)
  t.deepEqual(term2.line.texts, [say(known.root)])
})

test('a place is taken once, and hosts do not take each other\u2019s', (t) => {
  const third = hostOf(Secret.random())
  t.throws(() => next([say(known.root), say(known.root, former, third)]), { code: 'CORRUPT', message: /twice/ })
  t.throws(() => next([say(known.root, third, taken), say(known.root, taken, third)]), {
    code: 'CORRUPT',
    message: /each other/,
  })
})

test('a line is followed to its end and to its beginning, in each direction', (t) => {
  const [a, b, c, d] = ['a', 'b', 'c', 'd'] as const
  const line = new Line([
    { fleet, former: b, heir: c, text: '2', signer: 'r' },
    { fleet, former: a, heir: b, text: '1', signer: 'r' },
  ])
  t.deepEqual(
    [a, b, c, d].map((one) => line.heirOf(one)),
    [c, c, c, d],
  )
  t.deepEqual(
    [a, c, d].map((one) => line.originOf(one)),
    [a, a, d],
  )
  t.deepEqual(line.of(a).toSorted(), [a, b, c])
  t.deepEqual(line.of(d), [d])
  t.deepEqual(Line.union([line, new Line([{ fleet, former: d, heir: a, text: '3', signer: 'r' }])]).texts, [
    '2',
    '1',
    '3',
  ])
})

test('peers go on to keep the keys of a former server, and a new term carries the place on', (t) => {
  const after = next([say(known.root)])
  const to = { fleet, term: 1, purpose: 'manifest' as const, owner: former, reader: former }
  const entry = sealEntry(Secret.random(), { ...to, readerSealing: sealingOf(known.appliance) }, known.appliance)
  const kept = (by: Membership) => mayBeKept(former, readEntry(entry).entry, by, known.rootKey)
  t.true(kept(after))
  t.false(kept(open(signPlain({ ...known.body, hosts: others }, known.coordinator))), 'of who is simply none')
  const root = { ...deriveRoot(Secret.random()), secret: known.root, rootKey: known.rootKey }
  const keys = { domain: Secret.random(), catalog: Secret.random(), appliances: new Map() }
  const { membership } = succeed(after, keys, root, { name: 'new' }, Secret.random())
  t.is(membership.term, 2)
  t.is(membership.line.heirOf(former), taken)
})
