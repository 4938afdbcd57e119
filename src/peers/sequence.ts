/**
 * Which store this is, and how far it has come: a random id made with it, and a number that each put and each loss raises. Durable
 * before it is told to anybody, so that none is told twice, unless the folder was put back: then the number is older than a receipt's.
 *
 * File `store`, two slots at 0 and 4096, written in turn, so that a write that is cut short leaves the other; docs/formats/store.md:
 *
 *   offset  size  field
 *   0       4     magic "IMSQ"
 *   4       2     version = 1
 *   6       2     feature bits = 0
 *   8       16    id of the store
 *   24      8     sequence, little-endian
 *   32      32    BLAKE3 of the bytes before
 */
import { randomBytes } from 'node:crypto'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { ImagerError, reason } from '../base/errors.js'
import { type Hex, toHex } from '../base/ids.js'
import { hash } from '../native.js'
import { readIfThere } from './files.js'

const MAGIC = Buffer.from('IMSQ')
const SLOT_AT = [0, 4096] as const
const SLOT_BYTES = 64
const SUM_AT = 32

interface Slot {
  readonly id: Hex
  readonly sequence: number
  readonly slot: number
}

export class StoreSequence {
  readonly id: Hex
  readonly #path: string
  /** Given out, perhaps not yet durable. */
  #last: number
  #durable: number
  /** The older of the two. */
  #slot: number
  #writing: Promise<void> | undefined

  private constructor(path: string, { id, sequence, slot }: Slot) {
    this.id = id
    this.#path = path
    this.#last = sequence
    this.#durable = sequence
    this.#slot = 1 - slot
  }

  /** Makes a new id where there is none, or none that can be read: what was said under another is no longer worth anything. */
  static async open(folder: string): Promise<StoreSequence> {
    const path = join(folder, 'store')
    const bytes = await readIfThere(path)
    const slots = bytes ? SLOT_AT.flatMap((at, slot) => decode(bytes.subarray(at, at + SLOT_BYTES), slot)) : []
    const newest = slots.sort((a, b) => b.sequence - a.sequence)[0]
    if (newest) return new StoreSequence(path, newest)
    const made = new StoreSequence(path, { id: randomBytes(16).toString('hex'), sequence: 0, slot: 1 })
    await made.#write('w')
    return made
  }

  /** As far as it is durable. */
  get current(): number {
    return this.#durable
  }

  /** The next one, durable; those who ask meanwhile share a sync. Throws IO. */
  async raise(): Promise<number> {
    const mine = ++this.#last
    while (this.#durable < mine) {
      this.#writing ??= this.#write('r+').finally(() => {
        this.#writing = undefined
      })
      await this.#writing
    }
    return mine
  }

  async #write(how: 'w' | 'r+'): Promise<void> {
    const sequence = this.#last
    try {
      const file = await open(this.#path, how, 0o600)
      try {
        await file.write(encode(this.id, sequence), 0, SLOT_BYTES, SLOT_AT[this.#slot])
        await file.datasync()
      } finally {
        await file.close()
      }
    } catch (cause) {
      throw new ImagerError('IO', { what: `${this.#path} cannot be written: ${reason(cause)}` }, { cause })
    }
    this.#durable = sequence
    this.#slot = 1 - this.#slot
  }
}

function encode(id: Hex, sequence: number): Buffer {
  const slot = Buffer.alloc(SUM_AT)
  MAGIC.copy(slot, 0)
  slot.writeUInt16LE(1, 4)
  slot.write(id, 8, 'hex')
  slot.writeBigUInt64LE(BigInt(sequence), 24)
  return Buffer.concat([slot, hash(slot)])
}

/** None where it was cut short, or never written. */
function decode(bytes: Buffer, slot: number): Slot[] {
  if (bytes.length < SLOT_BYTES || !bytes.subarray(0, 4).equals(MAGIC) || bytes.readUInt32LE(4) !== 1) return []
  if (!hash(bytes.subarray(0, SUM_AT)).equals(bytes.subarray(SUM_AT, SLOT_BYTES))) return []
  const sequence = Number(bytes.readBigUInt64LE(24))
  return Number.isSafeInteger(sequence) ? [{ id: toHex(bytes.subarray(8, 24)), sequence, slot }] : []
}
