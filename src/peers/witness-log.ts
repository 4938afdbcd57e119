/**
 * What a witness has signed, and what it keeps for its coordinator: one file that only grows, so that a signature costs one write
 * and one sync. Integers are little-endian; a record is
 *
 *   offset  size  field
 *   0       1     kind: 1 head, 2 signed, 3 anew, 4 gone
 *   1       4     n, length of what follows
 *   5       n     of a head: its id (48), then its sealed catalog entry, which may be empty;
 *                 of a signed: the checkpoint and the own cosignature (`encodeCosigned`);
 *                 of an anew: nothing. The heads before it do not count any more;
 *                 of a gone: the id (48) of a head that was let go
 *
 * A signed record makes those before it count. What follows the last one was cut short, and is written over.
 */
import { type FileHandle, open } from 'node:fs/promises'
import { ENTRY_BYTES } from '../base/limits.js'
import { MiB } from '../base/units.js'
import { HEAD_ID_BYTES } from '../keys/head-set.js'
import { isMissing } from './files.js'

const HEADER_BYTES = 5
const HEAD = 1
const SIGNED = 2
const ANEW = 3
const GONE = 4
const WINDOW_BYTES = MiB
/** A record of more is none. */
const RECORD_BYTES = HEAD_ID_BYTES + ENTRY_BYTES

export interface LoggedHead {
  readonly id: Buffer
  /** Empty where nothing is kept of it. */
  readonly sealed: Buffer
}

interface Place {
  readonly at: number
  readonly length: number
}

export interface Signing {
  readonly heads: readonly LoggedHead[]
  readonly gone: Buffer
  readonly signed: Buffer
  readonly anew: boolean
}

export class WitnessLog {
  readonly #path: string
  /** Behind the last signed record. */
  #end = 0
  /** Of each head, by its id in Latin-1, where its entry lies. */
  readonly #entries = new Map<string, Place>()
  /** Those that were let go, the same. */
  readonly #gone = new Set<string>()
  /** The last signed record. */
  signed: Buffer | undefined

  private constructor(path: string) {
    this.#path = path
  }

  static async open(path: string): Promise<WitnessLog> {
    const log = new WitnessLog(path)
    await log.#read()
    return log
  }

  /** Of all heads that count, back to back. */
  ids(): Buffer {
    return Buffer.from([...this.#entries.keys()].join(''), 'latin1')
  }

  /** Of all that were let go. */
  gone(): Buffer {
    return Buffer.from([...this.#gone].join(''), 'latin1')
  }

  /** Durable when it returns; where it throws, nothing has changed. `gone`: ids back to back; `anew`: these are all. */
  async append({ heads, gone, signed, anew }: Signing): Promise<void> {
    const leaving = idsIn(gone)
    const places: [string, Place][] = []
    const parts: Buffer[] = []
    let at = this.#end
    const add = (kind: number, ...contents: Buffer[]) => {
      const length = contents.reduce((sum, one) => sum + one.length, 0)
      const header = Buffer.alloc(HEADER_BYTES)
      header.writeUInt8(kind, 0)
      header.writeUInt32LE(length, 1)
      parts.push(header, ...contents)
      at += HEADER_BYTES + length
    }
    if (anew) add(ANEW)
    for (const { id, sealed } of heads) {
      const place = { at: at + HEADER_BYTES + HEAD_ID_BYTES, length: sealed.length }
      places.push([id.toString('latin1'), place])
      add(HEAD, id, sealed)
    }
    for (const id of leaving) add(GONE, Buffer.from(id, 'latin1'))
    add(SIGNED, signed)
    const bytes = Buffer.concat(parts)
    const file = await open(this.#path, 'r+')
    try {
      for (let done = 0; done < bytes.length; ) {
        done += (await file.write(bytes, done, bytes.length - done, this.#end + done)).bytesWritten
      }
      // What an attempt that was cut short left behind it would be taken for records.
      await file.truncate(at)
      await file.sync()
    } finally {
      await file.close()
    }
    this.#end = at
    this.signed = signed
    this.#count(places, leaving, anew)
  }

  #count(heads: readonly [string, Place][], gone: readonly string[], anew: boolean): void {
    if (anew) this.#entries.clear()
    if (anew) this.#gone.clear()
    for (const [id, place] of heads) this.#entries.set(id, place)
    for (const id of gone) {
      this.#entries.delete(id)
      this.#gone.add(id)
    }
  }

  async entry(id: Buffer): Promise<Buffer | undefined> {
    const place = this.#entries.get(id.toString('latin1'))
    if (!place || place.length === 0) return undefined
    const file = await open(this.#path, 'r')
    try {
      const bytes = Buffer.alloc(place.length)
      const { bytesRead } = await file.read(bytes, 0, place.length, place.at)
      return bytesRead === place.length ? bytes : undefined
    } finally {
      await file.close()
    }
  }

  /** Up to the first record that is none. */
  async #read(): Promise<void> {
    let file: FileHandle
    try {
      file = await open(this.#path, 'r')
    } catch (error) {
      if (!isMissing(error)) throw error
      await (await open(this.#path, 'a', 0o600)).close()
      return
    }
    try {
      await this.#scan(new Windows(file, (await file.stat()).size))
    } finally {
      await file.close()
    }
  }

  async #scan(windows: Windows): Promise<void> {
    let waiting: [string, Place][] = []
    let leaving: string[] = []
    let anew = false
    for (let at = 0; ; ) {
      const header = await windows.read(at, HEADER_BYTES)
      const [kind, length] = header ? [header.readUInt8(0), header.readUInt32LE(1)] : [0, 0]
      const body = at + HEADER_BYTES
      if (length > RECORD_BYTES || body + length > windows.size) return
      if (kind === HEAD && length >= HEAD_ID_BYTES) {
        const id = await windows.read(body, HEAD_ID_BYTES)
        if (!id) return
        waiting.push([id.toString('latin1'), { at: body + HEAD_ID_BYTES, length: length - HEAD_ID_BYTES }])
      } else if (kind === ANEW) {
        anew = true
        waiting = []
        leaving = []
      } else if (kind === GONE && length === HEAD_ID_BYTES) {
        const id = await windows.read(body, length)
        if (!id) return
        leaving.push(id.toString('latin1'))
      } else if (kind === SIGNED) {
        const signed = await windows.read(body, length)
        if (!signed) return
        this.#count(waiting, leaving, anew)
        waiting = []
        leaving = []
        anew = false
        this.signed = Buffer.from(signed)
        this.#end = body + length
      } else return
      at = body + length
    }
  }
}

function idsIn(ids: Buffer): string[] {
  return Array.from({ length: ids.length / HEAD_ID_BYTES }, (_, at) =>
    ids.toString('latin1', at * HEAD_ID_BYTES, (at + 1) * HEAD_ID_BYTES),
  )
}

/** A file read in large pieces, forwards. */
class Windows {
  #from = 0
  #bytes = Buffer.alloc(0)

  constructor(
    readonly file: FileHandle,
    readonly size: number,
  ) {}

  /** Undefined where the file ends before. */
  async read(at: number, length: number): Promise<Buffer | undefined> {
    if (at + length > this.size) return undefined
    if (at < this.#from || at + length > this.#from + this.#bytes.length) {
      const window = Buffer.alloc(Math.max(length, Math.min(WINDOW_BYTES, this.size - at)))
      const { bytesRead } = await this.file.read(window, 0, window.length, at)
      this.#from = at
      this.#bytes = window.subarray(0, bytesRead)
    }
    const start = at - this.#from
    return start + length <= this.#bytes.length ? this.#bytes.subarray(start, start + length) : undefined
  }
}
