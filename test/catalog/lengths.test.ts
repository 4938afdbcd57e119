import test from 'ava'
import fc from 'fast-check'
import { decodeLengths, encodeLengths, lengthsOf } from '../../src/catalog/lengths.js'
import { ids, recordsOf } from './harness.js'

const births = (stripe: bigint, count: number) =>
  BigUint64Array.from({ length: count }, (_, i) => (stripe << 16n) + BigInt(i))

test('lengths are kept of records that lie back to back behind the header and were first stored there', (t) => {
  const records = recordsOf(ids(3))
  const wanted = Buffer.from(Uint32Array.of(90, 90, 90).buffer)
  t.deepEqual(lengthsOf({ stripe: 7, records }), wanted)
  t.deepEqual(lengthsOf({ stripe: 7, records, births: births(7n, 3) }), wanted)
  t.is(lengthsOf({ stripe: 7, records, births: births(6n, 3) }), undefined, 'moved here')
  t.is(lengthsOf({ stripe: 7, records: recordsOf(ids(3), 1) }), undefined, 'a gap')
  t.is(lengthsOf({ stripe: 7, records: records.subarray(40) }), undefined, 'not from the beginning')
})

test('what is told of many stripes comes back, and any other length of it is refused', (t) => {
  const lengths = fc.array(
    fc.array(fc.nat(), { maxLength: 9 }).map((one) => Uint32Array.from(one)),
    { maxLength: 9 },
  )
  fc.assert(
    fc.property(lengths, fc.nat(), (stripes, cut) => {
      const bytes = encodeLengths(stripes)
      t.deepEqual(decodeLengths(bytes, stripes.length), stripes)
      t.is(decodeLengths(bytes, stripes.length + 1), undefined)
      if (stripes.length > 0) t.is(decodeLengths(bytes, stripes.length - 1), undefined)
      if (bytes.length > 0) t.is(decodeLengths(bytes.subarray(0, cut % bytes.length), stripes.length), undefined)
    }),
  )
  t.is(decodeLengths(Buffer.from(Uint32Array.of(0xffff_ffff, 1).buffer), 1), undefined)
})
