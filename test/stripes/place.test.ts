import test from 'ava'
import fc from 'fast-check'
import { MiB } from '../../src/base/units.js'
import { type Candidate, formGroup, hostsOfStripe } from '../../src/stripes/place.js'
import { findOutlook } from '../../src/stripes/suffice.js'
import { stripeSurvives } from '../../src/stripes/survives.js'

const host = (name: string, more: Partial<Candidate> = {}): Candidate => ({
  ...{ host: name.padEnd(64, '0'), name, role: 'peer', domain: name, storage: name, freeBytes: 1e12, uptime: 1 },
  ...{ away: false, suspect: '', ...more },
})
const fleet = (count: number) => Array.from({ length: count }, (_, index) => host(`h${index}.`))

test('each host that is left out is told why', (t) => {
  const hosts = [
    ...fleet(3),
    host('gone', { away: true }),
    host('full', { freeBytes: 5 }),
    host('bare', { storage: '' }),
    host('odd', { suspect: 'its store holds less' }),
    host('twin', { domain: 'h0.', freeBytes: 1e11 }),
    host('me', {}),
    host('desk', { role: 'admin' }),
  ]
  const { members, leftOut } = formGroup(hosts, host('me').host, MiB, {})
  t.is(members.length, 3)
  t.deepEqual(leftOut.map(({ name }) => name).sort(), ['bare', 'full', 'gone', 'me', 'odd', 'twin'])
})

test('the hosts that are most often there, then those with most space, come first', (t) => {
  const hosts = [host('a', { uptime: 0.3 }), host('b', { freeBytes: 1e9 }), host('c'), host('d')]
  const { members, spares } = formGroup(hosts, '', MiB, { scheme: { k: 1, m: 1 } })
  t.deepEqual(
    [...members, ...spares].map((one) => one[0]),
    ['c', 'd', 'b', 'a'],
  )
})

test('a host that is only away keeps its place; too few hosts hold several shards each', (t) => {
  const away = formGroup([...fleet(5), host('x', { away: true })], '', MiB, { scheme: { k: 4, m: 2 } })
  t.is(away.members.length, 5)
  t.is(away.wanted, 2)
  t.is(hostsOfStripe(away, 3).filter((one) => one === undefined).length, 1)
  const few = formGroup(fleet(3), '', MiB, { scheme: { k: 4, m: 2 } })
  t.is(few.members.length, 6)
  t.is(few.wanted, 1)
})

test('while hosts are away a stripe has parity for them too: what is missing is made when they are back', (t) => {
  const off = (count: number) => Array.from({ length: count }, (_, at) => host(`away${at}`, { away: true }))
  const half = formGroup([...fleet(3), ...off(3)], '', MiB, {})
  t.like(half, { k: 2, m: 2, wanted: 2, reach: 1 })
  t.is(hostsOfStripe(half, 0).filter((one) => one === undefined).length, 1)
  t.like(
    formGroup([...fleet(6), ...off(1)], '', MiB, {}),
    { k: 3, m: 3, wanted: 3, reach: 3 },
    'a spare takes the place',
  )
  t.like(formGroup([...fleet(3), ...off(1)], '', MiB, { tolerate: 1 }), { k: 2, m: 1 }, 'as a person said')
  t.like(formGroup(fleet(6), '', MiB, {}), { k: 3, m: 2 })
})

test('every stripe of a group survives its target, and shards rotate over all hosts', (t) => {
  fc.assert(
    fc.property(
      fc.integer({ min: 2, max: 20 }),
      fc.integer({ min: 1, max: 5 }),
      fc.integer({ min: 1 }),
      (n, m, stripe) => {
        fc.pre(n > m)
        const group = formGroup(fleet(n), '', MiB, { tolerate: m })
        const holders = hostsOfStripe(group, stripe)
        return stripeSurvives(group.k, holders as string[]) >= group.wanted && new Set(holders).size === holders.length
      },
    ),
  )
  const group = formGroup(fleet(6), '', MiB, { scheme: { k: 4, m: 2 } })
  const first = Array.from({ length: 6 }, (_, stripe) => hostsOfStripe(group, stripe)[0])
  t.is(new Set(first).size, 6)
})

test('the outlook is what brute force says', (t) => {
  const layout = fc.record({
    stripe: fc.integer({ min: 1, max: 9 }),
    k: fc.integer({ min: 1, max: 4 }),
    shards: fc.uniqueArray(
      fc.record({ index: fc.integer({ min: 0, max: 5 }), host: fc.constantFrom('a', 'b', 'c', 'd', 'e') }),
      {
        selector: (shard) => shard.index,
        minLength: 1,
      },
    ),
  })
  const subset = fc.subarray(['a', 'b', 'c', 'd', 'e'])
  fc.assert(
    fc.property(fc.array(layout, { minLength: 1, maxLength: 5 }), subset, (layouts, missing) => {
      const decodes = (gone: ReadonlySet<string>) =>
        layouts.every(({ k, shards }) => shards.filter((shard) => !gone.has(shard.host)).length >= k)
      const { lost, suffice, possible } = findOutlook(layouts, new Set(missing))
      const back = new Set(missing.filter((one) => !suffice.includes(one)))
      return (
        (lost.length === 0) === decodes(new Set(missing)) &&
        possible === decodes(new Set()) &&
        (!possible || decodes(back))
      )
    }),
  )
  t.pass()
})

test('too few hosts: the error says what is wrong with the others', (t) => {
  const hosts = [host('a'), host('b', { away: true }), host('c', { freeBytes: 7 })]
  const error = t.throws(() => formGroup(hosts, '', MiB, {}))
  t.regex(error?.message ?? '', /b: it is away; c: it has only 7 B free/)
})
