/**
 * How many bytes of shards a store holds, and which (`stripes/buckets.ts`), folder by folder. Who takes shards away behind a running peer, or the disk from under
 * it, is noticed by the folders' times: only those that changed are counted again.
 */
import type { BigIntStats } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Hex } from '../base/ids.js'
import { Buckets } from '../stripes/buckets.js'

const SHARD_FILE = /^([0-9a-f]{32})\.shard$/

interface Counted {
  bytes: number
  /** The folder's time when they were counted; undefined: they are to be counted again. */
  at: bigint | undefined
}

export class HeldBytes {
  readonly #shards: string
  readonly #folders = new Map<string, Counted>()
  readonly #device: bigint
  readonly buckets = new Buckets()

  private constructor(shards: string, device: bigint) {
    this.#shards = shards
    this.#device = device
  }

  static async count(shards: string): Promise<HeldBytes> {
    const held = new HeldBytes(shards, (await stat(shards, { bigint: true })).dev)
    await held.look()
    return held
  }

  get total(): number {
    return [...this.#folders.values()].reduce((sum, { bytes }) => sum + bytes, 0)
  }

  /** This process wrote, or replaced, a shard. */
  add(shard: Hex, bytes: number, isNew: boolean): void {
    const prefix = shard.slice(0, 2)
    if (isNew) this.buckets.change(Buffer.from(shard, 'hex'), 1)
    this.#folders.set(prefix, { bytes: (this.#folders.get(prefix)?.bytes ?? 0) + bytes, at: undefined })
  }

  /** False where the folder of shards is gone, or another disk lies there. Counts what changed. */
  async look(): Promise<boolean> {
    const top = await statIfThere(this.#shards)
    if (top?.dev !== this.#device) {
      this.#folders.clear()
      return false
    }
    for (let index = 0; index < 256; index++) await this.#lookInto(index.toString(16).padStart(2, '0'))
    return true
  }

  async #lookInto(prefix: string): Promise<void> {
    const folder = join(this.#shards, prefix)
    const before = await statIfThere(folder)
    if (before && before.mtimeNs === this.#folders.get(prefix)?.at) return
    let bytes = 0
    const ids: Buffer[] = []
    for (const name of before ? await readdir(folder).catch(() => []) : []) {
      const id = SHARD_FILE.exec(name)?.[1]
      if (id === undefined) continue
      bytes += Number((await statIfThere(join(folder, name)))?.size ?? 0n)
      if (id.startsWith(prefix)) ids.push(Buffer.from(id, 'hex'))
    }
    // Changed meanwhile: a shard comes in just now. Next time.
    if ((await statIfThere(folder))?.mtimeNs !== before?.mtimeNs && this.#folders.has(prefix)) return
    this.#folders.set(prefix, { bytes, at: before?.mtimeNs })
    this.buckets.clear(Number.parseInt(prefix, 16))
    for (const id of ids) this.buckets.change(id, 1)
  }
}

async function statIfThere(path: string): Promise<BigIntStats | undefined> {
  return stat(path, { bigint: true }).catch(() => undefined)
}
