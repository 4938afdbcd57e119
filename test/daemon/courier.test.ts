import test from 'ava'
import type { Delivery } from '../../src/catalog/deliveries.js'
import { Courier, dueDocuments } from '../../src/daemon/courier.js'
import { signKeybag } from '../../src/keys/keybag.js'
import { Secret, type SecretHandle } from '../../src/native.js'
import { PeerClient } from '../../src/peers/client.js'
import { Connection } from '../../src/wire/client.js'
import { eventually, TestFleet } from '../fleet/fleet.js'

const HOUR = 3_600_000
const document = (kind: Delivery['kind'], name: string, version: string) => ({ kind, name, version })
const known = (kind: Delivery['kind'], name: string, version: string, refused: string | null = null, due = HOUR) => {
  return { kind, name, version, due, refused }
}

test('due is what a peer has not seen in that version, what an hour is over for, and after a new membership what it refused', (t) => {
  const documents = [document('membership', 'f', '1.4'), document('keybag', 'a', '2'), document('keybag', 'b', '2')]
  const due = (last: Delivery[], now = 1000) => dueDocuments(documents, last, now).map(({ name }) => name)
  const taken = [known('membership', 'f', '1.4'), known('keybag', 'a', '2'), known('keybag', 'b', '2')]
  t.deepEqual(due([]), ['f', 'a', 'b'])
  t.deepEqual(due(taken), [])
  t.deepEqual(due(taken, HOUR), ['f', 'a', 'b'])
  t.deepEqual(due(taken, -1), ['f', 'a', 'b'], 'a clock that was turned back')
  t.deepEqual(due([known('membership', 'f', '1.4'), known('keybag', 'a', '1'), known('keybag', 'b', '2')]), ['a'])
  const refused = known('keybag', 'a', '2', 'its signer may not')
  t.deepEqual(due([known('membership', 'f', '1.4'), refused, known('keybag', 'b', '2')]), [])
  t.deepEqual(due([known('membership', 'f', '1.3'), refused, known('keybag', 'b', '2')]), ['f', 'a'])
})

test('behind a bag that a peer refuses the others arrive; the refusal is said once, and not tried every second', async (t) => {
  const fleet = await TestFleet.found(t)
  const coordinator = await fleet.coordinator()
  const pc = await fleet.add('pc-1', 'peer')
  const peer = await fleet.peer(pc)
  await eventually(t, 'its address is known', () => {
    return fleet.home.membership().find(pc.host)?.addresses[0] === peer.address
  })
  await coordinator.close()
  const bag = (secret: SecretHandle, owner: string) => {
    return signKeybag({ fleet: fleet.home.fleet, sequence: 1, owner, entries: [] }, secret)
  }
  // Of a host that is no member, and first in order; then one that the peer takes.
  const gone = Secret.random()
  const nobody = gone.signingKey().toString('hex')
  const own = fleet.home.keybag()
  const last = new Map<string, Delivery>()
  const refusals: string[] = []
  const reports: string[] = []
  let tried = 0
  const courier = new Courier({
    home: fleet.home,
    clock: fleet.clock,
    lastSeen: () => new Map([[pc.host, fleet.clock.now()]]),
    keybags: () => [
      { name: nobody, sequence: 1, bytes: bag(gone, nobody) },
      { name: fleet.home.host, sequence: 4, bytes: own },
    ],
    deliveries: {
      of: () => [...last.values()],
      note(_host, delivery) {
        tried++
        last.set(delivery.name, delivery)
      },
    },
    onRefusal: (to, kind, name, why) => refusals.push(`${to.name} ${kind} ${name} ${why}`),
    report: (what, error) => reports.push(`${what}: ${String(error)}`),
  })
  courier.start()
  fleet.closing(courier)
  await eventually(t, 'the bag behind it arrived', () => last.get(fleet.home.host)?.refused === null)
  t.regex(last.get(nobody)?.refused ?? '', /may not write a keybag/)
  const connection = new Connection({ tls: fleet.home.tls, addresses: [peer.address], host: pc.host })
  fleet.closing({ close: async () => connection.close() })
  t.deepEqual(await new PeerClient(pc.host, 'pc-1', connection).fetchDocument('keybag', fleet.home.host), own)
  const before = tried
  fleet.clock.skipped += 30_000
  for (let round = 0; round < 3; round++) {
    courier.wake()
    await new Promise((done) => setTimeout(done, 50))
  }
  t.is(tried, before, 'what is known is not tried again')
  fleet.clock.skipped += HOUR
  courier.wake()
  await eventually(t, 'after an hour it is', () => tried >= before + 3)
  t.is(refusals.length, 1)
  t.true(refusals[0]?.startsWith(`pc-1 keybag ${nobody}`))
  t.deepEqual(reports, [])
})
