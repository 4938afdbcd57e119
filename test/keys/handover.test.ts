import test from 'ava'
import { type CheckpointBody, openCheckpoint, signCheckpoint } from '../../src/keys/checkpoint.js'
import { isFormer } from '../../src/keys/delegation.js'
import { listDuties, moveEnroller } from '../../src/keys/duties.js'
import { makeKey, mayBeKept, readEntry } from '../../src/keys/entry.js'
import { signHandover } from '../../src/keys/handover.js'
import { formerHolders, openMembership, requireFollows, signMembership } from '../../src/keys/membership.js'
import { deriveRoot } from '../../src/keys/root.js'
import { nextHandover, signHanded, takeUp } from '../../src/keys/take-up.js'
import { Secret, type SecretHandle } from '../../src/native.js'
import {
  delegate,
  fleet,
  hostOf,
  makeFleet,
  member,
  otherFleet,
  type PlainBody,
  sealingOf,
  signPlain,
} from './fleet.js'

const known = makeFleet()
const { root, rootKey, coordinator } = known
const [next, third, enroller] = [Secret.random(), Secret.random(), Secret.random()]
const as = { reader: hostOf(next), secret: next }
const open = (bytes: Uint8Array, reader = as) => openMembership(bytes, fleet, rootKey, reader)
const hosts = [...known.body.hosts, member(next, 'new', 'admin'), member(third, 'third', 'admin')]
const body: PlainBody = { ...known.body, hosts }
/** One machine holds all duties. */
const before = open(signPlain(body, coordinator))
const handed = () => signHanded(before, hostOf(next), coordinator).handed
const rootSealing = sealingOf(root)
const after = () => open(takeUp(before, handed(), rootSealing, next))

/** Where another host is the enroller. */
const apart = (() => {
  const duties = (['coordinator', 'holder'] as const).map((duty) => delegate(root, hostOf(coordinator), duty))
  const delegations = [...duties, delegate(root, hostOf(enroller), 'enroller')]
  const all = [...hosts, member(enroller, 'keeper', 'admin')]
  return open(signPlain({ ...body, delegations, hosts: all }, coordinator, enroller))
})()
const agree = (signer: SecretHandle, over: object = {}, of = apart) =>
  Buffer.from(signHandover({ ...nextHandover(of, hostOf(next)), ...over }, signer), 'base64')

test('with both words the new host is the coordinator, has its duties, and the old one is none any more', (t) => {
  const now = after()
  t.is(now.coordinator, hostOf(next))
  t.is(now.role(hostOf(next)), 'coordinator')
  t.is(now.find(hostOf(coordinator)), undefined)
  t.true(isFormer(now, hostOf(coordinator)))
  t.false(isFormer(now, hostOf(next)))
  t.deepEqual(now.enrollers, [hostOf(next)])
  t.deepEqual(
    now.hosts.map(({ name }) => name),
    ['server', 'pc-1', 'new', 'third'],
  )
  t.true(now.hosts.every(({ host }) => now.parts.admittedBy.get(host) === hostOf(next)))
  t.notThrows(() => requireFollows(before, now, rootKey))
  t.deepEqual(new Set(listDuties(now).duties.map(({ host }) => host)), new Set([hostOf(next)]))
})

test('what counts first is the handover: the old one may sign whatever number it likes', (t) => {
  const now = after()
  const late = open(signPlain({ ...body, sequence: 2 ** 53 - 1 }, coordinator))
  t.true(now.newerThan(late))
  t.false(late.newerThan(now))
  t.throws(() => requireFollows(now, late, rootKey), { code: 'FORGED', message: /gave its place/ })
  // Under its own name it says nothing in the new one's stead.
  const taken = signMembership({ ...now.draft(), sequence: 99 }, coordinator, [])
  t.throws(() => open(taken), { code: 'FORGED', message: /coordinator that it names/ })
})

test('a second handover goes on from the first; other ways from there are refused', (t) => {
  const now = after()
  const { handed: again } = signHanded(now, hostOf(third), next)
  const last = open(takeUp(now, again, rootSealing, third))
  t.is(last.coordinator, hostOf(third))
  t.is(last.handed, 2)
  t.deepEqual(last.enrollers, [hostOf(third)])
  t.notThrows(() => requireFollows(now, last, rootKey))
  t.notThrows(() => requireFollows(before, last, rootKey), 'who was away for both')
  // The first coordinator gives the place away once more, to another host.
  const { handed: twice } = signHanded(before, hostOf(third), coordinator)
  const other = open(takeUp(before, twice, rootSealing, third))
  t.throws(() => requireFollows(now, other, rootKey), { code: 'FORGED', message: /gave its place/ })
  t.throws(() => nextHandover(last, hostOf(next)), { code: 'USAGE' }, 'no member any more')
})

test('a handover without its enroller, by a stranger, replayed or changed is none', (t) => {
  const to = hostOf(next)
  const carry = (one: object) => {
    return signMembership({ ...apart.draft(), handovers: [one as never] }, next, [])
  }
  const refused = (one: object, message: RegExp) =>
    t.throws(() => open(carry(one)), { code: 'FORGED', message }, String(message))
  const whole = signHanded(apart, to, coordinator, agree(enroller)).handed
  t.is(open(carry(whole)).coordinator, to)
  const { consent: _, ...alone } = whole
  refused(alone, /lacks the word of an enroller/)
  const say = (signer: SecretHandle, over: object = {}) => signHandover({ ...nextHandover(apart, to), ...over }, signer)
  refused({ ...whole, consent: say(coordinator) }, /not signed by the enroller/)
  refused({ ...whole, consent: say(enroller, { to: hostOf(third) }) }, /not what the enroller agreed to/)
  refused({ ...whole, handover: say(enroller) }, /not signed by the coordinator/)
  refused({ ...whole, handover: say(next) }, /not signed by the coordinator/)
  refused({ ...whole, handover: say(coordinator, { from: hostOf(third) }) }, /not the coordinator/)
  refused({ ...whole, handover: say(coordinator, { term: 2 }) }, /another term/)
  refused({ ...whole, handover: say(coordinator, { fleet: otherFleet }) }, /another fleet/)
  refused({ ...whole, handover: say(coordinator, { number: 2 }) }, /is number 2/)
  refused({ ...whole, handover: say(coordinator, { to: hostOf(coordinator) }) }, /was the coordinator/)
  const own = delegate(root, hostOf(coordinator), 'holder')
  refused({ ...whole, enroller: own }, /no enroller of its term/)
  refused({ ...whole, enroller: delegate(root, hostOf(coordinator), 'enroller', 2) }, /no enroller of its term/)
  refused({ ...whole, enroller: delegate(coordinator, hostOf(coordinator), 'enroller') }, /root/)
  // The same words twice.
  const twice = signMembership({ ...apart.draft(), handovers: [whole, whole] }, next, [])
  t.throws(() => open(twice), { code: 'FORGED' })
})

test('the coordinator alone signs none where another host is the enroller; what that agreed to is for one host, once', (t) => {
  const to = hostOf(next)
  t.throws(() => signHanded(apart, to, coordinator), { code: 'NOT_ALLOWED', message: /keeper/ })
  t.throws(() => signHanded(apart, to, coordinator, agree(third)), { code: 'FORGED' })
  t.throws(() => signHanded(apart, hostOf(third), coordinator, agree(enroller)), { code: 'FORGED' })
  const { handed: one } = signHanded(apart, to, coordinator, agree(enroller))
  const now = open(takeUp(apart, one, rootSealing, next))
  t.deepEqual(now.enrollers, [hostOf(enroller)], 'who goes on letting hosts in')
  t.throws(() => signHanded(now, hostOf(third), next, agree(enroller)), { code: 'FORGED' }, 'an old word')
})

test('only a host that joined as admin can be the next one', (t) => {
  for (const host of [known.peer, known.appliance, coordinator, Secret.random()]) {
    t.throws(() => nextHandover(before, hostOf(host)), { code: 'USAGE' })
  }
})

test('a checkpoint of the new coordinator proves itself, and none of the old one in its stead', (t) => {
  const none = { count: 0, root: '00'.repeat(32) }
  const checkpoint: CheckpointBody = {
    ...{ fleet, term: 1, sequence: 5, previous: null, membership: '0e'.repeat(32), heads: none, removals: none },
    ...{ policy: null, time: 1, delegation: delegate(root, hostOf(coordinator), 'coordinator') },
  }
  const signed = (signer: SecretHandle, over: object = {}) =>
    openCheckpoint(signCheckpoint({ ...checkpoint, ...over }, signer), fleet, rootKey)
  t.is(signed(coordinator).handed, 0)
  t.is(signed(next, { handovers: [handed()] }).handed, 1)
  t.throws(() => signed(coordinator, { handovers: [handed()] }), { code: 'FORGED' })
  t.throws(() => signed(next), { code: 'FORGED' })
  t.throws(() => signed(next, { handovers: [] }), { code: 'CORRUPT' })
})

test('a new term begins without handovers; what each of them sealed as holder stays believed', (t) => {
  const now = after()
  const recovered = deriveRoot(Secret.random())
  const seal = (identity: SecretHandle) => makeKey('catalog', { fleet, term: 1, rootSealing, identity })
  for (const bytes of [...seal(next), ...seal(coordinator)]) {
    const { entry, signer } = readEntry(bytes)
    t.true(mayBeKept(signer, entry, now, rootKey))
  }
  const term2 = moveEnroller(now, [hostOf(third)], { secret: root, rootKey, rootSealing: recovered.rootSealing })
  t.like(term2, { term: 2, coordinator: hostOf(next), handed: 0 })
  t.true(term2.newerThan(now))
  t.is(formerHolders(now, root).length, 2)
  for (const bytes of [...seal(next), ...seal(coordinator)]) {
    const { entry, signer } = readEntry(bytes)
    t.true(mayBeKept(signer, entry, term2, rootKey))
  }
})
