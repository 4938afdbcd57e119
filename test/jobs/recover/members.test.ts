/** Who belongs to the fleet that the words take over, whatever its last coordinator signed. */
import test from 'ava'
import { toHex } from '../../../src/base/ids.js'
import { everybody, newestFirst, whoIsMissed, whoReturns, withReturned } from '../../../src/jobs/recover/members.js'
import { appoint, signDismissal } from '../../../src/keys/admins.js'
import { type Membership, type MembershipHost, openMembership } from '../../../src/keys/membership.js'
import { hash, Secret } from '../../../src/native.js'
import { delegate, fleet, hostOf, makeFleet, member, sealingOf, signPlain } from '../../keys/fleet.js'

const known = makeFleet()
const [office, server] = known.body.hosts as [MembershipHost, MembershipHost]
const peers = Array.from({ length: 8 }, (_, index) => member(Secret.random(), `pc-${index}`, 'peer'))
// The appliance is not in all of them.
const as = { reader: hostOf(known.coordinator), secret: known.coordinator }
const open = (bytes: Buffer) => openMembership(bytes, fleet, known.rootKey, as)
const of = (sequence: number, hosts: MembershipHost[], more: object = {}): Membership =>
  open(signPlain({ ...known.body, sequence, hosts: [office, ...hosts], ...more }, known.root))
const names = (hosts: readonly MembershipHost[]) => hosts.map(({ name }) => name).sort()
const all = () => true
const LAST = 2 ** 53 - 1

test('peers that the newest hides come back where they answer, and their server with them', (t) => {
  const honest = of(4, [server, ...peers])
  const versions = newestFirst([honest, of(LAST, [])])
  t.is(versions[0]?.sequence, LAST)
  const up = new Set(peers.slice(0, 5).map(({ host }) => host))
  const { always, ifMissed } = whoReturns(versions, (host) => up.has(host))
  t.deepEqual(names(always), ['pc-0', 'pc-1', 'pc-2', 'pc-3', 'pc-4', 'server'])
  t.deepEqual(ifMissed, [])
  t.is(whoIsMissed(versions).size, 8)
  const united = withReturned(versions, always)
  t.deepEqual(names(united.hosts), ['office', ...names(always)])
  t.is(united.sequence, LAST)
  t.is(united.role(server.host), 'appliance')
})

test('hidden step by step, each within what peers take, is hidden all the same', (t) => {
  const versions = newestFirst([8, 4, 2, 1].map((left, at) => of(4 + at, [server, ...peers.slice(0, left)])))
  t.is(whoReturns(versions, all).always.length, 7)
})

test('a removal stands unless something that is backed up misses the host; a role that was changed is one', (t) => {
  const before = of(4, [server, ...peers])
  const without = newestFirst([before, of(5, [server, ...peers.slice(1)])])
  t.deepEqual(whoReturns(without, all).always, [])
  t.deepEqual(names(whoReturns(without, all).ifMissed), ['pc-0'])
  t.deepEqual(whoReturns(without, () => false).ifMissed, [], 'who does not answer does not come back')
  t.false(whoIsMissed(without).has(peers[0]?.host ?? ''))
  const admins = peers.map((one) => ({ ...one, role: 'admin' as const }))
  const changed = newestFirst([before, of(5, [server, ...admins])])
  t.is(whoReturns(changed, all).always.length, 8)
  t.is(withReturned(changed, whoReturns(changed, all).always).role(peers[3]?.host ?? ''), 'peer')
})

test('an earlier term brings nobody back, and still tells who wrote and who held keys', (t) => {
  const next = Secret.random()
  const duties = (['coordinator', 'enroller'] as const).map((duty) => delegate(known.root, hostOf(next), duty, 2))
  const spare = member(next, 'spare', 'coordinator')
  const second = of(1, [], { term: 2, delegations: duties, hosts: [spare, ...peers.slice(0, 1)] })
  const versions = newestFirst([of(LAST, [server, ...peers]), second])
  t.deepEqual(whoReturns(versions, all), { always: [], ifMissed: [] })
  t.is(everybody(versions).role(server.host), 'appliance')
  t.is(everybody(versions).role(peers[7]?.host ?? ''), 'peer')
  const holder = everybody(versions).delegations.find(({ duty }) => duty === 'holder')
  t.is(holder?.host, hostOf(known.coordinator))
})

test('who writes is known as that, also where the newest calls it a peer; names stay unique', (t) => {
  const versions = newestFirst([
    of(4, [server, ...peers]),
    of(5, [
      { ...server, role: 'peer' },
      { ...server, host: '0'.repeat(64), name: 'pc-1' },
    ]),
  ])
  t.is(everybody(versions).role(server.host), 'appliance')
  const united = withReturned(versions, whoReturns(versions, all).always)
  t.is(new Set(united.hosts.map(({ name }) => name)).size, united.hosts.length)
  t.is(united.hosts.filter(({ host }) => host === server.host).length, 1)
})

test('admins are those of any version of the term, but for whom one of them dismisses', (t) => {
  const [anna, otto] = [Secret.random(), Secret.random()]
  const listed = (key: typeof anna, name: string) => {
    const delegation = appoint(hostOf(key), { fleet, term: 1 }, known.root)
    return { delegation: delegation.toString('base64'), sealing: sealingOf(key), name }
  }
  const [first, second] = [listed(anna, 'Anna'), listed(otto, 'Otto')]
  const delegation = toHex(hash(Buffer.from(first.delegation, 'base64')))
  const dismissal = signDismissal({ fleet, term: 1, admin: hostOf(anna), delegation }, known.root)
  const admins = (...versions: Membership[]) => {
    return withReturned(newestFirst(versions), []).admins.map(({ name }) => name)
  }
  const both = of(4, [server], { admins: [first, second] })
  t.deepEqual(admins(of(LAST, [server]), both), ['Anna', 'Otto'], 'a coordinator in foreign hands left them out')
  const ended = of(5, [server], { admins: [second], dismissals: [dismissal.toString('base64')] })
  t.deepEqual(admins(of(LAST, [server]), both, ended), ['Otto'])
  t.deepEqual(admins(ended, both), ['Otto'])
})
