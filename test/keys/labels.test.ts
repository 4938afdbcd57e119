import test from 'ava'
import { LabelKey, WORDS, withoutLabel } from '../../src/keys/labels.js'
import { Secret } from '../../src/native.js'
import { fleet, hostOf, otherFleet, sealingOf } from './fleet.js'

const [server, pc] = [Secret.random(), Secret.random()]
const label = { name: 'Büro', domain: 'room 3' }

test('names open for whom they are sealed, and for nobody else', (t) => {
  const key = LabelKey.make()
  const readers = [
    { reader: hostOf(server), sealing: sealingOf(server) },
    { reader: WORDS, sealing: sealingOf(pc) },
  ]
  const names = key.sealTo(readers, fleet)
  const sealed = key.seal(hostOf(pc), label)
  for (const as of [
    { reader: hostOf(server), secret: server },
    { reader: WORDS, secret: pc },
  ]) {
    t.deepEqual(LabelKey.open(names, fleet, as)?.open(hostOf(pc), sealed), label)
  }
  t.is(LabelKey.open(names, fleet, { reader: hostOf(pc), secret: pc }), undefined, 'not for it')
  t.is(LabelKey.open(names, fleet, { reader: hostOf(server), secret: pc }), undefined, 'not its secret')
  t.is(LabelKey.open(names, otherFleet, { reader: hostOf(server), secret: server }), undefined)
  t.is(key.open(hostOf(server), sealed), undefined, "another host's label")
  t.is(LabelKey.make().open(hostOf(pc), sealed), undefined)
  const changed = Buffer.from(sealed, 'base64')
  changed.writeUInt8(changed.readUInt8(3) ^ 1, 3)
  for (const wrong of [changed.toString('base64'), '', 'AAAA']) t.is(key.open(hostOf(pc), wrong), undefined)
  t.deepEqual(withoutLabel('ab'.repeat(32)), { name: 'abababab', domain: 'ab'.repeat(32) })
})

test('the length of a label tells no name', (t) => {
  const key = LabelKey.make()
  const lengths = ['a', 'a long name of a host'].map((name) => key.seal(hostOf(pc), { name, domain: 'd' }).length)
  t.is(lengths[0], lengths[1])
})
