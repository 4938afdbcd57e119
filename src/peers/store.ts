/**
 * A peer's folder of shards and documents. A file is whole or absent: written under a temporary name, fsynced, renamed,
 * its folder fsynced, and only then acknowledged. A shard is written once, and once it is there no shard of another stripe of the
 * same name; documents are replaced whole.
 *
 *   shards/<first two digits>/<shard>.shard     256 folders, made at the start
 *   documents/<kind>/<name>                     signed statements; bitmaps beside their heads
 *   store                                       which store this is, and how far it has come
 *   incoming/                                   what is being written; emptied at the start
 */
import { type FileHandle, mkdir, open, readdir, rm, stat, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { hasCode, ImagerError, reason } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import { SHARD_FILE_BYTES } from '../base/limits.js'
import { GiB } from '../base/units.js'
import { findOtherStripe, inspectShardFile, type ShardFacts } from '../native.js'
import type { Buckets } from '../stripes/buckets.js'
import { isMissing, isNoSpace, moveWhole, readIfThere, syncFolder, writeSynced, writeWhole } from './files.js'
import { HeldBytes } from './held-bytes.js'
import { fileSystemIdentity } from './identity.js'
import { StoreSequence } from './sequence.js'

export const DOCUMENT_KINDS = [
  ...(['head', 'key', 'membership', 'bitmap', 'address'] as const),
  ...(['forget', 'hold', 'release', 'policy'] as const),
] as const
export type DocumentKind = (typeof DOCUMENT_KINDS)[number]
/** A bitmap proves nothing by itself: its head does. */
export type StatementKind = Exclude<DocumentKind, 'bitmap'>

export interface StoreOptions {
  readonly folder: string
  /** Of shards and documents together; undefined: what the floor leaves. */
  readonly maxBytes?: number | undefined
  /** Left free on the file system for its owner; undefined: 5 % of it, at least 1 GiB. */
  readonly keepFree?: number | undefined
  /** The host, as errors call it. */
  readonly name: string
}

export interface Space {
  freeBytes: number
  usedBytes: number
  capacityBytes: number
  /** Stores with the same identity share their space. */
  storage: string
}

export interface Held {
  shard: Hex
  bytes: number
}

/** What became of a shard that was put: now it is held durably, as `facts` say. */
export interface Kept {
  readonly outcome: 'stored' | 'present'
  readonly facts: ShardFacts
  /** Id of the store, and its sequence from which on it is held. */
  readonly store: Hex
  readonly sequence: number
}

/** Bounds how many documents are taken whose names begin alike. */
export interface DocumentLimit {
  readonly prefix: string
  /** Throws where a new one must not be added; `since` is when each of the others was taken. */
  admits(held: readonly { name: string; since: number }[]): void
}

const SHARD_NAME = /^([0-9a-f]{32})\.shard$/
const DOCUMENT_NAME = /^(?:[0-9a-f]{32}){1,4}$/

export class ShardStore {
  readonly #options: StoreOptions
  readonly #storage: string
  readonly #held: HeldBytes
  readonly #sequence: StoreSequence
  #documentBytes: number
  /** Its folder is gone, or another disk lies there. */
  #gone = false
  /** Of writes under way: promised, not yet seen by the file system. */
  #pendingBytes = 0
  #temporary = 0
  readonly #turns = new Map<string, Promise<unknown>>()
  #stored = () => {}

  private constructor(
    options: StoreOptions,
    storage: string,
    held: HeldBytes,
    documentBytes: number,
    sequence: StoreSequence,
  ) {
    this.#sequence = sequence
    this.#options = options
    this.#storage = storage
    this.#held = held
    this.#documentBytes = documentBytes
  }

  /** Makes the folders, removes what a crash left half-written, counts what is held. */
  static async open(options: StoreOptions): Promise<ShardStore> {
    const { folder } = options
    try {
      await rm(join(folder, 'incoming'), { recursive: true, force: true })
      for (const name of ['incoming', ...DOCUMENT_KINDS.map((kind) => join('documents', kind))]) {
        await mkdir(join(folder, name), { recursive: true, mode: 0o700 })
      }
      for (const prefix of prefixes()) await mkdir(join(folder, 'shards', prefix), { recursive: true, mode: 0o700 })
      const sequence = await StoreSequence.open(folder)
      for (const name of ['shards', 'documents', '.']) await syncFolder(join(folder, name))
      const held = await HeldBytes.count(join(folder, 'shards'))
      const documentBytes = await countDocuments(folder)
      return new ShardStore(options, await fileSystemIdentity(folder), held, documentBytes, sequence)
    } catch (cause) {
      throw new ImagerError('SYSTEM', { what: `The store ${folder} cannot be opened: ${reason(cause)}` }, { cause })
    }
  }

  get name(): string {
    return this.#options.name
  }

  /** Has `stored` called whenever it holds more, or other, bytes than before. */
  watch(stored: () => void): void {
    this.#stored = stored
  }

  /**
   * Durable when it returns, and read back. The same stripe's shard again is `present`; a shard of another stripe of the same
   * name, of whichever index, is refused (HOST_REFUSED), as is one that is held and sound under other bytes; a damaged one is
   * replaced. HOST_FULL leaves nothing behind.
   */
  async put(shard: Hex, bytes: Uint8Array): Promise<Kept> {
    return this.receive(shard, bytes.length, async (path) => {
      await this.#writing(writeSynced(path, bytes))
      return this.readBack(path)
    })
  }

  /**
   * The same for bytes that come straight into a file: `take` writes them to the path it is given, as many as were said, syncs
   * them and gives what the disk has of them. Their room is claimed before.
   */
  async receive(shard: Hex, lengthBytes: number, take: (path: string) => Promise<ShardFacts>): Promise<Kept> {
    const path = this.shardPath(shard)
    const temporary = this.#temporaryPath()
    const isHeld = (await this.holds(shard)) && (await sizeOf(path)) > 0
    const aboveFloor = await this.#aboveFloor()
    // Nothing comes between the look and the claim, so two writers never get the same room.
    if (!isHeld) this.#checkRoom(lengthBytes, aboveFloor)
    this.#pendingBytes += lengthBytes
    try {
      const facts = await take(temporary)
      const { run, number } = facts.stripe
      return await this.#inTurn(`${run.toString('hex')} ${number}`, () => this.#keep(shard, temporary, facts))
    } finally {
      this.#pendingBytes -= lengthBytes
      await rm(temporary, { force: true }).catch(() => {})
    }
  }

  /** A shard that is held, read from the disk again, whole; or what is wrong with it. */
  async reread(shard: Hex): Promise<Kept | 'missing' | 'corrupt'> {
    try {
      const facts = await inspectShardFile(this.shardPath(shard))
      if (facts.shard !== shard) return 'corrupt'
      return { outcome: 'present', facts, store: this.#sequence.id, sequence: this.#sequence.current }
    } catch (error) {
      // What the disk does not give is as good as wrong.
      if (!hasCode(error, 'CORRUPT', 'FORGED', 'UNSUPPORTED', 'IO')) throw error
      return (await this.holds(shard)) ? 'corrupt' : 'missing'
    }
  }

  /** What was synced, as the disk gives it back. */
  async readBack(path: string): Promise<ShardFacts> {
    try {
      return await inspectShardFile(path)
    } catch (cause) {
      throw notHeld(this.name, reason(cause), cause)
    }
  }

  /** In the turn of its stripe's name. A twin may have put other shards of that name on other hosts (decision 36). */
  async #keep(shard: Hex, temporary: string, facts: ShardFacts): Promise<Kept> {
    const path = this.shardPath(shard)
    const held = await this.#inspectHeld(shard)
    if (held?.facts?.root === facts.root && held.facts.stripe.identity === facts.stripe.identity) {
      await syncFolder(join(path, '..'))
      return { outcome: 'present', facts: held.facts, store: this.#sequence.id, sequence: this.#sequence.current }
    }
    if (held?.facts) throw this.#refused(`shard ${shard} is there with other bytes`)
    const other = await findOtherStripe(this.shards, facts.stripe)
    if (other !== null) throw this.#refused(`shard ${other} is there, of another stripe of the same name`)
    const sequence = await this.#sequence.raise()
    await this.#writing(moveWhole(temporary, path))
    this.#held.add(shard, facts.bodyOffset + facts.bodyBytes - (held?.bytes ?? 0), held === undefined)
    this.#stored()
    return { outcome: 'stored', facts, store: this.#sequence.id, sequence }
  }

  /** No `facts` where it is damaged; undefined where it is not there. */
  async #inspectHeld(shard: Hex): Promise<{ bytes: number; facts: ShardFacts | undefined } | undefined> {
    const path = this.shardPath(shard)
    if (!(await this.holds(shard))) return undefined
    const facts = await inspectShardFile(path).catch((error: unknown) => {
      if (hasCode(error, 'CORRUPT', 'FORGED', 'UNSUPPORTED')) return undefined
      throw error
    })
    return { bytes: await sizeOf(path), facts: facts?.shard === shard ? facts : undefined }
  }

  async holds(shard: Hex): Promise<boolean> {
    return stat(this.shardPath(shard)).then(
      () => true,
      () => false,
    )
  }

  /** Exactly these bytes. SHARD_MISSING where it is not held, SHARD_CORRUPT where the file ends before `end`. */
  async read(shard: Hex, range?: readonly [start: number, end: number]): Promise<Buffer> {
    const file = await this.#openShard(shard)
    try {
      const { size } = await file.stat()
      const [start, end] = range ?? [0, size]
      if (end - start > SHARD_FILE_BYTES) throw new ImagerError('PROTOCOL', { what: `a range of ${end - start} bytes` })
      if (end > size) throw new ImagerError('SHARD_CORRUPT', { shard, host: this.name })
      const buffer = Buffer.allocUnsafe(end - start)
      const { bytesRead } = await file.read(buffer, 0, buffer.length, start)
      if (bytesRead === buffer.length) return buffer
      throw new ImagerError('SHARD_CORRUPT', { shard, host: this.#options.name })
    } catch (cause) {
      if (cause instanceof ImagerError) throw cause
      throw new ImagerError('IO', { what: `Shard ${shard} on ${this.#options.name}: ${reason(cause)}` }, { cause })
    } finally {
      await file.close()
    }
  }

  /** Shards after `after` in order of their ids; `next` is what to ask for next. */
  async inventory(after: string, limit: number): Promise<{ shards: Held[]; next: Hex | null }> {
    const shards: Held[] = []
    for (const prefix of prefixes()) {
      if (prefix < after.slice(0, 2)) continue
      const ids = (await shardsIn(join(this.shards, prefix))).filter((id) => id > after)
      for (const shard of ids) {
        if (shards.length === limit) return { shards, next: shards.at(-1)?.shard ?? null }
        shards.push({ shard, bytes: await sizeOf(this.shardPath(shard)) })
      }
    }
    return { shards, next: null }
  }

  /**
   * `replaces` judges what is held, inside the same turn; it throws where the new one must not take its place. Documents are
   * small and every snapshot needs them, so only the disk itself bounds them, and `limit` where there is one.
   */
  async putDocument(
    kind: DocumentKind,
    name: string,
    bytes: Uint8Array,
    replaces: (held: Buffer) => void,
    limit?: DocumentLimit,
  ): Promise<void> {
    const path = this.#documentPath(kind, name)
    return this.#inTurn(limit ? join(path, '..', limit.prefix) : path, async () => {
      const held = await readIfThere(path)
      if (held?.equals(bytes)) return syncFolder(join(path, '..'))
      if (held) replaces(held)
      else if (limit) limit.admits(await this.#takenSince(kind, limit.prefix))
      await this.#writeWhole(path, bytes)
      this.#documentBytes += bytes.length - (held?.length ?? 0)
      this.#stored()
    })
  }

  async document(kind: DocumentKind, name: string): Promise<Buffer | undefined> {
    return readIfThere(this.#documentPath(kind, name))
  }

  /** When it was written, by this host's clock; ms since 1970. */
  async documentTime(kind: DocumentKind, name: string): Promise<number> {
    return (await stat(this.#documentPath(kind, name))).mtimeMs
  }

  async dropDocument(kind: DocumentKind, name: string): Promise<void> {
    const path = this.#documentPath(kind, name)
    await this.#inTurn(path, async () => {
      const held = await readIfThere(path)
      await rm(path, { force: true })
      this.#documentBytes -= held?.length ?? 0
    })
  }

  /** Their names, in order. */
  async documents(kind: DocumentKind): Promise<string[]> {
    const names = await readdir(join(this.#options.folder, 'documents', kind))
    return names.filter((name) => DOCUMENT_NAME.test(name)).sort()
  }

  /**
   * When each was taken is its file's time of change: kept by the file system and out of reach of whoever sends it. A store that
   * was copied without its times took everything on that day: for a day it takes less.
   */
  async #takenSince(kind: DocumentKind, prefix: string): Promise<{ name: string; since: number }[]> {
    const names = (await this.documents(kind)).filter((name) => name.startsWith(prefix))
    const path = (name: string) => this.#documentPath(kind, name)
    return Promise.all(names.map(async (name) => ({ name, since: (await stat(path(name))).mtimeMs })))
  }

  /** Looks whether everything is still there; before a heartbeat says so. */
  async lookAgain(): Promise<void> {
    const before = this.#held.total
    this.#gone = !(await this.#held.look())
    if (!this.#gone && this.#held.total < before) await this.#sequence.raise()
  }

  /** Nothing, and no storage, where its folder is gone. */
  async free(): Promise<Space> {
    if (this.#gone) return { freeBytes: 0, usedBytes: 0, capacityBytes: 0, storage: '' }
    const freeBytes = Math.max(0, this.#room(await this.#aboveFloor()))
    const usedBytes = this.#used
    return { freeBytes, usedBytes, capacityBytes: usedBytes + freeBytes, storage: this.#storage }
  }

  /** Which store this is, how far it has come, durably, and the root of `buckets`; null where its folder is gone. */
  get state(): { id: Hex; sequence: number; shards: Hex } | null {
    if (this.#gone) return null
    return { id: this.#sequence.id, sequence: this.#sequence.current, shards: this.#held.buckets.root }
  }

  /** What it holds. */
  get buckets(): Buckets {
    return this.#held.buckets
  }

  /** Throws HOST_FULL where so many bytes would pass the quota or the owner's floor. */
  async requireRoom(bytes: number): Promise<void> {
    this.#checkRoom(bytes, await this.#aboveFloor())
  }

  async #aboveFloor(): Promise<number> {
    const { bavail, bsize, blocks } = await statfs(this.#options.folder)
    return bavail * bsize - (this.#options.keepFree ?? Math.max(Math.ceil(0.05 * blocks * bsize), GiB))
  }

  get #used(): number {
    return this.#held.total + this.#documentBytes
  }

  #room(aboveFloor: number): number {
    const underQuota = (this.#options.maxBytes ?? Number.MAX_SAFE_INTEGER) - this.#used
    return Math.min(aboveFloor, underQuota) - this.#pendingBytes
  }

  #checkRoom(bytes: number, aboveFloor: number): void {
    const room = this.#room(aboveFloor)
    if (room < bytes) throw this.#full(`${bytes} bytes do not fit into the ${Math.max(0, room)} that are left`)
  }

  async #writeWhole(path: string, bytes: Uint8Array): Promise<void> {
    await this.#writing(writeWhole(this.#temporaryPath(), path, bytes))
  }

  #temporaryPath(): string {
    return join(this.#options.folder, 'incoming', String(this.#temporary++))
  }

  async #writing(work: Promise<void>): Promise<void> {
    try {
      await work
    } catch (cause) {
      if (isNoSpace(cause)) throw this.#full(reason(cause), cause)
      throw new ImagerError('IO', { what: `${this.#options.name} cannot write: ${reason(cause)}` }, { cause })
    }
  }

  /** One writer at a time for a path. */
  async #inTurn<T>(path: string, task: () => Promise<T>): Promise<T> {
    const mine = (this.#turns.get(path) ?? Promise.resolve()).then(task)
    const quiet = mine.catch(() => {})
    this.#turns.set(path, quiet)
    try {
      return await mine
    } finally {
      if (this.#turns.get(path) === quiet) this.#turns.delete(path)
    }
  }

  async #openShard(shard: Hex): Promise<FileHandle> {
    const path = this.shardPath(shard)
    try {
      return await open(path, 'r')
    } catch (cause) {
      if (isMissing(cause)) throw new ImagerError('SHARD_MISSING', { shard, host: this.#options.name })
      throw new ImagerError('IO', { what: `Shard ${shard} on ${this.#options.name}: ${reason(cause)}` }, { cause })
    }
  }

  /** The folder in which they lie. */
  get shards(): string {
    return join(this.#options.folder, 'shards')
  }

  /** Where it lies, if it is held (native/src/wire/server.rs too). */
  shardPath(shard: Hex): string {
    const name = `${shard}.shard`
    if (!SHARD_NAME.test(name)) throw new ImagerError('PROTOCOL', { what: 'a shard id is not 32 hexadecimal digits' })
    return join(this.shards, shard.slice(0, 2), name)
  }

  #documentPath(kind: DocumentKind, name: string): string {
    if (!DOCUMENT_NAME.test(name)) throw new ImagerError('PROTOCOL', { what: 'a document has no such name' })
    return join(this.#options.folder, 'documents', kind, name)
  }

  #refused(why: string): ImagerError {
    return new ImagerError('HOST_REFUSED', { host: this.#options.name, why })
  }

  #full(why: string, cause?: unknown): ImagerError {
    return new ImagerError('HOST_FULL', { host: this.#options.name, why }, { cause })
  }
}

/** A disk that loses what was synced. */
export function notHeld(host: string, why: string, cause?: unknown): ImagerError {
  return new ImagerError('IO', { what: `${host} does not hold what it wrote: ${why}` }, { cause })
}

function prefixes(): string[] {
  return Array.from({ length: 256 }, (_, index) => index.toString(16).padStart(2, '0'))
}

async function countDocuments(folder: string): Promise<number> {
  let total = 0
  for (const kind of DOCUMENT_KINDS) {
    const documents = join(folder, 'documents', kind)
    for (const name of await readdir(documents)) total += await sizeOf(join(documents, name))
  }
  return total
}

/** None where the folder is gone. */
async function shardsIn(folder: string): Promise<Hex[]> {
  const names = await readdir(folder).catch((error: unknown): string[] => {
    if (isMissing(error)) return []
    throw error
  })
  return names.sort().flatMap((name) => SHARD_NAME.exec(name)?.[1] ?? [])
}

async function sizeOf(path: string): Promise<number> {
  return (await stat(path)).size
}
