import test from 'ava'
import { toHex } from '../../src/base/ids.js'
import { orderedBy } from '../../src/catalog/ordered.js'
import { signOrder } from '../../src/keys/orders.js'
import { hash, Secret } from '../../src/native.js'
import { fleet, hostOf } from '../keys/fleet.js'

const [anna, bert] = [Secret.random(), Secret.random()]
const appliance = hostOf(Secret.random())
const [one, two] = ['1a'.repeat(16), '2a'.repeat(16)]
const common = { fleet, term: 1, time: 5 }

const judgesOf = (...admins: (typeof anna)[]) => ({
  by: { fleet, term: 1, isAdmin: (signer: string) => admins.some((admin) => hostOf(admin) === signer) },
  nameOf: (signer: string) => (signer === hostOf(anna) ? 'anna' : 'bert'),
})

const hold = signOrder('hold', { ...common, appliance, snapshots: null }, bert)
const orders = {
  forget: [
    signOrder('forget', { ...common, appliance, snapshots: [one] }, anna),
    signOrder('forget', { ...common, appliance, snapshots: [two] }, Secret.random()),
    Buffer.from('no statement'),
  ],
  hold: [] as Buffer[],
  release: [] as Buffer[],
}
let asked = 0
const documents = {
  documents: (kind: string) => {
    asked++
    return orders[kind as keyof typeof orders].map((bytes) => ({ bytes }))
  },
  stampOf: () => Object.values(orders).flat().length.toString(),
}

test('what is shown is what admins of now said; a hold goes before a forget', (t) => {
  let judges = judgesOf(anna, bert)
  const ordered = orderedBy(() => judges)
  const of = (snapshot: string, whose = appliance) => ordered(documents)({ appliance: whose, snapshot })
  t.deepEqual(of(one), { what: 'forget', by: 'anna', time: 5 })
  t.is(of(two), undefined, "a stranger's word")
  t.is(of(one, hostOf(bert)), undefined, "another's snapshot of that id")
  t.is(asked, 3, 'looked at once')
  orders.hold.push(hold)
  t.deepEqual(of(one), { what: 'hold', by: 'bert', time: 5 })
  t.deepEqual(of(two), { what: 'hold', by: 'bert', time: 5 })
  orders.release.push(signOrder('release', { ...common, hold: toHex(hash(hold)) }, anna))
  t.is(of(one)?.what, 'forget')
  judges = judgesOf(bert)
  t.is(of(one)?.what, 'hold', 'of who was dismissed nothing counts, a release neither')
  t.is(orderedBy(() => undefined)(documents)({ appliance, snapshot: one }), undefined, 'no membership yet')
})
