/** How it is said that something cannot be restored. */
import test from 'ava'
import { anyOf, findOutlook, notRestorable } from '../../src/stripes/suffice.js'

const shard = (digit: string) => digit.repeat(32)

test('there is a sentence for each thing that is wrong, and what helps', (t) => {
  const one = notRestorable({ silent: ['pc-3'], suffice: 'pc-3' })
  t.is(one.message, '1 host does not answer: pc-3. What is left is not enough')
  t.is(one.remedy, 'Bring back pc-3.')
  const faulty = [
    { what: 'damaged', shard: shard('a'), host: 'pc-1' },
    { what: 'missing', shard: shard('b'), host: 'pc-2' },
    { what: 'damaged', shard: shard('c'), host: 'pc-2' },
    { what: 'refused', shard: shard('d'), host: 'pc-5' },
  ] as const
  const all = notRestorable({ silent: ['pc-3', 'pc-4'], suffice: 'pc-3 and pc-4', faulty })
  t.is(
    all.message,
    '2 hosts do not answer: pc-3, pc-4. 2 shards are damaged: aaaaaaaa on pc-1, cccccccc on pc-2. ' +
      '1 shard is not where the catalog says: bbbbbbbb on pc-2. ' +
      '1 shard is not given by a host that answers: dddddddd on pc-5. What is left is not enough',
  )
  t.is(all.remedy, 'Bring back pc-3 and pc-4.')
})

test('where no host that comes back is enough, none is named as the way out', (t) => {
  const damaged = { what: 'damaged', shard: shard('a'), host: 'pc-1' } as const
  const hopeless = notRestorable({ silent: [], suffice: '', faulty: [damaged] })
  t.is(hopeless.message, '1 shard is damaged: aaaaaaaa on pc-1. What is left is not enough')
  t.regex(hopeless.remedy, /^No host that comes back is enough, look at the disks of pc-1; `imager check --read-data`/)
  t.notRegex(notRestorable({ silent: ['pc-9'], suffice: '', faulty: [damaged] }).remedy, /pc-9/)
})

test('a fleet that lost the hosts themselves is told so', (t) => {
  const left = notRestorable({ silent: [], suffice: 'hosts that left the fleet' })
  t.is(left.message, 'Too few hosts that hold it are in the fleet. What is left is not enough')
  t.is(left.remedy, 'Bring back hosts that left the fleet.')
})

test('long lists are cut', (t) => {
  const names = Array.from({ length: 30 }, (_, at) => `pc-${at}`)
  t.regex(notRestorable({ silent: names, suffice: anyOf(2, names) }).message, /^30 hosts .* pc-7 and 22 more\. /)
  t.is(anyOf(2, names), 'any 2 of pc-0, pc-1, pc-2, pc-3, pc-4, pc-5, pc-6, pc-7 and 22 more')
  t.is(anyOf(2, ['a', 'b']), 'a and b')
})

test('only hosts that help are named', (t) => {
  const layout = (stripe: number, ...hosts: string[]) => ({
    ...{ stripe, k: 2 },
    shards: hosts.map((host, index) => ({ index, host })),
  })
  const missing = new Set(['c', 'd', 'e'])
  const layouts = [layout(1, 'a', 'b', 'c'), layout(2, 'a', 'c', 'd'), layout(3, 'b', 'd', 'e')]
  t.deepEqual(findOutlook(layouts, missing), { lost: [2, 3], suffice: ['d'], possible: true })
  t.deepEqual(findOutlook([layout(1, 'a', 'b', 'e')], missing).suffice, [])
  const lost = findOutlook([layout(1, 'd'), layout(2, 'a', 'd')], missing)
  t.deepEqual(lost, { lost: [1, 2], suffice: [], possible: false })
})
