/** native/examples/reader.rs: reads an image as told and compares it with the original. */
import { type Command, measure } from './measure.js'
import { run, type Source } from './sources.js'
import type { Restored } from './tool.js'

const READER = 'native/target/release/examples/reader'
const SEQUENTIAL_BYTES = 1e9
/** More than any tool fills in one figure. */
const TOUCHED_BYTES = 3e9
/** Few enough that hardly two lie in one block; as many as come within the time. */
const READS = 2000
const RANDOM_MS = 5000

export interface ReadReport {
  readonly reads: number
  readonly bytes: number
  readonly seconds: number
}

export const readSequential = (source: Source, path: string) => report(source, 'sequential', path, SEQUENTIAL_BYTES)

export const readRandom = (source: Source, path: string, jobs: number, seed: number) =>
  report(source, 'random', path, jobs, READS * Math.min(jobs, 4), RANDOM_MS, seed)

/** Throws unless everything that a snapshot holds is there, byte for byte. */
export const verify = (source: Source, { path, startBytes, endBytes }: Restored) =>
  report(source, 'verify', path, startBytes, endBytes)

/** What files hold, of all that is in use. */
export const fileBytes = async (source: Source) => (await report(source, 'files')).bytes

/** Pages of 4 KiB in use that are nowhere in the other disk. */
export const changedBytes = async (source: Source, before: Source) =>
  (await report(source, 'changed', before.path)).bytes

/** So that no figure pays for memory that the host of a virtual machine has taken back meanwhile. */
export const touchMemory = () => run(READER, 'touch', String(TOUCHED_BYTES))

async function report({ image }: Source, verb: string, ...args: (string | number)[]): Promise<ReadReport> {
  const command: Command = { argv: [READER, verb, image, ...args.map(String)] }
  return JSON.parse((await measure(command)).stdout) as ReadReport
}
