import test from 'ava'
import fc from 'fast-check'
import { stripeSurvives } from '../../src/stripes/survives.js'

/** Every subset of hosts is lost in turn. */
function bruteForce(k: number, hosts: readonly number[]): number {
  const names = [...new Set(hosts)]
  let survives = hosts.length >= k ? names.length : -1
  for (let lost = 0; lost < 2 ** names.length; lost++) {
    const isLost = (host: number) => (lost >> names.indexOf(host)) & 1
    const left = hosts.filter((host) => !isLost(host)).length
    if (left < k) survives = Math.min(survives, names.filter(isLost).length - 1)
  }
  return survives
}

test('the survives figure equals brute force over all subsets of hosts', (t) => {
  const layout = fc.tuple(fc.integer({ min: 1, max: 6 }), fc.array(fc.integer({ min: 0, max: 7 }), { maxLength: 12 }))
  fc.assert(
    fc.property(layout, ([k, hosts]) => stripeSurvives(k, hosts) === bruteForce(k, hosts)),
    { numRuns: 2000 },
  )
  t.pass()
})

test('figures of known layouts', (t) => {
  t.is(stripeSurvives(4, ['a', 'b', 'c', 'd', 'e', 'f']), 2)
  t.is(stripeSurvives(1, ['a', 'b']), 1)
  t.is(stripeSurvives(2, ['a', 'a', 'b']), 0)
  t.is(stripeSurvives(4, ['a', 'a', 'b', 'b', 'c', 'c']), 1)
  t.is(stripeSurvives(3, ['a', 'b']), -1)
})
