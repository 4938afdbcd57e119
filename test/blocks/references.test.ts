import { readFileSync } from 'node:fs'
import test from 'ava'
import { referencedStripes } from '../../src/blocks/references.js'

const golden = readFileSync(new URL('../../../fixtures/golden/references-v1.bin', import.meta.url))

test('golden: the stripes of what the addon wrote', (t) => {
  t.deepEqual(referencedStripes(golden), [5, 6, 2 ** 24])
})

test('other versions and features are named, what is cut short is refused', (t) => {
  for (const at of [4, 6]) {
    const changed = Buffer.from(golden)
    changed.writeUInt16LE(2, at)
    t.throws(() => referencedStripes(changed), { code: 'UNSUPPORTED' })
  }
  for (let length = 0; length < 8; length++) {
    t.throws(() => referencedStripes(golden.subarray(0, length)), { code: 'CORRUPT' })
  }
  t.throws(() => referencedStripes(golden.subarray(0, -1)), { code: 'CORRUPT' })
})
