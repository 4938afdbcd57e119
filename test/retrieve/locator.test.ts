import test from 'ava'
import { Locator } from '../../src/retrieve/locator.js'

/** Stripe 5 holds three records, 6 is told by signature only; who asked what is listed. */
function catalogOf() {
  const asked: unknown[] = []
  return {
    asked,
    async records(stripes: readonly number[]) {
      asked.push(['records', ...stripes])
      return stripes.map((stripe) => (stripe === 5 ? Uint32Array.of(100, 50, 70) : new Uint32Array()))
    },
    async locate(ids: Uint8Array) {
      const words = Array.from({ length: ids.length / 32 }, (_, at) => ids[at * 32] as number)
      asked.push(['locate', ...words])
      const stripes = BigUint64Array.from(words, (word) => (word === 99 ? 0n : 8n))
      return { stripes, offsets: Uint32Array.from(words), lengths: Uint32Array.from(words, () => 33) }
    },
  }
}

const birthsOf = (...births: (readonly [number, number])[]) =>
  BigUint64Array.from(births, ([stripe, ordinal]) => (BigInt(stripe) << 16n) | BigInt(ordinal))
const idsOf = (words: readonly number[]) => () => Buffer.concat(words.map((word) => Buffer.alloc(32, word)))

test('a birth number alone says where its record lies', async (t) => {
  const catalog = catalogOf()
  const locator = new Locator(catalog)
  const births = birthsOf([5, 2], [5, 0], [5, 2])
  const found = await locator.of(births, () => t.fail() as never)
  t.deepEqual(found, {
    stripes: Float64Array.of(5, 5, 5),
    offsets: Uint32Array.of(166, 16, 166),
    lengths: Uint32Array.of(70, 100, 70),
  })
  await locator.of(births, idsOf([]))
  t.deepEqual(catalog.asked, [['records', 5]], 'asked once')
})

test('what is not told by stripe is asked for by its signature; what nobody knows has stripe 0', async (t) => {
  const catalog = catalogOf()
  const found = await new Locator(catalog).of(birthsOf([6, 1], [5, 1], [5, 3], [7, 0]), idsOf([11, 12, 13, 99]))
  t.deepEqual(found, {
    stripes: Float64Array.of(8, 5, 8, 0),
    offsets: Uint32Array.of(11, 116, 13, 99),
    lengths: Uint32Array.of(33, 50, 33, 33),
  })
  t.deepEqual(catalog.asked, [
    ['records', 6, 5, 7],
    ['locate', 11, 13, 99],
  ])
})

test('a failed question is asked again', async (t) => {
  const catalog = catalogOf()
  let failures = 1
  const records = async (stripes: readonly number[]) => {
    if (failures-- > 0) throw new Error('no answer')
    return catalog.records(stripes)
  }
  const locator = new Locator({ ...catalog, records })
  await t.throwsAsync(locator.of(birthsOf([5, 0], [6, 0]), idsOf([1, 2])))
  t.is((await locator.of(birthsOf([5, 0]), idsOf([1]))).offsets[0], 16)
})
