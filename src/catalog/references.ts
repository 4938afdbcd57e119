/**
 * The reference bitmap of a snapshot: every birth that it needs, in clear (docs/formats/references.md). The addon writes it;
 * here it is read, for the stripes that it names.
 *
 *   magic "IMRF" | version u16 = 1 | features u16 = 0
 *   then for each run of snapshots, ascending: its name 40 | count of birth runs, LEB128
 *     for each, ascending: gap since the end of the last birth run | length of the birth run, LEB128
 */
import { ImagerError } from '../base/errors.js'
import { readVarint } from '../base/varint.js'
import { RUN_NAME_BYTES, type RunsHandle, stripeOf } from '../stripes/names.js'

const ORDINALS = 65_536
const HEADER_BYTES = 8
/** Stripes of one run, as births have them. */
const NUMBERS = 2 ** 24
/** Of one run, as an addon's birth has them above its number and ordinal. */
const BIRTHS = BigInt(NUMBERS) * BigInt(ORDINALS)
/** Only full packs of 65,536 records follow each other in one birth run. */
const STRIPES_PER_RUN = 1 << 20
/** 2^24 stripes are 256 TiB of packs; a short bitmap of long birth runs must not fill the coordinator's memory. */
const STRIPES = 1 << 24

/** The stripes in which the births lie, ascending within each run; `runs` learns the runs. Throws CORRUPT or UNSUPPORTED. */
export function referencedStripes(bytes: Uint8Array, runs: RunsHandle): number[] {
  const stripes: number[] = []
  let [run, next] = [0, 0]
  const onRun = (name: Buffer) => {
    run = runs.number(name)
    next = 0
  }
  readBitmap(bytes, onRun, (start, end) => {
    const [first, last] = [Math.floor(start / ORDINALS), Math.floor((end - 1) / ORDINALS)]
    if (last - first > STRIPES_PER_RUN || stripes.length > STRIPES) throw corrupt('a birth run')
    for (let number = Math.max(first, next); number <= last; number++) stripes.push(stripeOf(run, number))
    next = last + 1
  })
  return stripes
}

/** Which births a bitmap names. */
export class NamedBirths {
  /** By the number of the run: where its birth runs begin, and where they end. */
  readonly #runs = new Map<number, { starts: number[]; ends: number[] }>()

  /** `runs` learns the runs. Throws CORRUPT or UNSUPPORTED. */
  constructor(bytes: Uint8Array, runs: RunsHandle) {
    let [starts, ends]: [number[], number[]] = [[], []]
    const onRun = (name: Buffer) => {
      ;[starts, ends] = [[], []]
      this.#runs.set(runs.number(name), { starts, ends })
    }
    readBitmap(bytes, onRun, (start, end) => {
      starts.push(start)
      ends.push(end)
    })
  }

  /** As those runs number it. */
  has(birth: bigint): boolean {
    const run = this.#runs.get(Number(birth / BIRTHS))
    if (!run) return false
    const wanted = Number(birth % BIRTHS)
    let [low, high] = [0, run.ends.length]
    while (low < high) {
      const middle = (low + high) >> 1
      if ((run.ends[middle] as number) <= wanted) low = middle + 1
      else high = middle
    }
    return low < run.starts.length && (run.starts[low] as number) <= wanted
  }
}

/** Tells each run of snapshots, and of each the births from `start` up to `end`: number in the run and ordinal. */
function readBitmap(
  bytes: Uint8Array,
  onRun: (name: Buffer) => void,
  onBirths: (start: number, end: number) => void,
): void {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (view.length < HEADER_BYTES || view.toString('latin1', 0, 4) !== 'IMRF')
    throw corrupt('this is no reference bitmap')
  const [version, features] = [view.readUInt16LE(4), view.readUInt16LE(6)]
  if (version !== 1 || features !== 0) {
    throw new ImagerError('UNSUPPORTED', { what: `Reference bitmap version ${version}, features ${features}` })
  }
  let last: Buffer | undefined
  for (let at = HEADER_BYTES; at < view.length; ) {
    const name = view.subarray(at, at + RUN_NAME_BYTES)
    if (name.length < RUN_NAME_BYTES || (last && Buffer.compare(last, name) >= 0)) throw corrupt('a run out of order')
    last = name
    onRun(name)
    const count = readVarint(view, at + RUN_NAME_BYTES, corrupt)
    if (count.value === 0) throw corrupt('a run without births')
    at = readRun(view, count.end, count.value, onBirths)
  }
}

function readRun(view: Buffer, from: number, count: number, onBirths: (start: number, end: number) => void): number {
  let [at, birth] = [from, 0]
  for (let nth = 0; nth < count; nth++) {
    const gap = readVarint(view, at, corrupt)
    const length = readVarint(view, gap.end, corrupt)
    at = length.end
    const start = birth + gap.value
    birth = start + length.value
    if (length.value === 0 || birth > NUMBERS * ORDINALS) throw corrupt('a birth run')
    onBirths(start, birth)
  }
  return at
}

function corrupt(what: string): ImagerError {
  return new ImagerError('CORRUPT', { what: `The reference bitmap is damaged: ${what}` })
}
