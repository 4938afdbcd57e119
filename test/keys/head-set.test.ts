import { randomBytes } from 'node:crypto'
import test from 'ava'
import fc from 'fast-check'
import { decodeHeadIds, encodeHeadId, HEAD_ID_BYTES, HeadSet } from '../../src/keys/head-set.js'

const ids = (count: number) => randomBytes(count * HEAD_ID_BYTES)

test('the root is of the set: neither order, nor repetition, nor the way to it counts', (t) => {
  const id = fc.uint8Array({ minLength: HEAD_ID_BYTES, maxLength: HEAD_ID_BYTES })
  fc.assert(
    fc.property(fc.array(id, { maxLength: 40 }), fc.array(fc.nat(), { maxLength: 40 }), (all, order) => {
      const shuffled = [...all, ...order.flatMap((at) => all[at % Math.max(1, all.length)] ?? [])].reverse()
      const at = Math.floor(shuffled.length / 2)
      const stepwise = HeadSet.empty.with(Buffer.concat(shuffled.slice(0, at))).with(Buffer.concat(shuffled.slice(at)))
      const once = HeadSet.empty.with(Buffer.concat(all))
      t.is(stepwise.root, once.root)
      t.is(stepwise.size, new Set(all.map((one) => Buffer.from(one).toString('hex'))).size)
      t.deepEqual(stepwise.bytes(), once.bytes())
      t.is(once.without(stepwise).length, 0)
    }),
  )
})

test('one more, one less, another one: another root; and what is missing is named', (t) => {
  const set = HeadSet.empty.with(ids(300))
  const more = set.with(ids(1))
  t.not(more.root, set.root)
  t.is(more.without(set).length, HEAD_ID_BYTES)
  t.is(set.without(more).length, 0)
  t.not(HeadSet.empty.with(ids(1)).root, HeadSet.empty.with(ids(1)).root)
  t.is(set.with(Buffer.alloc(0)), set)
})

test('what is no list of ids is refused', (t) => {
  t.throws(() => HeadSet.empty.with(Buffer.alloc(47)), { code: 'PROTOCOL' })
  t.throws(() => HeadSet.empty.with(Buffer.alloc(300_001 * HEAD_ID_BYTES)), { code: 'PROTOCOL' })
})

test('ids come back as they went', (t) => {
  const one = { appliance: 'ab'.repeat(32), snapshot: 'cd'.repeat(16) }
  const other = { appliance: '01'.repeat(32), snapshot: '23'.repeat(16) }
  t.deepEqual(decodeHeadIds(Buffer.concat([encodeHeadId(one), encodeHeadId(other)])), [one, other])
})
