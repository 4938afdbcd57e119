/** The lengths of a stripe's records: with them a birth number alone says where its record lies. Pure. */
import { ID_BYTES, RECORD_BYTES } from '../signatures/rows.js'
import { PACK_HEADER_BYTES } from './types.js'

interface Records {
  readonly stripe: number
  /** Rows of `RECORD_BYTES`. */
  readonly records: Uint8Array
  /** Where records may have been stored before; without it, each was first stored here. */
  readonly births?: BigUint64Array
}

/** As u32 LE; undefined where records do not lie back to back, or were born elsewhere. */
export function lengthsOf({ stripe, records, births }: Records): Buffer | undefined {
  const rows = Buffer.from(records.buffer, records.byteOffset, records.byteLength)
  const count = rows.length / RECORD_BYTES
  const lengths = Buffer.alloc(count * 4)
  let due = PACK_HEADER_BYTES
  for (let ordinal = 0; ordinal < count; ordinal++) {
    const at = ordinal * RECORD_BYTES + ID_BYTES
    if (births && births[ordinal] !== ((BigInt(stripe) << 16n) | BigInt(ordinal))) return undefined
    if (rows.readUInt32LE(at) !== due) return undefined
    const length = rows.readUInt32LE(at + 4)
    lengths.writeUInt32LE(length, ordinal * 4)
    due += length
  }
  return lengths
}

/** For each stripe: count u32, its lengths u32; LE. */
export function encodeLengths(stripes: readonly Uint32Array[]): Buffer {
  return Buffer.concat(
    stripes.flatMap((lengths) => [
      new Uint8Array(Uint32Array.of(lengths.length).buffer),
      new Uint8Array(lengths.buffer, lengths.byteOffset, lengths.byteLength),
    ]),
  )
}

/** Undefined where it does not hold exactly so many stripes. */
export function decodeLengths(bytes: Uint8Array, count: number): Uint32Array[] | undefined {
  const words = new Uint32Array(new Uint8Array(bytes).buffer, 0, Math.floor(bytes.length / 4))
  const stripes: Uint32Array[] = []
  let at = 0
  while (stripes.length < count) {
    const lengths = words.subarray(at + 1, at + 1 + (words[at] ?? 0))
    if (at >= words.length || lengths.length !== words[at]) return undefined
    stripes.push(lengths)
    at += 1 + lengths.length
  }
  return at * 4 === bytes.length ? stripes : undefined
}
