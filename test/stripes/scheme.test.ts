import test from 'ava'
import { hasCode } from '../../src/base/errors.js'
import { chooseScheme, parseScheme, WIDEST } from '../../src/stripes/scheme.js'

test('the default grows with the number of hosts and keeps one spare from six on', (t) => {
  const names = [2, 3, 4, 5, 6, 7, 8, 9, 13, 14, 200].map((hosts) => {
    const { k, m } = chooseScheme(hosts, {})
    return `${hosts}: ${k}+${m}`
  })
  t.deepEqual(names, [
    ...['2: 1+1', '3: 2+1', '4: 2+2', '5: 2+3', '6: 3+2', '7: 3+3', '8: 3+4', '9: 4+4'],
    ...['13: 6+6', '14: 6+6', '200: 6+6'],
  ])
})

test('what is asked to survive is what the parity is, on any number of hosts', (t) => {
  for (let hosts = 2; hosts < 40; hosts++) {
    for (let tolerate = 1; tolerate < 20; tolerate++) {
      if (hosts < tolerate + 1) {
        const error = t.throws(() => chooseScheme(hosts, { tolerate }))
        t.true(hasCode(error, 'TOO_FEW_HOSTS'))
        continue
      }
      const { k, m } = chooseScheme(hosts, { tolerate })
      t.is(m, tolerate)
      t.true(k >= 1 && k + m <= hosts && k + m <= WIDEST, `${hosts} hosts, ${k}+${m}`)
    }
  }
})

test('one host is no backup', (t) => {
  for (const wish of [{}, { tolerate: 1 }, { scheme: { k: 4, m: 2 } }]) {
    t.true(
      hasCode(
        t.throws(() => chooseScheme(1, wish)),
        'TOO_FEW_HOSTS',
      ),
    )
  }
})

test('schemes are written K+M', (t) => {
  t.deepEqual(parseScheme('4+2'), { k: 4, m: 2 })
  for (const wrong of ['', '4', '4+', '+2', '0+2', '4+0', '31+2', '4+2+1', '-1+2', '4 + 2', '1e1+2']) {
    t.true(
      hasCode(
        t.throws(() => parseScheme(wrong)),
        'USAGE',
      ),
      wrong,
    )
  }
})
