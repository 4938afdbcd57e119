/**
 * A static view of the source (docs/static-view.md): what is done so that it holds still while it is read. The best that
 * the source allows is chosen, and said.
 *
 * Invariant: what is not certain to have held still is never taken for it. A snapshot holds still until `confirm` says so;
 * of a source that goes on being written, only what was read inside a `hold` that held.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Clock } from '../base/clock.js'
import { hasCode, ImagerError } from '../base/errors.js'
import { command } from './command.js'
import { Freeze, isReadOnly, whyNotFrozen, writableMounts } from './freeze.js'
import { LvmSnapshot } from './lvm.js'
import type { Mount } from './mounts.js'
import { inspectSource, type SourceFacts, writeMark } from './source.js'

export const VIEWS = ['auto', 'lvm', 'freeze', 'quiet'] as const
export type ViewChoice = (typeof VIEWS)[number]

export interface ViewOptions {
  readonly choice: ViewChoice
  readonly quietMs: number
  readonly giveUpMs: number
}

export interface ViewParts {
  readonly clock: Clock
  readonly signal: AbortSignal
  /** Folders that must never be frozen: the state folder. */
  readonly needed: readonly string[]
}

const POLL_MS = 100
/** What is read under a freeze is read by this time before the watchdog would thaw. */
const RESERVE_MS = 2_500

/** A moment in which the source holds still. */
export interface Moment {
  /** There is time to read more. */
  readonly open: () => boolean
  /** What was read since this was last asked may have moved. */
  readonly broken: () => boolean
}

export interface StaticView {
  /** What was obtained, as the snapshot records it. */
  readonly how: string
  /** What is to be read: the source, or a snapshot of it. */
  readonly path: string
  /** The source is written while it is read: what moved must be read again in a `hold`. */
  readonly live: boolean
  /** Where on the source volumes begin whose tables are whole during a hold, whatever their journals say. */
  readonly flushed: readonly number[]
  /** Waits for such a moment. Unless it `held`, nothing that was read is certain. Throws NO_STATIC_VIEW, VIEW_REFUSED. */
  hold<T>(task: (moment: Moment) => Promise<T>): Promise<{ value: T; held: boolean }>
  /** The source was written since the last hold began. */
  moved(): boolean
  /** Throws where what was read did not hold still: SOURCE_CHANGED, VIEW_LOST. Of a live one it says nothing. */
  confirm(): Promise<void>
  close(): Promise<void>
}

/** Throws VIEW_REFUSED where the view that was asked for cannot be had. */
export async function openView(source: SourceFacts, options: ViewOptions, parts: ViewParts): Promise<StaticView> {
  const { choice } = options
  if (source.logicalVolume && (choice === 'auto' || choice === 'lvm')) {
    const snapshot = await orRefused(choice, source, LvmSnapshot.of(source.path))
    if (snapshot) return new SnapshotView(snapshot)
  }
  if (source.uses.length === 0) {
    if (choice === 'lvm' || choice === 'freeze') refuse(choice, source, 'nothing uses it, so it is read as it is')
    return new IdleView(source)
  }
  if (choice === 'lvm') refuse(choice, source, 'it is not a logical volume of LVM')
  if (choice === 'auto' && isReadOnly(source)) return new IdleView(source)
  if (choice !== 'quiet') {
    const why = whyNotFrozen(source, parts.needed)
    if (why === undefined) return new FrozenView(source)
    if (choice === 'freeze') refuse(choice, source, why)
  }
  return new QuietView(source, options, parts)
}

function refuse(view: ViewChoice, { path }: SourceFacts, why: string): never {
  throw new ImagerError('VIEW_REFUSED', { view, path, why })
}

/** What `auto` cannot have, it does without. */
async function orRefused<T>(choice: ViewChoice, source: SourceFacts, opening: Promise<T>): Promise<T | undefined> {
  try {
    return await opening
  } catch (error) {
    if (!hasCode(error, 'IO')) throw error
    if (choice === 'auto') return undefined
    return refuse(choice, source, error.message)
  }
}

/** The moment of a source that nobody writes: there is always time, and nothing moves. */
const STILL: Moment = { open: () => true, broken: () => false }

class SnapshotView implements StaticView {
  readonly live = false
  readonly flushed = []
  constructor(private readonly snapshot: LvmSnapshot) {}

  get how(): string {
    return this.snapshot.how
  }

  get path(): string {
    return this.snapshot.path
  }

  async hold<T>(task: (moment: Moment) => Promise<T>): Promise<{ value: T; held: boolean }> {
    return { value: await task(STILL), held: true }
  }

  moved(): boolean {
    return false
  }

  async confirm(): Promise<void> {
    await this.snapshot.confirm()
  }

  async close(): Promise<void> {
    await this.snapshot.close()
  }
}

/** An image file or a device that nobody writes: nothing uses it, or it is mounted read-only. */
class IdleView implements StaticView {
  readonly how: string
  readonly path: string
  readonly live = false
  readonly flushed = []
  readonly #before: string

  constructor(private readonly source: SourceFacts) {
    const { path, kind, uses } = source
    this.path = path
    const idle = kind === 'file' ? 'image file' : 'device not in use'
    this.how = uses.length > 0 ? `mounted read-only (${uses.join(', ')})` : idle
    this.#before = writeMark(path)
  }

  async hold<T>(task: (moment: Moment) => Promise<T>): Promise<{ value: T; held: boolean }> {
    // Who mounts it may have written it before.
    if (this.source.uses.length > 0) await dropCache(this.source)
    return { value: await task(STILL), held: true }
  }

  /**
   * Also true once a read-only mount became writable: what was written may still be in memory, without a trace on the
   * device.
   */
  moved(): boolean {
    const { path, uses } = this.source
    return writeMark(path) !== this.#before || (uses.length > 0 && !isReadOnly(inspectSource(path)))
  }

  async confirm(): Promise<void> {
    if (!this.moved()) return
    throw new ImagerError('SOURCE_CHANGED', {
      path: this.path,
      what: 'its size, times, write counters or mounts changed',
    })
  }

  async close(): Promise<void> {}
}

class FrozenView implements StaticView {
  readonly how: string
  readonly path: string
  readonly live = true
  readonly flushed: readonly number[]
  readonly #mounts: readonly Mount[]

  constructor(private readonly source: SourceFacts) {
    this.path = source.path
    this.#mounts = writableMounts(source)
    this.flushed = source.mounts.flatMap(({ start, readOnly }) => (readOnly ? [] : (start ?? [])))
    this.how = `frozen while its tables were read (${this.#mounts.map(({ point }) => point).join(', ')})`
  }

  async hold<T>(task: (moment: Moment) => Promise<T>): Promise<{ value: T; held: boolean }> {
    const freeze = await orRefused('freeze', this.source, Freeze.begin(this.#mounts))
    if (!freeze) throw new Error('refused above')
    let inTime = false
    let value: T
    try {
      await dropCache(this.source)
      value = await task({ open: () => performance.now() < freeze.until - RESERVE_MS, broken: () => false })
    } finally {
      inTime = await freeze.end()
    }
    return { value, held: inTime }
  }

  /** Always true: the thaw itself writes to the file system. */
  moved(): boolean {
    return true
  }

  async confirm(): Promise<void> {}
  async close(): Promise<void> {}
}

class QuietView implements StaticView {
  readonly how: string
  readonly path: string
  readonly live = true
  readonly flushed = []
  readonly #options: ViewOptions
  #before = ''
  /** Milliseconds that all holds together have waited for quiet. */
  #waitedMs = 0

  constructor(
    private readonly source: SourceFacts,
    options: ViewOptions,
    private readonly parts: ViewParts,
  ) {
    this.#options = options
    this.path = source.path
    this.how = `quiet for ${options.quietMs / 1000} s while in use (${source.uses.join(', ')})`
  }

  async hold<T>(task: (moment: Moment) => Promise<T>): Promise<{ value: T; held: boolean }> {
    for (const { point } of writableMounts(this.source)) await command('sync', ['-f', point])
    await this.#waitForQuiet()
    await dropCache(this.source)
    this.#before = writeMark(this.path)
    const value = await task({ open: () => !this.moved(), broken: () => this.moved() })
    return { value, held: true }
  }

  moved(): boolean {
    return writeMark(this.path) !== this.#before
  }

  async #waitForQuiet(): Promise<void> {
    const { clock, signal } = this.parts
    const { quietMs, giveUpMs } = this.#options
    const started = clock.now()
    let mark = writeMark(this.path)
    let since = started
    for (let now = started; now - since < quietMs; now = clock.now()) {
      if (this.#waitedMs + now - started > giveUpMs) {
        throw new ImagerError('NO_STATIC_VIEW', { path: this.path, seconds: giveUpMs / 1000 })
      }
      await sleep(POLL_MS, undefined, { signal })
      const next = writeMark(this.path)
      if (next !== mark) since = clock.now()
      mark = next
    }
    this.#waitedMs += clock.now() - started
  }

  async confirm(): Promise<void> {}
  async close(): Promise<void> {}
}

/** What an earlier reader left in the device's cache may be older than what the file system wrote past it. */
async function dropCache({ kind, path }: SourceFacts): Promise<void> {
  if (kind === 'device') await command('blockdev', ['--flushbufs', path])
}
