import { readFileSync } from 'node:fs'
import test from 'ava'
import fc from 'fast-check'
import { hasCode } from '../../src/base/errors.js'
import { referencedStripes } from '../../src/catalog/references.js'
import { ReferenceSet } from '../../src/native.js'

const golden = readFileSync(new URL('../../../fixtures/golden/references-v1.bin', import.meta.url))

test('golden: the stripes of what the addon wrote', (t) => {
  t.deepEqual(referencedStripes(golden), [5, 6, 2 ** 24])
})

test('other versions and features are named, what is cut short is refused', (t) => {
  for (const at of [4, 6]) {
    const changed = Buffer.from(golden)
    changed.writeUInt16LE(2, at)
    t.throws(() => referencedStripes(changed), { code: 'UNSUPPORTED' })
  }
  for (let length = 0; length < 8; length++) {
    t.throws(() => referencedStripes(golden.subarray(0, length)), { code: 'CORRUPT' })
  }
  t.throws(() => referencedStripes(golden.subarray(0, -1)), { code: 'CORRUPT' })
})

test('the stripes of any set of births are read back from what the addon wrote', (t) => {
  const birth = fc.tuple(fc.integer({ min: 1, max: 1 << 30 }), fc.integer({ min: 0, max: 65_535 }))
  fc.assert(
    fc.property(fc.array(birth), (births) => {
      const set = new ReferenceSet()
      for (const [stripe, ordinal] of births) set.addBirth(BigInt(stripe) * 65_536n + BigInt(ordinal))
      const expected = [...new Set(births.map(([stripe]) => stripe))].sort((a, b) => a - b)
      t.deepEqual(referencedStripes(set.encode()), expected)
    }),
  )
})

test('runs across a full stripe name both', (t) => {
  const set = new ReferenceSet()
  for (let birth = 65_536n * 2n - 3n; birth < 65_536n * 2n + 3n; birth++) set.addBirth(birth)
  t.deepEqual(referencedStripes(set.encode()), [1, 2])
})

test('damage is refused, and short bitmaps name no endless lists', (t) => {
  const header = Buffer.from('494d524601000000', 'hex')
  const endless = Buffer.concat([header, Buffer.from('00ffffffffffff0f', 'hex')])
  for (const bytes of [Buffer.alloc(0), header.subarray(0, 7), Buffer.concat([header, Buffer.of(0x80)]), endless]) {
    t.true(
      hasCode(
        t.throws(() => referencedStripes(bytes)),
        'CORRUPT',
      ),
    )
  }
  const newer = Buffer.from('494d524602000000', 'hex')
  t.true(
    hasCode(
      t.throws(() => referencedStripes(newer)),
      'UNSUPPORTED',
    ),
  )
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (tail) => {
      try {
        return referencedStripes(Buffer.concat([header, tail])).length < 1 << 25
      } catch (error) {
        return hasCode(error, 'CORRUPT')
      }
    }),
  )
})
