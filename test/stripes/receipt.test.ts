import { readFileSync } from 'node:fs'
import test from 'ava'
import { Secret } from '../../src/native.js'
import { openReceipt, RECEIPT_BYTES, signReceipt } from '../../src/stripes/receipt.js'
import { peer, receipt, signed, subject } from '../golden/receipt.js'
import { hostOf } from '../keys/fleet.js'

const host = hostOf(peer)

test('a receipt is read as it was signed, and its bytes stay what they are', (t) => {
  const golden = readFileSync(new URL('../../../fixtures/golden/receipt-v1.bin', import.meta.url))
  t.deepEqual(signed(), golden)
  t.is(golden.length, RECEIPT_BYTES)
  t.deepEqual(openReceipt(golden, { ...subject, host }), receipt)
})

test('no bit of a receipt, nor of what it is about, can be changed', (t) => {
  const bytes = signed()
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const flipped = Buffer.from(bytes)
    flipped[bit >> 3] = (flipped[bit >> 3] as number) ^ (1 << (bit & 7))
    t.throws(() => openReceipt(flipped, { ...subject, host }), undefined, `bit ${bit}`)
  }
  const others = [
    { fleet: '01'.repeat(16) },
    { shard: '01'.repeat(16) },
    { root: '01'.repeat(32) },
    { host: hostOf(Secret.random()) },
  ]
  for (const other of others) {
    t.throws(() => openReceipt(bytes, { ...subject, host, ...other }), { code: 'FORGED' })
  }
  for (const length of [0, 71, 135]) {
    t.throws(() => openReceipt(bytes.subarray(0, length), { ...subject, host }), { code: 'CORRUPT' })
  }
  t.throws(() => openReceipt(signReceipt(receipt, subject, Secret.random()), { ...subject, host }), { code: 'FORGED' })
})
