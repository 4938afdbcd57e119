/** Each guard is where the list says, and so is the test that misses it. That it does is tried by `npm run long -- guards`. */
import test from 'ava'
import { read } from '../sources.js'
import { hasTitle } from '../titles.js'
import { GUARDS } from './guards.js'

test('each guard is a line of its file, and its test exists', (t) => {
  for (const { file, line, test: named } of GUARDS) {
    t.true(
      read(file)
        .split('\n')
        .some((one) => one.trim() === line),
      `${file}: ${line}`,
    )
    t.true(hasTitle(...named), named.join(': '))
  }
})

test('each promise has guards, and no guard is listed twice', (t) => {
  const promises = ['keys', 'names', 'heads', 'membership', 'chain', 'lock', 'addresses']
  promises.push('coordinator', 'crowds', 'places', 'receipts', 'admins', 'removal', 'replacement', 'twins', 'proofs')
  t.deepEqual([...new Set(GUARDS.map(({ promise }) => promise))], promises)
  t.is(new Set(GUARDS.map(({ file, line }) => `${file} ${line}`)).size, GUARDS.length)
  t.true(GUARDS.length >= 16)
})
