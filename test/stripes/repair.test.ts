import test from 'ava'
import fc from 'fast-check'
import type { Candidate } from '../../src/stripes/place.js'
import { planRepair, type Weak } from '../../src/stripes/repair.js'
import { stripeSurvives } from '../../src/stripes/survives.js'

const host = (name: string, more: Partial<Candidate> = {}): Candidate => ({
  ...{ host: name, name, role: 'peer', domain: name, storage: name, freeBytes: 1e12, uptime: 1 },
  ...{ away: false, suspect: '', ...more },
})
const good = (index: number, name: string) => ({ index, host: name, standing: 'good' as const })
const bad = (index: number, name: string) => ({ index, host: name, standing: 'lost' as const })
const weak = (shards: Weak['shards'], more: Partial<Weak> = {}): Weak => {
  return { k: 2, m: 2, writer: 'server', fileBytes: 1000, shards, ...more }
}

test('what a run could not place goes to a host of its own, what was lost to where it was', (t) => {
  const hosts = ['a', 'b', 'c', 'd', 'e'].map((name) => host(name))
  const missing = planRepair(weak([good(0, 'a'), good(1, 'b'), good(3, 'c')]), hosts)
  t.deepEqual(missing, { index: 2, host: 'd', sources: [good(0, 'a'), good(1, 'b'), good(3, 'c')].map(bare) })
  t.like(planRepair(weak([good(0, 'a'), good(1, 'b'), good(3, 'c'), bad(2, 'e')]), hosts), { index: 2, host: 'e' })
  t.is(planRepair(weak([0, 1, 2, 3].map((at) => good(at, 'abcd'[at] ?? ''))), hosts), undefined, 'nothing is missing')
})

test('nobody unfit is chosen, and none whose domain holds another shard', (t) => {
  const left = weak([good(0, 'a'), good(1, 'b'), good(2, 'c')])
  const others = [host('a'), host('b'), host('c')]
  const unfit = {
    away: host('x', { away: true }),
    suspect: host('x', { suspect: 'its store is another' }),
    full: host('x', { freeBytes: 999 }),
    'without a store': host('x', { storage: '' }),
    'an admin': host('x', { role: 'admin' }),
    'the writer': host('server'),
    'in a domain that holds one': host('x', { domain: 'a' }),
  }
  for (const [what, row] of Object.entries(unfit)) t.is(planRepair(left, [...others, row]), undefined, what)
  t.is(planRepair(left, [...others, host('x')])?.host, 'x')
})

test('of an away host a good shard counts, but nothing is fetched from it', (t) => {
  const left = weak([good(0, 'a'), good(1, 'b'), good(2, 'c')])
  const hosts = [host('a', { away: true }), host('b'), host('c'), host('d')]
  t.deepEqual(
    planRepair(left, hosts)?.sources.map(({ host }) => host),
    ['b', 'c'],
  )
  const two = [host('a', { away: true }), host('b', { suspect: 'odd' }), host('c'), host('d')]
  t.is(planRepair(left, two), undefined, 'fewer than k are here')
})

test('what is only doubted is not made anew, keeps its place, and nothing is made of it', (t) => {
  const doubted = { index: 3, host: 'd', standing: 'doubted' as const }
  const hosts = ['a', 'b', 'c', 'd', 'e'].map((name) => host(name))
  t.is(planRepair(weak([good(0, 'a'), good(1, 'b'), good(2, 'c'), doubted]), hosts), undefined)
  const both = planRepair(weak([good(0, 'a'), good(1, 'b'), bad(2, 'd'), doubted]), hosts)
  t.like(both, { index: 2, host: 'c', sources: [good(0, 'a'), good(1, 'b')].map(bare) })
})

test('repair by repair a stripe comes to survive all that its scheme can, while there are hosts', (t) => {
  const shape = fc.record({
    k: fc.integer({ min: 1, max: 6 }),
    m: fc.integer({ min: 1, max: 6 }),
    spare: fc.integer({ min: 0, max: 3 }),
    lost: fc.array(fc.nat(11), { maxLength: 6 }),
  })
  fc.assert(
    fc.property(shape, ({ k, m, spare, lost }) => {
      const hosts = Array.from({ length: k + m + spare }, (_, at) => host(`h${at}`))
      const isLost = (index: number) => new Set(lost.slice(0, m)).has(index)
      let shards = Array.from({ length: k + m }, (_, index) => ({
        index,
        host: `h${index}`,
        standing: isLost(index) ? ('lost' as const) : ('good' as const),
      }))
      for (let step = 0; step <= m; step++) {
        const plan = planRepair(weak(shards, { k, m }), hosts)
        if (!plan) break
        const { index, host: to, sources } = plan
        if (sources.some((one) => one.index === index) || sources.length < k) return false
        shards = [...shards.filter((one) => one.index !== index), good(index, to)]
      }
      const holders = shards.filter(({ standing }) => standing === 'good').map((one) => one.host)
      return stripeSurvives(k, holders) === m && new Set(holders).size === k + m
    }),
  )
  t.pass()
})

function bare({ index, host }: { index: number; host: string }) {
  return { index, host }
}
