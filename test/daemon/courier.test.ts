import test from 'ava'
import type { Delivery } from '../../src/catalog/deliveries.js'
import { Courier, dueDocuments } from '../../src/daemon/courier.js'
import { tlsIdentity } from '../../src/keys/certificate.js'
import { entryName, makeKey, readEntry, sealToRecovery } from '../../src/keys/entry.js'
import type { Home } from '../../src/keys/home.js'
import { openMembership } from '../../src/keys/membership.js'
import { Secret } from '../../src/native.js'
import { PeerClient } from '../../src/peers/client.js'
import { Connection } from '../../src/wire/client.js'
import { eventually, TestFleet } from '../fleet/fleet.js'
import { fleet as fleetId, member, sealingOf, signPlain } from '../keys/fleet.js'
import { startPeer } from '../peers/peer.js'

const HOUR = 3_600_000
const document = (kind: Delivery['kind'], name: string, version: string) => ({ kind, name, version })
const known = (kind: Delivery['kind'], name: string, version: string, refused: string | null = null, due = HOUR) => {
  return { kind, name, version, due, refused }
}

test('due is what a peer has not seen in that version, what an hour is over for, and after a new membership what it refused', (t) => {
  const documents = [document('membership', 'f', '1.4'), document('key', 'a', '2'), document('key', 'b', '2')]
  const due = (last: Delivery[], now = 1000) => dueDocuments(documents, last, now).map(({ name }) => name)
  const taken = [known('membership', 'f', '1.4'), known('key', 'a', '2'), known('key', 'b', '2')]
  t.deepEqual(due([]), ['f', 'a', 'b'])
  t.deepEqual(due(taken), [])
  t.deepEqual(due(taken, HOUR), ['f', 'a', 'b'])
  t.deepEqual(due(taken, -1), ['f', 'a', 'b'], 'a clock that was turned back')
  t.deepEqual(due([known('membership', 'f', '1.4'), known('key', 'a', '1'), known('key', 'b', '2')]), ['a'])
  const refused = known('key', 'a', '2', 'its signer may not')
  t.deepEqual(due([known('membership', 'f', '1.4'), refused, known('key', 'b', '2')]), [])
  t.deepEqual(due([known('membership', 'f', '1.3'), refused, known('key', 'b', '2')]), ['f', 'a'])
})

test('behind a key that a peer refuses the others arrive; the refusal is said once, and not tried every second', async (t) => {
  const fleet = await TestFleet.found(t)
  const coordinator = await fleet.coordinator()
  const pc = await fleet.add('pc-1', 'peer')
  const server = await fleet.add('server', 'appliance')
  const peer = await fleet.peer(pc)
  await eventually(t, 'its address is known', () => {
    return fleet.home.membership().find(pc.host) !== undefined
  })
  await coordinator.close()
  const { rootSealing, secret } = fleet.home
  const maker = (identity: typeof secret) => ({ fleet: fleet.home.fleet, term: 1, rootSealing, identity })
  // Of a host that is no member; a second entry of a key of the appliance, which had first sent junk; its own, sealed anew.
  const stranger = makeKey('manifest', maker(Secret.random()))[1] as Buffer
  const [manifest, domain] = [server.manifestKey, fleet.home.domainKey]
  if (!manifest || !domain) return t.fail()
  const junk = sealToRecovery('manifest', manifest, {
    ...maker(server.secret),
    rootSealing: sealingOf(Secret.random()),
  })
  const genuine = sealToRecovery('manifest', manifest, maker(server.secret))
  const before = sealToRecovery('domain', domain, maker(secret))
  const again = sealToRecovery('domain', domain, maker(secret))
  const own = sealToRecovery('catalog', fleet.home.catalogKey as typeof secret, maker(secret))
  const connection = new Connection({ tls: fleet.home.tls, addresses: [peer.address], host: pc.host })
  fleet.closing({ close: async () => connection.close() })
  const client = new PeerClient(pc.host, 'pc-1', connection)
  await client.sendDocument('membership', fleet.home.fleet, fleet.home.membership().bytes).catch(() => {})
  for (const bytes of [junk, before]) await client.sendDocument('key', nameOf(bytes), bytes).catch(() => {})
  const last = new Map<string, Delivery>()
  const refusals: string[] = []
  const reports: string[] = []
  let tried = 0
  const courier = new Courier({
    home: fleet.home,
    clock: fleet.clock,
    lastSeen: () => new Map([[pc.host, fleet.clock.now()]]),
    keys: () => [stranger, genuine, again, own].map((bytes) => ({ name: nameOf(bytes), sequence: 4, bytes })),
    addresses: () => new Map([[pc.host, [peer.address]]]),
    statements: () => [],
    orders: () => [],
    steps: () => [],
    deliveries: {
      of: () => [...last.values()],
      note(_host, delivery) {
        tried++
        last.set(delivery.kind === 'key' ? delivery.name : delivery.kind, delivery)
      },
    },
    onRefusal: (to, kind, name, why) => refusals.push(`${to.name} ${kind} ${name} ${why}`),
    report: (what, error) => reports.push(`${what}: ${String(error)}`),
  })
  courier.start()
  fleet.closing(courier)
  await eventually(t, 'the key behind them arrived', () => last.get(nameOf(own))?.refused === null)
  t.regex(last.get(nameOf(stranger))?.refused ?? '', /may not write a key/)
  t.regex(
    last.get(nameOf(genuine))?.refused ?? '',
    /another entry of that key/,
    'it may be junk: nobody here can see it',
  )
  t.is(last.get(nameOf(again))?.refused, null, 'what this host sealed before is as good')
  t.deepEqual(await client.fetchDocument('key', nameOf(own)), own)
  const triedBefore = tried
  fleet.clock.skipped += 30_000
  for (let round = 0; round < 3; round++) {
    courier.wake()
    await new Promise((done) => setTimeout(done, 50))
  }
  t.is(tried, triedBefore, 'what is known is not tried again')
  fleet.clock.skipped += HOUR
  courier.wake()
  await eventually(t, 'after an hour it is', () => tried >= triedBefore + 5)
  t.is(refusals.length, 2)
  t.true(refusals[0]?.startsWith(`pc-1 key ${nameOf(stranger)}`))
  t.deepEqual(reports, [])
})

test('a peer refuses a membership without most peers, and the coordinator is told; step by step it follows', async (t) => {
  const peer = await startPeer(t)
  const { body, coordinator, root, rootKey } = peer.fleet
  const others = ['a', 'b', 'c', 'd'].map((name) => member(Secret.random(), name, 'peer'))
  const of = (sequence: number, left: number) => {
    const hosts = [...body.hosts, ...others.slice(0, left)]
    return openMembership(
      signPlain({ ...body, sequence, hosts, gone: others.slice(left) }, coordinator),
      fleetId,
      rootKey,
    )
  }
  await peer.client(root).sendDocument('membership', fleetId, of(2, 4).bytes)
  const newest = of(6, 0)
  const tls = tlsIdentity(coordinator)
  const home = { fleet: fleetId, rootKey, tls, host: tls.host, membership: () => newest } as unknown as Home
  const bring = async (steps: readonly { bytes: Buffer }[]) => {
    const [notes, refusals]: [Delivery[], string[]] = [[], []]
    const courier = new Courier({
      home,
      clock: { now: () => Date.now() },
      lastSeen: () => new Map([[peer.host, Date.now()]]),
      keys: () => [],
      addresses: () => new Map([[peer.host, [peer.address]]]),
      statements: () => [],
      orders: () => [],
      steps: () => steps,
      deliveries: { of: () => notes, note: (_host, delivery) => void notes.push(delivery) },
      onRefusal: (_peer, kind, _name, why) => void refusals.push(`${kind}: ${why}`),
      report: () => {},
    })
    courier.start()
    await eventually(t, 'it was brought', () => notes.length > 0)
    await courier.close()
    return refusals
  }
  t.deepEqual(await bring([]), [
    'membership: The coordinator signed a membership without 4 of 5 peers: so many do not leave at once',
  ])
  t.is(peer.adopted.length, 1)
  t.deepEqual(await bring([of(3, 3), of(4, 2), of(5, 1), newest]), [])
  t.deepEqual(peer.adopted.at(-1), newest.bytes)
})

const nameOf = (entry: Buffer) => entryName(readEntry(entry).entry)
