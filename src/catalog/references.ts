/**
 * The reference bitmap of a snapshot: every birth that it needs, in clear (docs/formats/references.md). The addon writes it;
 * here it is read, for the stripes that it names.
 *
 *   magic "IMRF" | version u16 = 1 | features u16 = 0
 *   then for each run of snapshots, ascending: its name 40 | count of birth runs, LEB128
 *     for each, ascending: gap since the end of the last birth run | length of the birth run, LEB128
 */
import { ImagerError } from '../base/errors.js'
import { RUN_NAME_BYTES, type RunsHandle, stripeOf } from '../stripes/names.js'

const ORDINALS = 65_536
const HEADER_BYTES = 8
/** Stripes of one run, as births have them. */
const NUMBERS = 2 ** 24
/** Only full packs of 65,536 records follow each other in one birth run. */
const STRIPES_PER_RUN = 1 << 20
/** 2^24 stripes are 256 TiB of packs; a short bitmap of long birth runs must not fill the coordinator's memory. */
const STRIPES = 1 << 24

/** The stripes in which the births lie, ascending within each run; `runs` learns the runs. Throws CORRUPT or UNSUPPORTED. */
export function referencedStripes(bytes: Uint8Array, runs: RunsHandle): number[] {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (view.length < HEADER_BYTES || view.toString('latin1', 0, 4) !== 'IMRF')
    throw corrupt('this is no reference bitmap')
  const [version, features] = [view.readUInt16LE(4), view.readUInt16LE(6)]
  if (version !== 1 || features !== 0) {
    throw new ImagerError('UNSUPPORTED', { what: `Reference bitmap version ${version}, features ${features}` })
  }
  const stripes: number[] = []
  let last: Buffer | undefined
  for (let at = HEADER_BYTES; at < view.length; ) {
    const name = view.subarray(at, at + RUN_NAME_BYTES)
    if (name.length < RUN_NAME_BYTES || (last && Buffer.compare(last, name) >= 0)) throw corrupt('a run out of order')
    last = name
    const count = readVarint(view, at + RUN_NAME_BYTES)
    const { numbers, end } = readRun(view, count.end, count.value, STRIPES - stripes.length)
    if (numbers.length === 0) throw corrupt('a run without births')
    const run = runs.number(name)
    for (const number of numbers) stripes.push(stripeOf(run, number))
    at = end
  }
  return stripes
}

/** The numbers of the stripes that `count` birth runs lie in, `most` of them. */
function readRun(view: Buffer, from: number, count: number, most: number): { numbers: number[]; end: number } {
  const numbers: number[] = []
  let [at, birth] = [from, 0]
  for (let nth = 0; nth < count; nth++) {
    const gap = readVarint(view, at)
    const length = readVarint(view, gap.end)
    at = length.end
    const first = Math.floor((birth + gap.value) / ORDINALS)
    birth += gap.value + length.value
    const last = Math.floor((birth - 1) / ORDINALS)
    if (length.value === 0 || last >= NUMBERS || last - first > STRIPES_PER_RUN || numbers.length > most)
      throw corrupt('a birth run')
    for (let number = first; number <= last; number++) if (numbers.at(-1) !== number) numbers.push(number)
  }
  return { numbers, end: at }
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
