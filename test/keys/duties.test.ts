import test from 'ava'
import { listDuties, moveEnroller } from '../../src/keys/duties.js'
import { openMembership, requireFollows } from '../../src/keys/membership.js'
import { deriveRoot } from '../../src/keys/root.js'
import { Secret } from '../../src/native.js'
import { delegate, fleet, hostOf, makeFleet, signPlain } from './fleet.js'

const { coordinator, appliance, peer, body } = makeFleet()
const root = deriveRoot(Secret.random())
const duties = ['coordinator', 'enroller', 'holder', 'pruner'] as const
const delegations = duties.map((duty) => delegate(root.secret, hostOf(coordinator), duty))
const before = openMembership(signPlain({ ...body, sequence: 40, delegations }, coordinator), fleet, root.rootKey, {
  reader: hostOf(coordinator),
  secret: coordinator,
})

test('one machine holds all duties, and that is said; the root gives one to others, in a new term', (t) => {
  t.true(listDuties(before).oneMachine)
  t.deepEqual(
    listDuties(before).duties.map(({ duty, name }) => `${duty} ${name}`),
    duties.map((duty) => `${duty} office`),
  )
  const next = moveEnroller(before, [hostOf(peer), hostOf(appliance), hostOf(peer)], root)
  t.like(next, { term: 2, sequence: 1, coordinator: hostOf(coordinator), signer: root.rootKey })
  t.deepEqual(next.hosts, before.hosts)
  t.deepEqual([...next.enrollers].sort(), [hostOf(peer), hostOf(appliance)].sort())
  const report = listDuties(next)
  t.false(report.oneMachine)
  t.deepEqual(
    report.duties.map(({ duty, name }) => `${duty} ${name}`),
    ['coordinator office', 'enroller pc-1', 'enroller server', 'holder office', 'pruner office'],
  )
  t.true(next.delegated(hostOf(coordinator), 'holder'))
  t.notThrows(() => requireFollows(before, next, root.rootKey))
  t.true(next.newerThan(before))
  t.true(listDuties(moveEnroller(next, [hostOf(coordinator)], root)).oneMachine, 'and back')
})

test('an enroller is a member; there are one to three', (t) => {
  t.throws(() => moveEnroller(before, [], root), { code: 'USAGE' })
  t.throws(() => moveEnroller(before, ['00'.repeat(32)], root), { code: 'USAGE', message: /member/ })
  const four = Array.from({ length: 4 }, () => hostOf(Secret.random()))
  t.throws(() => moveEnroller(before, four, root), { code: 'USAGE', message: /one to 3/ })
})
