import { randomBytes } from 'node:crypto'
import test from 'ava'
import { BUCKETS_BYTES, Buckets } from '../../src/stripes/buckets.js'

const ids = Array.from({ length: 500 }, () => randomBytes(16))
const of = (some: readonly Buffer[]) => {
  const buckets = new Buckets()
  for (const id of some) buckets.change(id, 1)
  return buckets
}

test('the same shards have the same root, in whatever order they came and whatever went; others do not', (t) => {
  const all = of(ids)
  t.is(of([...ids].reverse()).root, all.root)
  const passing = of([...ids, randomBytes(16)].slice(0, 500))
  const guest = randomBytes(16)
  passing.change(guest, 1)
  passing.change(guest, -1)
  t.is(passing.root, all.root)
  const [lost, ...left] = ids as [Buffer, ...Buffer[]]
  t.not(of(left).root, all.root)
  t.deepEqual(of(left).differing(all), [lost[0] as number])
  t.deepEqual(
    of(left)
      .plus(of([lost]))
      .differing(all),
    [],
  )
  const other = Buffer.concat([lost.subarray(0, 1), randomBytes(15)])
  t.deepEqual(of([...left, other]).differing(all), [lost[0] as number], 'as many, and another')
})

test('they travel as 3,072 bytes, and nothing else is taken', (t) => {
  const all = of(ids)
  t.is(all.encode().length, BUCKETS_BYTES)
  t.is(Buckets.decode(all.encode()).root, all.root)
  t.throws(() => Buckets.decode(Buffer.alloc(BUCKETS_BYTES - 1)), { code: 'PROTOCOL' })
  all.clear(3)
  t.is(all.count(3), 0)
})
