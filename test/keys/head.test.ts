import test from 'ava'
import { type Head, openHead, signHead } from '../../src/keys/head.js'
import { fleet, hostOf, makeFleet, otherFleet } from './fleet.js'

const known = makeFleet()
const head: Head = {
  fleet,
  appliance: hostOf(known.appliance),
  volume: '01'.repeat(16),
  sequence: 1,
  snapshot: '02'.repeat(16),
  parent: null,
  time: 1_800_000_000_000,
  root: {
    key: Buffer.alloc(48).toString('base64'),
    ...{ writer: hostOf(known.appliance), run: '0123456789abcdef', number: 2 ** 24 - 1, ordinal: 65_535 },
    k: 2,
    m: 1,
    packBytes: 1000,
    offset: 900,
    length: 100,
    shards: [{ index: 2, host: hostOf(known.peer) }],
  },
  references: '03'.repeat(32),
}
const open = (change: object) => openHead(signHead({ ...head, ...change }, known.appliance), fleet)
const root = (change: object) => ({ root: { ...head.root, ...change } })

test('its appliance signs it, for its fleet', (t) => {
  t.deepEqual(open({}), head)
  t.throws(() => openHead(signHead(head, known.peer), fleet), { code: 'FORGED', message: /appliance/ })
  t.throws(() => openHead(signHead(head, known.appliance), otherFleet), { code: 'FORGED' })
})

test('figures that cannot be are refused', (t) => {
  t.throws(() => open(root({ k: 0 })), { code: 'CORRUPT' })
  t.throws(() => open(root({ k: 20, m: 20 })), { code: 'CORRUPT', message: /too wide/ })
  t.throws(() => open(root({ offset: 901 })), { code: 'CORRUPT', message: /outside its pack/ })
  t.throws(() => open(root({ shards: [] })), { code: 'CORRUPT' })
  t.throws(() => open(root({ shards: [{ index: 3, host: hostOf(known.peer) }] })), { code: 'CORRUPT' })
  t.throws(() => open(root({ shards: [...head.root.shards, ...head.root.shards] })), { message: /twice/ })
  t.throws(() => open(root({ birth: '-1' })), { code: 'CORRUPT', message: /birth/ })
  t.throws(() => open({ sequence: 0 }), { code: 'CORRUPT' })
})
