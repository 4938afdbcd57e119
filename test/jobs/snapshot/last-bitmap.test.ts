import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { BITMAP_CHAIN } from '../../../src/base/limits.js'
import { bitmapSince, keepLast } from '../../../src/jobs/snapshot/last-bitmap.js'
import { applyDelta } from '../../../src/keys/bitmap.js'
import { temporaryFolder } from '../../catalog/harness.js'

const volume = 'ab'.repeat(16)
const snapshot = (index: number) => index.toString(16).padStart(32, '0')
const version = (index: number) =>
  Buffer.concat([Buffer.from('IMRF\x01\0\0\0'), Buffer.alloc(4000, 7), Buffer.of(index)])

test('what changed is sent, and one in sixteen whole', (t) => {
  const { path, remove } = temporaryFolder()
  t.teardown(remove)
  const depths: number[] = []
  for (let index = 0; index <= BITMAP_CHAIN; index++) {
    const bitmap = bitmapSince(path, volume, index === 0 ? null : snapshot(index - 1), version(index))
    if (bitmap.delta) {
      t.true(bitmap.delta.length < 100)
      t.deepEqual(applyDelta(bitmap.delta, version(index - 1)), version(index))
    }
    depths.push(bitmap.delta ? bitmap.depth : 0)
    keepLast(path, volume, snapshot(index), bitmap)
  }
  t.deepEqual(depths, [...Array(BITMAP_CHAIN).keys(), 0])
})

test('whole where the last one is of another snapshot, damaged, or most is new', (t) => {
  const { path, remove } = temporaryFolder()
  t.teardown(remove)
  keepLast(path, volume, snapshot(1), bitmapSince(path, volume, null, version(1)))
  const isWhole = (parent: string | null, whole = version(2)) =>
    bitmapSince(path, volume, parent, whole).delta === undefined
  t.false(isWhole(snapshot(1)))
  t.true(isWhole(snapshot(2)))
  t.true(isWhole(null))
  t.true(isWhole(snapshot(1), Buffer.concat([version(1).subarray(0, 8), Buffer.alloc(4000, 9)])))
  const file = join(path, `bitmap-${volume}.bin`)
  const kept = readFileSync(file)
  for (const damaged of [Buffer.alloc(0), kept.subarray(0, 10), Buffer.from('noise')]) {
    writeFileSync(file, damaged)
    t.true(isWhole(snapshot(1)))
  }
  const folder = join(path, 'absent')
  t.notThrows(() => keepLast(folder, volume, snapshot(1), bitmapSince(folder, volume, null, version(1))))
})
