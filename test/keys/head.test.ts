import test from 'ava'
import * as v from 'valibot'
import { type Head, openHead, readHead, signHead } from '../../src/keys/head.js'
import { openStatement, signStatement } from '../../src/keys/statement.js'
import { Secret } from '../../src/native.js'
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
const key = Secret.random()
const open = (change: object) => openHead(signHead({ ...head, ...change }, known.appliance, key), fleet, () => [key])
const root = (change: object) => ({ root: { ...head.root, ...change } })

test('its appliance signs it, for its fleet', (t) => {
  t.deepEqual(open({}), head)
  const signed = signHead(head, known.appliance, key)
  const { appliance, snapshot, references } = head
  t.deepEqual(readHead(signed, fleet), { fleet, appliance, snapshot, references })
  for (const read of [readHead, (bytes: Buffer, of: string) => openHead(bytes, of, () => [key])]) {
    t.throws(() => read(signHead(head, known.peer, key), fleet), { code: 'FORGED', message: /appliance/ })
    t.throws(() => read(signed, otherFleet), { code: 'FORGED' })
  }
})

test('its inside opens with the key of its appliance, and for its own snapshot', (t) => {
  const signed = signHead(head, known.appliance, key)
  t.throws(() => openHead(signed, fleet, () => [Secret.random()]), { code: 'FORGED' })
  t.throws(() => openHead(signed, fleet, () => []), { code: 'NOT_ALLOWED' })
  const asked: string[] = []
  openHead(signed, fleet, (appliance) => {
    asked.push(appliance)
    return [Secret.random(), key]
  })
  t.deepEqual(asked, [head.appliance])
  const { body } = openStatement('head', v.looseObject({ sealed: v.string() }), signed)
  const moved = (change: object) => signStatement('head', { ...body, ...change }, known.appliance)
  t.deepEqual(
    openHead(moved({}), fleet, () => [key]),
    head,
  )
  t.throws(() => openHead(moved({ snapshot: '09'.repeat(16) }), fleet, () => [key]), { code: 'FORGED' })
  t.throws(() => openHead(moved({ sealed: '' }), fleet, () => [key]), { code: 'FORGED' })
  t.throws(() => readHead(moved({ volume: head.volume }), fleet), { code: 'CORRUPT' }, 'nothing else is in clear')
  const inside = (text: string) => {
    const about = Buffer.concat([Buffer.from(head.snapshot, 'hex'), Buffer.alloc(16)])
    return moved({ sealed: key.derive('imager v1 head').sealRecord(about, Buffer.from(text)).toString('base64') })
  }
  for (const text of ['', 'noise', '{}', '[]'])
    t.throws(() => openHead(inside(text), fleet, () => [key]), { code: 'CORRUPT' })
  const bomb = inside(' '.repeat(1_000_000))
  t.true(bomb.length < 2000)
  t.throws(() => openHead(bomb, fleet, () => [key]), { code: 'FORGED' }, 'no more is unpacked than a head may have')
  for (const text of [head.volume, String(head.time), 'stripe', hostOf(known.peer)])
    t.false(signed.includes(text), text)
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
