import { readFileSync } from 'node:fs'
import test from 'ava'
import fc from 'fast-check'
import { hasCode } from '../../src/base/errors.js'
import { NamedBirths, referencedStripes } from '../../src/catalog/references.js'
import { ReferenceSet, Runs } from '../../src/native.js'
import { numberOf, runOf, stripeOf } from '../../src/stripes/names.js'

const golden = readFileSync(new URL('../../../fixtures/golden/references-v1.bin', import.meta.url))
const read = (bytes: Uint8Array) => referencedStripes(bytes, new Runs())

test('golden: the stripes of what the addon wrote', (t) => {
  const stripes = read(golden)
  const numbers = [0, 1].map((run) => stripes.filter((stripe) => runOf(stripe) === run + 1).map(numberOf))
  t.deepEqual(
    numbers.sort((a, b) => (a[0] as number) - (b[0] as number)),
    [
      [0, 2 ** 24 - 1],
      [5, 6],
    ],
  )
})

test('other versions and features are named, what is cut short is refused', (t) => {
  for (const at of [4, 6]) {
    const changed = Buffer.from(golden)
    changed.writeUInt16LE(2, at)
    t.throws(() => read(changed), { code: 'UNSUPPORTED' })
  }
  // A bitmap ends behind any of its runs; that it is whole is told by its hash.
  const ends = Array.from({ length: golden.length }, (_, length) => length).filter((length) => {
    try {
      return read(golden.subarray(0, length)).length < 4
    } catch (error) {
      t.true(hasCode(error, 'CORRUPT'), `${length} bytes`)
      return false
    }
  })
  t.is(ends.length, 2)
})

test('the stripes of any set of births are read back from what the addon wrote, in the order of names', (t) => {
  const birth = fc.tuple(
    fc.integer({ min: 1, max: 3 }),
    fc.integer({ min: 0, max: 2 ** 24 - 1 }),
    fc.integer({ min: 0, max: 65_535 }),
  )
  fc.assert(
    fc.property(fc.array(birth), (births) => {
      const runs = new Runs()
      for (const seed of [9, 4, 7]) runs.number(Buffer.alloc(40, seed))
      const set = new ReferenceSet()
      for (const [run, number, ordinal] of births) {
        set.addBirth((BigInt(stripeOf(run, number)) << 16n) | BigInt(ordinal))
      }
      const expected = [...new Set(births.map(([run, number]) => stripeOf(run, number)))].sort((a, b) => a - b)
      t.deepEqual(
        referencedStripes(set.encode(runs), runs).sort((a, b) => a - b),
        expected,
      )
      const [first, ...later] = read(set.encode(runs)).map(runOf)
      t.true(first === undefined || (first === 1 && later.every((run, at) => run >= (later[at - 1] ?? 1))))
    }),
  )
})

test('runs across a full stripe name both', (t) => {
  const runs = new Runs()
  const run = runs.number(Buffer.alloc(40, 1))
  const set = new ReferenceSet()
  const second = BigInt(stripeOf(run, 2)) << 16n
  for (let birth = second - 3n; birth < second + 3n; birth++) set.addBirth(birth)
  t.deepEqual(referencedStripes(set.encode(runs), runs), [stripeOf(run, 1), stripeOf(run, 2)])
})

test('damage is refused, and short bitmaps name no endless lists', (t) => {
  const header = Buffer.from('494d524601000000', 'hex')
  const named = (name: number, tail: string) => Buffer.concat([Buffer.alloc(40, name), Buffer.from(tail, 'hex')])
  const bad = [
    Buffer.alloc(0),
    header.subarray(0, 7),
    Buffer.concat([header, Buffer.of(0x80)]),
    Buffer.concat([header, named(1, '0100ffffffffffff0f')]),
    Buffer.concat([header, named(1, '00')]),
    Buffer.concat([header, named(1, '010000')]),
    Buffer.concat([header, named(2, '010001'), named(1, '010001')]),
    Buffer.concat([header, named(1, '010001'), named(1, '010001')]),
    Buffer.concat([header, named(1, '01ffffffffff7f01')]),
  ]
  for (const bytes of bad) t.throws(() => read(bytes), { code: 'CORRUPT' }, bytes.toString('hex'))
  t.throws(() => read(Buffer.from('494d524602000000', 'hex')), { code: 'UNSUPPORTED' })
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (tail) => {
      try {
        return read(Buffer.concat([header, Buffer.alloc(40, 3), tail])).length < 1 << 25
      } catch (error) {
        return hasCode(error, 'CORRUPT')
      }
    }),
  )
})

test('which births a bitmap names', (t) => {
  const runs = new Runs()
  for (const seed of [9, 4]) runs.number(Buffer.alloc(40, seed))
  const birthOf = (run: number, at: number) => (BigInt(stripeOf(run, 0)) << 16n) + 65_530n + BigInt(at)
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.integer({ min: 1, max: 2 }), fc.nat(300))), (births) => {
      const set = new ReferenceSet()
      for (const [run, at] of births) set.addBirth(birthOf(run, at))
      const named = new NamedBirths(set.encode(runs), runs)
      const wrong = [1, 2].flatMap((run) =>
        Array.from({ length: 303 }, (_, at) => at - 1).filter(
          (at) => named.has(birthOf(run, at)) !== births.some((one) => one[0] === run && one[1] === at),
        ),
      )
      t.deepEqual(wrong, [])
      t.false(named.has(birthOf(3, 5)))
    }),
    { numRuns: 30 },
  )
  t.false(new NamedBirths(golden, new Runs()).has(2n ** 63n))
})
