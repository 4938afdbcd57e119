import { readFileSync } from 'node:fs'
import test from 'ava'
import * as v from 'valibot'
import { hasCode } from '../../src/base/errors.js'
import { decodeMessage, encodeMessage } from '../../src/wire/message.js'

const Shape = v.object({ name: v.string(), count: v.number() })

test('golden: these bytes are version 1, for ever', (t) => {
  const golden = readFileSync(new URL('../../../fixtures/golden/message-v1.bin', import.meta.url))
  const attachment = Buffer.from('0102030405060708ff', 'hex')
  t.deepEqual(decodeMessage(Shape, golden), { body: { name: 'Bücher', count: 7 }, attachment })
  t.deepEqual(encodeMessage({ name: 'Bücher', count: 7 }, attachment), golden)
})

test('what was encoded is decoded, and its attachment is aligned', (t) => {
  for (const name of ['', 'a', 'ab', 'Ünïcode', 'x'.repeat(5000)]) {
    const attachment = Buffer.from([1, 2, 3])
    const message = decodeMessage(Shape, encodeMessage({ name, count: 7 }, attachment))
    t.deepEqual(message.body, { name, count: 7 })
    t.deepEqual(message.attachment, attachment)
    t.is(message.attachment.byteOffset % 8, 0)
  }
  t.is(decodeMessage(Shape, encodeMessage({ name: '', count: 0 })).attachment.length, 0)
})

test('the layout is as written', (t) => {
  const bytes = encodeMessage({ a: 1 }, Buffer.from('zz'))
  t.is(bytes.toString('latin1'), 'IMMS\x01\0\0\0\x0c\0\0\0{"a":1}     zz')
})

test('a newer one is refused by name', (t) => {
  const bytes = encodeMessage({ name: 'a', count: 1 })
  const version = Buffer.from(bytes)
  version.writeUInt16LE(2, 4)
  t.throws(() => decodeMessage(Shape, version), { code: 'UNSUPPORTED', message: /version 2/ })
  const features = Buffer.from(bytes)
  features.writeUInt16LE(0x80, 6)
  t.throws(() => decodeMessage(Shape, features), { code: 'UNSUPPORTED', message: /features 0x0080/ })
})

test('every cut and every flipped bit of the head is refused or harmless', (t) => {
  const bytes = encodeMessage({ name: 'abc', count: 1 })
  for (let length = 0; length < bytes.length; length++) {
    t.throws(() => decodeMessage(Shape, bytes.subarray(0, length)), { code: 'PROTOCOL' }, `cut at ${length}`)
  }
  for (let bit = 0; bit < 12 * 8; bit++) {
    const flipped = Buffer.from(bytes)
    flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7))
    const error = t.throws(() => decodeMessage(Shape, flipped), undefined, `bit ${bit}`)
    t.true(hasCode(error, 'PROTOCOL', 'UNSUPPORTED'))
  }
  t.throws(() => decodeMessage(Shape, encodeMessage({ name: 1, count: 1 })), { code: 'PROTOCOL', message: /name/ })
})
