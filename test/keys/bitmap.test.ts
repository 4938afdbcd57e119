import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import test from 'ava'
import fc from 'fast-check'
import { hasCode } from '../../src/base/errors.js'
import { BITMAP_CHAIN } from '../../src/base/limits.js'
import { applyDelta, encodeDelta, expandBitmap, parentOf } from '../../src/keys/bitmap.js'
import { ReferenceSet, Runs } from '../../src/native.js'
import { after, before, delta, PARENT } from '../golden/bitmap.js'

const golden = readFileSync(new URL('../../../fixtures/golden/bitmap-delta-v1.bin', import.meta.url))
const runs = new Runs()
/** The births of its one run. */
const RUN = 1n << 40n
runs.number(Buffer.alloc(40, 1))
const empty = new ReferenceSet().encode(runs)

test('golden: what was written is put together again', (t) => {
  t.deepEqual(applyDelta(golden, before), after)
  t.is(parentOf(golden), PARENT)
  t.is(parentOf(before), undefined)
  t.deepEqual(delta, golden)
  t.true(golden.length < 200)
})

test('any bitmap is put together from any other', (t) => {
  const bytes = fc.uint8Array({ maxLength: 2000 }).map((one) => Buffer.concat([empty, one]))
  const parts = fc.array(fc.tuple(fc.nat(2000), fc.nat(500), fc.uint8Array({ maxLength: 40 })), { maxLength: 8 })
  fc.assert(
    fc.property(bytes, bytes, parts, (one, other, cut) => {
      const mixed = cut.map(([from, count, fresh]) => Buffer.concat([fresh, one.subarray(from, from + count)]))
      for (const next of [other, Buffer.concat([empty, ...mixed]), one, empty]) {
        t.deepEqual(applyDelta(encodeDelta(PARENT, one, next), one), next)
      }
    }),
    { numRuns: 50 },
  )
})

test('a day of a large disk is a small difference', (t) => {
  const set = (change: number) => {
    const references = new ReferenceSet()
    for (let birth = 65_536; birth < 65_536 + 400_000; birth += 2 + (birth % 7)) {
      if (birth % 10_007 !== change) references.addBirth(RUN | BigInt(birth))
    }
    for (let birth = 0; birth < 50; birth++) references.addBirth(RUN | (BigInt(90 + change) << 16n) | BigInt(birth))
    return references.encode(runs)
  }
  const [monday, tuesday] = [set(0), set(1)]
  const difference = encodeDelta(PARENT, monday, tuesday)
  t.deepEqual(applyDelta(difference, monday), tuesday)
  t.true(difference.length * 20 < tuesday.length, `${difference.length} of ${tuesday.length} bytes`)
})

test('what does not fit is refused, and takes no memory', (t) => {
  const refused = (bytes: Buffer, code: 'CORRUPT' | 'UNSUPPORTED' = 'CORRUPT', on: Buffer = before) =>
    t.true(
      hasCode(
        t.throws(() => applyDelta(bytes, on)),
        code,
      ),
      bytes.toString('hex').slice(0, 80),
    )
  const changed = (change: (bytes: Buffer) => void) => {
    const bytes = Buffer.from(delta)
    change(bytes)
    return bytes
  }
  for (let length = 0; length < delta.length; length++) refused(delta.subarray(0, length))
  refused(Buffer.concat([delta, Buffer.of(0)]))
  refused(before)
  refused(delta, 'CORRUPT', empty)
  for (const at of [4, 6])
    refused(
      changed((bytes) => bytes.writeUInt16LE(2, at)),
      'UNSUPPORTED',
    )
  refused(changed((bytes) => bytes.writeUInt32LE(0xffff_ffff, 24)))
  refused(changed((bytes) => bytes.writeUInt32LE(15 * 1024 * 1024 + 1, 24)))
  const stepOfNothing = Buffer.concat([delta.subarray(0, 28), Buffer.of(0, 0, 0), delta.subarray(28)])
  refused(stepOfNothing)
  const endless = Buffer.concat([delta.subarray(0, 28), Buffer.alloc(8, 0xff)])
  refused(endless)
  t.throws(() => parentOf(Buffer.from('IMXX')), { code: 'CORRUPT' })
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (tail) => {
      try {
        return applyDelta(Buffer.concat([delta.subarray(0, 28), tail]), before).length === after.length
      } catch (error) {
        return hasCode(error, 'CORRUPT')
      }
    }),
  )
})

test('a chain is followed to the whole one, and no further than it may be long', async (t) => {
  const name = (index: number) => index.toString(16).padStart(32, '0')
  const versions = Array.from({ length: BITMAP_CHAIN + 1 }, (_, index) =>
    Buffer.concat([empty, Buffer.alloc(100, index)]),
  )
  const kept = new Map(
    versions.map((one, index) => [
      name(index),
      index === 0 ? one : encodeDelta(name(index - 1), versions[index - 1] as Buffer, one),
    ]),
  )
  const documentOf = async (snapshot: string) => kept.get(snapshot)
  const expand = (index: number) => expandBitmap(kept.get(name(index)) as Buffer, documentOf)
  for (const index of [0, 1, 2, BITMAP_CHAIN - 1])
    t.deepEqual(await expand(index), { whole: versions[index] as Buffer, depth: index })
  await t.throwsAsync(expand(BITMAP_CHAIN), { code: 'WHOLE_NEEDED', message: /builds on 16 others/ })
  kept.delete(name(1))
  await t.throwsAsync(expand(3), { code: 'WHOLE_NEEDED', message: new RegExp(name(1)) })
  const circle = encodeDelta(name(7), empty, before)
  await t.throwsAsync(
    expandBitmap(circle, async () => circle),
    { code: 'WHOLE_NEEDED' },
  )
  await t.throwsAsync(
    expandBitmap(circle, async () => randomBytes(100)),
    { code: 'CORRUPT' },
  )
})
