import test from 'ava'
import { encodeVarint, readVarint } from '../../src/base/varint.js'

const corrupt = (what: string) => new Error(what)

test('numbers come back, wherever they stand', (t) => {
  for (const value of [0, 1, 127, 128, 16_383, 16_384, 2 ** 32, 2 ** 40, 2 ** 42 - 1]) {
    const bytes = encodeVarint(value)
    t.deepEqual(readVarint(Buffer.concat([Buffer.from([0xff]), bytes]), 1, corrupt), { value, end: 1 + bytes.length })
  }
})

test('a number that ends too late, or not at all, is refused', (t) => {
  const late = Buffer.from([0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01])
  for (const bytes of [late, Buffer.from([0x80]), Buffer.alloc(0)]) {
    t.throws(() => readVarint(bytes, 0, corrupt), { message: 'a number that does not end' })
  }
})
