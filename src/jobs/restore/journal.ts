/**
 * What a restore keeps in the state folder until it is done: which snapshot goes onto which target, where to begin when it was
 * cut short, and by what the target is known again: hashes of its tables and of three landmarks, pieces that were finished. Only
 * evidence: whoever goes on compares all of the target with the snapshot, and without a journal (the folder is full or
 * read-only) a restore is as right, but wants `--force` to go on. Nothing on the target is there for its sake.
 *
 * Two equal lines and an empty one between, each `{"entry": {...}, "hash": H}` with the hash of the entry's JSON: a flipped
 * bit leaves one of them.
 */
import { closeSync, openSync, readFileSync, readSync, rmSync, statSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import * as v from 'valibot'
import { reason } from '../../base/errors.js'
import { type Hex, toHex } from '../../base/ids.js'
import { MiB } from '../../base/units.js'
import type { TargetFacts } from '../../disk/target.js'
import { writeDurable } from '../../keys/durable.js'
import { Count } from '../../keys/fields.js'
import { hash } from '../../native.js'

/** Partition tables, boot loaders, superblocks. */
const TABLES = { start: 0, length: MiB }

export interface Landmark {
  readonly start: number
  readonly length: number
}

const Mark = v.object({ start: Count, length: v.pipe(Count, v.maxValue(MiB)), hash: v.string() })
const Entry = v.object({
  snapshot: v.string(),
  /** Title and size of a device, device and inode of a file. */
  target: v.pipe(v.array(v.union([v.string(), v.number()])), v.length(2)),
  /** The first section that was not finished. */
  next: Count,
  marks: v.pipe(v.array(Mark), v.maxLength(4)),
})
type Entry = v.InferOutput<typeof Entry>
const Line = v.object({ entry: Entry, hash: v.string() })

/**
 * `none`: no restore of this snapshot onto this target was cut short. `known`: one was, and something that it left is there.
 * `doubtful`: one was, but none of what the journal knows is there: something else may be. `blank`: nothing is.
 */
export type Standing = 'none' | 'known' | 'doubtful' | 'blank'

export class RestoreJournal {
  readonly path: string
  /** Why nothing can be kept, where that is so. */
  failure: string | undefined
  readonly #snapshot: Hex
  readonly #target: TargetFacts
  #landmarks: readonly Landmark[] = []
  #next = 0

  constructor(state: string, snapshot: Hex, target: TargetFacts) {
    this.path = join(state, `restore-${digest(Buffer.from(resolve(target.path))).slice(0, 16)}.journal`)
    this.#snapshot = snapshot
    this.#target = target
  }

  /** The section to begin with. */
  get next(): number {
    return this.#next
  }

  look(): Standing {
    const entry = decodeJournal(readOrNothing(this.path))
    const same = entry?.snapshot === this.#snapshot && isDeepStrictEqual(entry.target, this.#identity())
    if (!entry || !same) return 'none'
    const found = entry.marks.some((mark) => this.#hash(mark) === mark.hash)
    if (!found) return 'doubtful'
    this.#next = entry.next
    this.#landmarks = entry.marks.filter(({ start }) => start !== TABLES.start)
    return 'known'
  }

  /** Where these pieces of the target are written and durable; keeps three of all that it is told of. */
  finished(landmarks: readonly Landmark[]): void {
    this.#landmarks = spread([...this.#landmarks, ...landmarks])
  }

  /** Writes down what stands. The target must be durable; a failure is kept in `failure`, and the restore goes on. */
  save(next = this.#next): void {
    this.#next = next
    const marks = [TABLES, ...this.#landmarks].flatMap(({ start, length }) => {
      const found = this.#hash({ start, length })
      return found === undefined ? [] : [{ start, length, hash: found }]
    })
    const entry = { snapshot: this.#snapshot, target: this.#identity(), next, marks }
    try {
      writeDurable(this.path, Buffer.from(encodeJournal(entry)))
    } catch (error) {
      this.failure ??= reason(error)
    }
  }

  end(): void {
    try {
      rmSync(this.path, { force: true })
    } catch (error) {
      // It is of a target that is whole now: whoever finds it compares and writes nothing.
      this.failure ??= reason(error)
    }
  }

  #identity(): (string | number)[] {
    const { path, kind, title, sizeBytes } = this.#target
    if (kind === 'device') return [title, sizeBytes]
    const stats = statSync(path, { throwIfNoEntry: false })
    return stats ? [stats.dev, stats.ino] : [0, 0]
  }

  /** Undefined where the target does not reach so far, or holds only zeros there, which say nothing. */
  #hash({ start, length }: Landmark): Hex | undefined {
    const bytes = Buffer.alloc(length)
    try {
      const file = openSync(this.#target.path, 'r')
      try {
        const read = readSync(file, bytes, 0, length, start)
        // The tables of a disk that is shorter are all of it.
        if (read < length && start !== TABLES.start) return undefined
      } finally {
        closeSync(file)
      }
    } catch {
      return undefined
    }
    return bytes.equals(Buffer.alloc(length)) ? undefined : digest(bytes)
  }
}

/** Of landmarks anywhere the first, the last and one between; fewer where they are fewer. */
export function spread(landmarks: readonly Landmark[]): Landmark[] {
  const sorted = [...landmarks].sort((a, b) => a.start - b.start)
  const distinct = sorted.filter(({ start }, at) => start !== sorted[at - 1]?.start)
  const chosen = new Set([0, distinct.length >> 1, distinct.length - 1])
  return distinct.filter((_, at) => chosen.has(at))
}

export function encodeJournal(entry: Entry): string {
  const line = JSON.stringify({ entry, hash: digest(Buffer.from(JSON.stringify(entry))) })
  return `${line}\n\n${line}\n`
}

/** The first line that is whole; undefined where none is. */
export function decodeJournal(text: string): Entry | undefined {
  for (const line of text.split('\n')) {
    const read = v.safeParse(Line, parse(line))
    if (read.success && read.output.hash === digest(Buffer.from(JSON.stringify(read.output.entry)))) {
      return read.output.entry
    }
  }
  return undefined
}

function parse(line: string): unknown {
  try {
    return JSON.parse(line)
  } catch {
    return undefined
  }
}

function readOrNothing(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}

function digest(bytes: Uint8Array): Hex {
  return toHex(hash(bytes))
}
