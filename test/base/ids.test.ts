import test from 'ava'
import fc from 'fast-check'
import { fromHex, toHex } from '../../src/base/ids.js'

test('bytes and hexadecimal are one and the same', (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => t.deepEqual(fromHex(toHex(bytes)), Buffer.from(bytes))),
  )
})

test('a view of a larger buffer gives its own bytes only', (t) => {
  t.is(toHex(Uint8Array.of(1, 2, 3, 4).subarray(1, 3)), '0203')
})

test('anything but lower-case pairs of digits is refused', (t) => {
  for (const text of ['0', 'AB', 'zz', '0x00', ' 00', '00\n', '../..']) t.is(fromHex(text), undefined, text)
  t.is(fromHex('0011', 3), undefined)
  t.deepEqual(fromHex('', 0), Buffer.alloc(0))
})
