/**
 * Names that are never given twice (docs/formats/names.md). A stripe is (writer, run, number): its writer draws the run, 64
 * random bits, at the beginning of a snapshot, and counts from 0 in it. In memory a run is a number of a `Runs`, and a stripe
 * one number that holds it; whoever passes stripes on to somebody with another `Runs` translates them.
 */
import { fromHex, type Hex, toHex } from '../base/ids.js'
import { Runs, shardId } from '../native.js'

export type RunsHandle = InstanceType<typeof Runs>

/** Stripes of one run. */
const NUMBERS = 2 ** 24
/** Of a run's name: writer 32, run 8. */
export const RUN_NAME_BYTES = 40
const WRITER_BYTES = 32

/** `run`: 16 hexadecimal digits. */
export function runName(writer: Hex, run: Hex): Buffer {
  const name = fromHex(writer + run, RUN_NAME_BYTES)
  if (!name) throw new RangeError(`${writer} ${run} is no run`)
  return name
}

export function partsOfRunName(name: Uint8Array): { writer: Hex; run: Hex } {
  return { writer: toHex(name.subarray(0, WRITER_BYTES)), run: toHex(name.subarray(WRITER_BYTES)) }
}

export function stripeOf(run: number, number: number): number {
  return run * NUMBERS + number
}

export function runOf(stripe: number): number {
  return Math.floor(stripe / NUMBERS)
}

/** Of a stripe in its run. */
export function numberOf(stripe: number): number {
  return stripe % NUMBERS
}

/** The id of one of its shards, under which peers keep it. */
export function shardOf(name: Uint8Array, stripe: number, index: number): Hex {
  return shardId(name, numberOf(stripe), index)
}

/** Where a record was born, as a head names it. */
export interface Born {
  readonly writer: Hex
  readonly run: Hex
  readonly number: number
  readonly ordinal: number
}

/** Its stripe and its birth, as `runs` numbers them; it learns the run. */
export function birthOf(runs: RunsHandle, { writer, run, number, ordinal }: Born): { stripe: number; birth: bigint } {
  const stripe = stripeOf(runs.number(runName(writer, run)), number)
  return { stripe, birth: (BigInt(stripe) << 16n) | BigInt(ordinal) }
}

/** For people: the beginning of its writer's key, its run and its number there. */
export function describeStripe(runs: RunsHandle, stripe: number): string {
  const name = runs.name(runOf(stripe))
  if (!name) return String(stripe)
  const { writer, run } = partsOfRunName(name)
  return `${writer.slice(0, 8)}/${run}/${numberOf(stripe)}`
}

/** Stripes as `from` numbers them by the numbers of `to`; 0 where neither knows its run, unless `to` learns it. */
export class Renumbering {
  readonly #runs = new Map<number, number>()

  constructor(
    readonly from: RunsHandle,
    readonly to: RunsHandle,
    readonly unknown: 'learn' | 'none',
  ) {}

  stripe(stripe: number): number {
    const run = runOf(stripe)
    let there = this.#runs.get(run)
    if (there === undefined) {
      there = this.#run(run)
      this.#runs.set(run, there)
    }
    return there === 0 ? 0 : stripeOf(there, numberOf(stripe))
  }

  #run(run: number): number {
    const name = this.from.name(run)
    if (!name) return 0
    return this.unknown === 'learn' ? this.to.number(name) : (this.to.find(name) ?? 0)
  }
}

/** Stripes for a message, with the runs that number them there. 0 stays: it is none. */
export function nameStripes(names: RunsHandle, stripes: readonly number[]): { runs: string[]; numbers: number[] } {
  const table = new Runs()
  const renumbering = new Renumbering(names, table, 'learn')
  const numbers = stripes.map((stripe) => renumbering.stripe(stripe))
  return { runs: encodeRuns(table), numbers }
}

/** The names in the order of their numbers, from 1, as a message carries them: 80 hexadecimal digits each. */
export function encodeRuns(runs: RunsHandle): string[] {
  return Array.from({ length: runs.count }, (_, at) => toHex(runs.name(at + 1) as Buffer))
}

/** The other way. Undefined where one is listed twice, or is no name. */
export function decodeRuns(names: readonly string[]): RunsHandle | undefined {
  const runs = new Runs()
  for (const text of names) {
    const name = fromHex(text, RUN_NAME_BYTES)
    if (!name || runs.find(name) !== null) return undefined
    runs.number(name)
  }
  return runs
}
