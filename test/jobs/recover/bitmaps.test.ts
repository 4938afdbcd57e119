/** Peers may have lost bitmaps, and lie about them. */
import test from 'ava'
import { ImagerError } from '../../../src/base/errors.js'
import { Bitmaps } from '../../../src/jobs/recover/bitmaps.js'
import { encodeDelta } from '../../../src/keys/bitmap.js'
import { hash } from '../../../src/native.js'

const appliance = 'aa'.repeat(32)
const id = (index: number) => index.toString(16).padStart(32, '0')
const whole = (index: number) => Buffer.concat([Buffer.from('IMRF\x01\0\0\0'), Buffer.alloc(500, 7), Buffer.of(index)])
const headOf = (index: number) => ({ appliance, snapshot: id(index), references: hash(whole(index)).toString('hex') })
const delta = (from: number, to: number) => encodeDelta(id(from), whole(from), whole(to))

type Kept = Record<number, Buffer | 'silent'>

function stand(peers: Record<string, Kept>, heads: number[]) {
  const asked: string[] = []
  const bitmaps = new Bitmaps({
    hosts: Object.keys(peers),
    peer: (host) => ({
      async fetchDocument(_kind, name) {
        const index = Number.parseInt(name.slice(64), 16)
        asked.push(`${host} ${index}`)
        const kept = peers[host]?.[index]
        if (kept === 'silent') throw new ImagerError('HOST_UNREACHABLE', { host, address: '', why: '' })
        return kept
      },
    }),
    heads: heads.map(headOf),
    signal: new AbortController().signal,
  })
  return { bitmaps, asked, of: (index: number) => bitmaps.of(headOf(index)) }
}

test('the first right one is taken, whoever else lies, lost it or is silent', async (t) => {
  const peers = {
    liar: { 1: whole(9) },
    broken: { 1: Buffer.from('noise') },
    silent: { 1: 'silent' as const },
    none: {},
    honest: { 1: whole(1) },
  }
  const s = stand(peers, [1])
  t.deepEqual(await s.of(1), whole(1))
  t.is(s.asked.length, 5)
  t.deepEqual(await s.of(1), whole(1))
  t.is(s.asked.length, 5, 'once')
})

test('what builds on others is put together from several peers', async (t) => {
  const peers = { a: { 3: delta(2, 3), 1: delta(2, 1) }, b: { 2: delta(1, 2) }, c: { 1: whole(1) } }
  const s = stand(peers, [1, 2, 3])
  t.deepEqual(await s.of(3), whole(3))
  t.deepEqual(await s.of(2), whole(2))
})

test('a circle is none, nor what builds on a snapshot of nobody; and few questions are asked', async (t) => {
  const heads = Array.from({ length: 12 }, (_, index) => index)
  const lying: Kept = Object.fromEntries(heads.map((index) => [index, delta((index + 1) % 12, index)]))
  const s = stand({ a: lying, b: lying, c: lying }, heads)
  for (const index of heads) t.is(await s.of(index), undefined)
  t.true(s.asked.length <= 3 * 12, `${s.asked.length}`)
  t.is(await stand({ a: { 1: delta(5, 1) } }, [1]).of(1), undefined)
})
