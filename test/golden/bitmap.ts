/** Two reference bitmaps, of which only the bytes matter here, and the second one as a peer keeps it beside the first. */
import { encodeDelta } from '../../src/keys/bitmap.js'

export const PARENT = '04'.repeat(16)

/** Bytes that repeat nowhere. */
function noise(seed: number, length: number): Buffer {
  let state = seed
  return Buffer.from(
    Array.from({ length }, () => {
      state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0
      return state >>> 24
    }),
  )
}

const header = Buffer.from('IMRF\x01\0\0\0', 'latin1')
const [first, second, third] = [noise(1, 300), noise(2, 400), noise(3, 50)]
export const before = Buffer.concat([header, first, second])
export const after = Buffer.concat([header, third, second, noise(4, 7), first.subarray(100)])
export const delta = encodeDelta(PARENT, before, after)
