/**
 * Which store each host has, and how far it had come when that was last said: by a heartbeat, or in a receipt. What a host signed counts
 * as long as its store is that one and has not gone back.
 */
import type Database from 'better-sqlite3'
import type { Hex } from '../base/ids.js'
import { readReceipt } from '../stripes/receipt.js'

/** As a host says it of its own store. */
export interface StoreState {
  readonly id: Hex
  /** Raised by each put and each loss. */
  readonly sequence: number
  /** What it holds, see `Buckets`: their root, and where that was asked for all of them, base64. */
  readonly shards: Hex
  readonly buckets?: string
}

export type Verdict = 'same' | 'first' | 'other' | 'back' | 'gone'

/** `sure`: the sequence that the store had when its host was heard of before. Pure. */
export function judgeStore(id: Hex, sure: number, said: Pick<StoreState, 'id' | 'sequence'> | null): Verdict {
  if (!said) return id === '' ? 'same' : 'gone'
  if (id === '') return 'first'
  if (said.id !== id) return 'other'
  return said.sequence < sure ? 'back' : 'same'
}

interface Known {
  id: Hex
  sequence: number
  /** The sequence when it was heard of last: a heartbeat may have been on its way while a receipt came. */
  sure: number
  /** As its row has it: receipts raise it by thousands, and only a heartbeat writes it down. */
  written: number
}

export class Stores {
  readonly #db: Database.Database
  readonly #known = new Map<Hex, Known>()
  readonly #void: Database.Statement<[{ host: Hex; above: number }]>

  constructor(db: Database.Database) {
    this.#db = db
    db.function('receiptSequence', { deterministic: true }, (receipt) => readReceipt(receipt as Buffer).sequence)
    this.#void = db.prepare(`UPDATE shard SET receipt = NULL WHERE receipt IS NOT NULL
      AND host = (SELECT n FROM host WHERE host = @host) AND (@above < 0 OR receiptSequence(receipt) > @above)`)
  }

  /** Does what a host signed hold for the store that it has? It does not lower what is known of it. */
  counts(host: Hex, signed: Uint8Array): boolean {
    const { store, sequence } = readReceipt(signed)
    const known = this.#of(host)
    if (known.id === '') this.#keep(host, known, { id: store, sequence })
    if (known.id !== store) return false
    known.sequence = Math.max(known.sequence, sequence)
    return true
  }

  /** Takes what the host says now; gives why its store is not to be believed, where that is new. What it signed before is void then. */
  hear(host: Hex, said: StoreState | null): string | undefined {
    const known = this.#of(host)
    const verdict = judgeStore(known.id, known.sure, said)
    if (verdict === 'gone' || !said) return verdict === 'gone' ? 'it has no store any more' : undefined
    const before = known.sequence
    if (verdict === 'other') this.#void.run({ host, above: -1 })
    if (verdict === 'back') this.#void.run({ host, above: said.sequence })
    const goesOn = verdict === 'same' ? Math.max(before, said.sequence) : said.sequence
    this.#keep(host, known, { id: said.id, sequence: goesOn })
    known.sure = known.sequence
    if (verdict === 'other') return 'its store is another one than before'
    if (verdict === 'back') return `its store was put back: it is at ${said.sequence}, and was at ${before}`
    return undefined
  }

  #keep(host: Hex, known: Known, { id, sequence }: Pick<StoreState, 'id' | 'sequence'>): void {
    if (known.id !== id || known.written !== sequence)
      this.#db.prepare('UPDATE host SET store = ?, storeSequence = ? WHERE host = ?').run(id, sequence, host)
    known.id = id
    known.sequence = sequence
    known.written = sequence
  }

  #of(host: Hex): Known {
    const kept = this.#known.get(host)
    if (kept) return kept
    const row = this.#db
      .prepare<[Hex], { store: Hex; storeSequence: number }>(
        'SELECT store, storeSequence FROM sound_host WHERE host = ?',
      )
      .get(host)
    const { store: id = '', storeSequence: sequence = 0 } = row ?? {}
    const known = { id, sequence, sure: sequence, written: sequence }
    this.#known.set(host, known)
    return known
  }

  /** A transaction was taken back: what was noted in it is read anew. */
  forget(): void {
    this.#known.clear()
  }
}
