/** LEB128: seven bits a byte, the lowest first; a byte of 0x80 or more goes on. */

/** 42 bits: more than any number in a format here, and exact in a double. */
const MOST_BYTES = 6

/** `value`: an integer from 0 on, below 2^42. */
export function encodeVarint(value: number): Uint8Array {
  const bytes: number[] = []
  let rest = value
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes.push((rest % 0x80) | 0x80)
  return Uint8Array.from([...bytes, rest])
}

/** The number at `from`, and where it ends. Throws what `corrupt` makes where it does not end in time. */
export function readVarint(
  bytes: Uint8Array,
  from: number,
  corrupt: (what: string) => Error,
): { value: number; end: number } {
  let value = 0
  for (let at = from, scale = 1; at < from + MOST_BYTES; at++, scale *= 128) {
    const byte = bytes[at]
    if (byte === undefined) break
    value += (byte & 0x7f) * scale
    if (byte < 0x80) return { value, end: at + 1 }
  }
  throw corrupt('a number that does not end')
}
