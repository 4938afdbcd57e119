/**
 * The reference bitmap of a snapshot: every birth number it needs, in clear (docs/formats/references.md). The addon
 * writes it; here it is read, for the stripes that it names.
 *
 *   magic "IMRF" | version u16 = 1 | features u16 = 0
 *   then, ascending: gap since the end of the last birth run | length of the birth run, LEB128
 */
import { ImagerError } from '../base/errors.js'

const ORDINALS = 65_536
const HEADER_BYTES = 8
/** Only full packs of 65,536 records follow each other in one birth run. */
const STRIPES_PER_RUN = 1 << 20
/** 2^24 stripes are 256 TiB of packs; a short bitmap of long birth runs must not fill the coordinator's memory. */
const STRIPES = 1 << 24

/** The stripes in which the birth numbers lie, ascending. Throws CORRUPT or UNSUPPORTED. */
export function referencedStripes(bytes: Uint8Array): number[] {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (view.length < HEADER_BYTES || view.toString('latin1', 0, 4) !== 'IMRF')
    throw corrupt('this is no reference bitmap')
  const [version, features] = [view.readUInt16LE(4), view.readUInt16LE(6)]
  if (version !== 1 || features !== 0) {
    throw new ImagerError('UNSUPPORTED', { what: `Reference bitmap version ${version}, features ${features}` })
  }
  const stripes: number[] = []
  let at = HEADER_BYTES
  let birth = 0
  while (at < view.length) {
    const gap = readVarint(view, at)
    const run = readVarint(view, gap.end)
    at = run.end
    const first = Math.floor((birth + gap.value) / ORDINALS)
    birth += gap.value + run.value
    const last = Math.floor((birth - 1) / ORDINALS)
    if (run.value === 0 || !Number.isSafeInteger(birth) || last - first > STRIPES_PER_RUN || stripes.length > STRIPES)
      throw corrupt('a birth run')
    for (let stripe = first; stripe <= last; stripe++) if (stripes.at(-1) !== stripe) stripes.push(stripe)
  }
  return stripes
}

function readVarint(bytes: Buffer, from: number): { value: number; end: number } {
  let value = 0
  for (let at = from, scale = 1; at < from + 8; at++, scale *= 128) {
    const byte = bytes[at]
    if (byte === undefined) break
    value += (byte & 0x7f) * scale
    if (byte < 0x80) return { value, end: at + 1 }
  }
  throw corrupt('a number that does not end')
}

function corrupt(what: string): ImagerError {
  return new ImagerError('CORRUPT', { what: `The reference bitmap is damaged: ${what}` })
}
