import test from 'ava'
import fc from 'fast-check'
import { median, showSpread, spread, table } from '../../bench/arithmetic.js'
import { isAtLeast } from '../../bench/contenders.js'
import { lastLine } from '../../bench/lab.js'

test('the median is the middle one, or between the two middle ones', (t) => {
  t.is(median([3]), 3)
  t.is(median([9, 1, 5]), 5)
  t.is(median([4, 1, 2, 10]), 3)
  t.throws(() => median([]), { instanceOf: RangeError })
})

test('as many values lie below the median as above, in whatever order they came', (t) => {
  fc.assert(
    fc.property(fc.array(fc.integer(), { minLength: 1 }), (values) => {
      const middle = median(values)
      t.is(median([...values].reverse()), middle)
      t.true(values.filter((value) => value < middle).length <= values.length / 2)
      t.true(values.filter((value) => value > middle).length <= values.length / 2)
    }),
  )
})

test('a spread shows its range where there is one', (t) => {
  t.deepEqual(spread([2, 8, 4]), { median: 4, least: 2, most: 8, runs: 3 })
  t.is(showSpread(spread([2, 8, 4])), '4.0 (2.0 to 8.0)')
  t.is(showSpread(spread([2.25]), 2), '2.25')
})

test('tables line up', (t) => {
  t.is(
    table([
      ['a', 'long'],
      ['wide one', '1'],
    ]),
    '| a        | long |\n| -------- | ---- |\n| wide one | 1    |',
  )
})

test('the last line is found behind progress', (t) => {
  t.is(lastLine('{"status":"progress"}\n{"status":"done"}\n'), '{"status":"done"}')
})

test('versions compare by number', (t) => {
  t.true(isAtLeast('0.18.0', '0.15'))
  t.true(isAtLeast('0.15.0', '0.15'))
  t.true(isAtLeast('1.0', '0.15'))
  t.false(isAtLeast('0.9.6', '0.15'))
})
