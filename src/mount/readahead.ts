/**
 * Tells the snapshot what a sequential reader will want next, further ahead than the kernel's own read-ahead (1 MiB)
 * reaches: behind it are other hosts' disks and a network. Only a hint; nothing waits for it and it never fails.
 */
import { MiB } from '../base/units.js'
import type { NodeId } from './top.js'

const AHEAD_BYTES = 16 * MiB
/** A reader is sequential when it has read this much in one go, give or take the kernel's reordering. */
const SEQUENTIAL_BYTES = 2 * MiB
const SLACK_BYTES = 2 * MiB
/** Files followed at once. */
const READERS = 64

interface Reader {
  /** Where the reader stands, how much it read in order, and how far ahead was asked for; in bytes. */
  at: number
  inOrder: number
  announced: number
}

export interface Prefetcher {
  prefetch(node: NodeId, offset: number, length: number): Promise<void>
}

export class ReadAhead {
  readonly #prefetcher: Prefetcher
  readonly #readers = new Map<string, Reader>()

  constructor(prefetcher: Prefetcher) {
    this.#prefetcher = prefetcher
  }

  read(node: NodeId, offset: number, length: number): void {
    const key = `${node.volume}/${node.number}`
    let reader = this.#readers.get(key)
    if (!reader || Math.abs(offset - reader.at) > SLACK_BYTES) {
      reader = { at: offset, inOrder: 0, announced: 0 }
      this.#keep(key, reader)
    }
    reader.inOrder += length
    reader.at = Math.max(reader.at, offset + length)
    if (reader.inOrder < SEQUENTIAL_BYTES || reader.announced - reader.at > AHEAD_BYTES / 2) return
    const from = Math.max(reader.at, reader.announced)
    const to = reader.at + AHEAD_BYTES
    reader.announced = to
    // A hint that fails costs nothing: the read itself will say what is wrong.
    this.#prefetcher.prefetch(node, from, to - from).catch(() => undefined)
  }

  #keep(key: string, reader: Reader): void {
    this.#readers.delete(key)
    this.#readers.set(key, reader)
    if (this.#readers.size <= READERS) return
    for (const oldest of this.#readers.keys()) {
      this.#readers.delete(oldest)
      break
    }
  }
}
