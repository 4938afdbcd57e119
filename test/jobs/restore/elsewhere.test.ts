/** Blocks of lost stripes that other stripes have too, which may be lost as well. */
import test from 'ava'
import { STRIPE_PAGE } from '../../../src/coordinator/calls.js'
import { areElsewhere, MOST_LOST } from '../../../src/jobs/restore/elsewhere.js'
import { ID_BYTES } from '../../../src/signatures/rows.js'

/** `places`: of each block the stripes that have it, its first one first. Even hosts are there. */
function stand(places: readonly (readonly number[])[], lost: readonly number[], hosts: Record<number, string> = {}) {
  const births = BigUint64Array.from(places, ([first], at) => (BigInt(first as number) << 16n) + BigInt(at))
  const ids = Buffer.concat(places.map((_, at) => Buffer.alloc(ID_BYTES, at)))
  const asked: number[][] = []
  const parts = {
    lost,
    absent: new Set(['off']),
    catalog: {
      stripes: async (numbers: readonly number[]) =>
        numbers.map((stripe) => {
          const shards = [{ index: 0, host: hosts[stripe] ?? 'there', shard: '', root: '' }]
          return { stripe, k: 1, m: 0, packBytes: 1, shards }
        }),
    },
    locator: {
      async elsewhere(some: BigUint64Array, wanted: Uint8Array, except: readonly number[]) {
        asked.push([...some].map((birth) => Number(birth & 0xffffn)))
        const stripes = Float64Array.from(some, (birth, nth) => {
          const at = Number(birth & 0xffffn)
          if (wanted[nth * ID_BYTES] !== at % 256) throw new Error('the id of another block')
          return places[at]?.find((stripe) => !except.includes(stripe)) ?? 0
        })
        return { stripes, offsets: new Uint32Array(some.length), lengths: new Uint32Array(some.length) }
      },
    },
  }
  return { asked, run: () => areElsewhere(births, ids, parts) }
}

test('blocks of stripes that are there are not asked for', async (t) => {
  const s = stand([[1], [2]], [3])
  t.true(await s.run())
  t.deepEqual(s.asked, [])
})

test('one block that is nowhere else is enough to say no', async (t) => {
  t.false(await stand([[1, 5], [2]], [1, 2]).run())
})

test('a place that is lost too gives way to the next, for its blocks alone', async (t) => {
  const hosts = { 5: 'off', 6: 'off' }
  const s = stand([[1, 5, 6, 7], [2, 8], [3]], [1, 2], hosts)
  t.true(await s.run())
  t.deepEqual(s.asked, [[0, 1], [0], [0]])
  t.false(await stand([[1, 5, 6]], [1], hosts).run())
})

test('a liar who says to hold everything, in stripe after stripe that nobody has, is given up', async (t) => {
  const places = [1, ...Array.from({ length: 2000 }, (_, at) => 10 + at)]
  const hosts = Object.fromEntries(places.slice(1).map((stripe) => [stripe, 'off']))
  const s = stand([places], [1], hosts)
  t.false(await s.run())
  t.is(s.asked.length, 32)
})

test('as many lost stripes as one question may except are looked for; of more nobody is asked', async (t) => {
  const lostOf = (count: number) => Array.from({ length: count }, (_, at) => at + 1)
  const placesOf = (count: number) => lostOf(count).map((stripe) => [stripe, 5000])
  const most = stand(placesOf(MOST_LOST), lostOf(MOST_LOST))
  t.true(await most.run())
  t.is(most.asked.length, 1)
  const more = stand(placesOf(MOST_LOST + 1), lostOf(MOST_LOST + 1))
  t.false(await more.run())
  t.deepEqual(more.asked, [])
  t.true(MOST_LOST <= STRIPE_PAGE, 'a coordinator takes the question')
})
