/**
 * From the kernel's requests to the tree and back. Every request is answered exactly once: by the tree, by an errno,
 * or, when its deadline has passed, by EIO while what was under way is aborted. Reads are bounded in number and the
 * kernel bounds their size (1 MiB), so memory is bounded.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { ImagerError } from '../base/errors.js'
import { Slots } from '../base/queue.js'
import type { FuseRequestHandle, FuseSequentialRead } from '../native.js'
import { encodeFolder } from './attributes.js'
import type { Complaints } from './complaints.js'
import { EIO, errnoOf, Refusal } from './errno.js'
import { ReadAhead } from './readahead.js'
import type { NodeId } from './top.js'
import type { Tree } from './tree.js'

/** Reads under way at once: 64 MiB when each asks for the most. */
const READS = 64
/** Without a request for so long the mount counts as idle, and learns the map ahead. */
const PAUSE_MS = 20

interface Pending {
  readonly request: FuseRequestHandle
  /** On the monotonic clock: setting the time of day must neither end nor prolong a wait. */
  readonly expires: number
  readonly controller: AbortController
  readonly what: string
  answered: boolean
}

export class FuseServer {
  readonly #tree: Tree
  readonly #complaints: Complaints
  readonly #deadlineMs: number
  readonly #reads = new Slots(READS)
  readonly #ahead: ReadAhead
  /** Oldest first, because all have the same deadline. */
  readonly #pending = new Set<Pending>()
  #timer: NodeJS.Timeout | undefined
  #asked = 0
  #stopped = false

  constructor(tree: Tree, parts: { complaints: Complaints; deadlineMs: number }) {
    this.#tree = tree
    this.#complaints = parts.complaints
    this.#deadlineMs = parts.deadlineMs
    this.#ahead = new ReadAhead(tree)
  }

  /** Answers, sooner or later. Never throws. */
  serve(request: FuseRequestHandle): void {
    const expires = performance.now() + this.#deadlineMs
    const what = request.question
    this.#asked++
    const pending = { request, expires, controller: new AbortController(), what, answered: false }
    this.#pending.add(pending)
    this.#timer ??= this.#startTimer(this.#deadlineMs)
    this.#answer(pending).then(
      () => this.#settle(pending),
      (error: unknown) => this.#fail(pending, error),
    )
  }

  /** Resolves once nothing was asked for a while; false when it is over. */
  async pause(): Promise<boolean> {
    for (let asked = Number.NaN; asked !== this.#asked && !this.#stopped; ) {
      asked = this.#asked
      await sleep(PAUSE_MS, undefined, { ref: false })
    }
    return !this.#stopped
  }

  /** Of what was read in order, and answered without asking here. */
  hear({ volume, number, offset, length }: FuseSequentialRead): void {
    this.#ahead.read({ volume, number }, offset, length)
  }

  /** Answers EIO to whatever waits, and aborts it. */
  stop(): void {
    this.#stopped = true
    clearTimeout(this.#timer)
    this.#timer = undefined
    for (const pending of this.#pending) this.#expire(pending)
  }

  async #answer(pending: Pending): Promise<void> {
    const { request, controller } = pending
    const { signal } = controller
    const node: NodeId = { volume: request.volume, number: request.number }
    switch (request.question) {
      case 'read': {
        const { offset, size } = request
        const bytes = await this.#reads.run(() => orAborted(signal, () => this.#tree.read(node, offset, size, signal)))
        const { length } = bytes
        if (this.#claim(pending)) request.body(bytes)
        this.#ahead.read(node, offset, length)
        return
      }
      case 'lookup': {
        const found = await this.#tree.lookup(node, request.name)
        if (!this.#claim(pending)) return
        return found ? request.attributes(found) : request.missing()
      }
      case 'attributes': {
        const found = await this.#tree.attributes(node)
        return this.#claim(pending) ? request.attributes(found) : undefined
      }
      case 'folder':
      case 'folderWithAttributes': {
        const all = request.question === 'folderWithAttributes'
        const entries = await this.#tree.folder(node, request.offset, all)
        return this.#claim(pending) ? request.folder(encodeFolder(entries)) : undefined
      }
      case 'link':
        return this.#data(pending, await this.#tree.link(node, signal))
      case 'xattr':
        return this.#data(pending, await this.#tree.xattr(node, request.name, signal))
      case 'xattrNames':
        return this.#data(pending, await this.#tree.xattrNames(node))
    }
  }

  #data(pending: Pending, bytes: Buffer): void {
    if (this.#claim(pending)) pending.request.data(bytes)
  }

  /** True for the first who wants to answer. */
  #claim(pending: Pending): boolean {
    if (pending.answered) return false
    pending.answered = true
    return true
  }

  #settle(pending: Pending): void {
    this.#pending.delete(pending)
  }

  #fail(pending: Pending, error: unknown): void {
    this.#settle(pending)
    const late = !this.#claim(pending)
    if (late) return
    if (!(error instanceof Refusal)) this.#complaints.tell(error, pending.what)
    pending.request.error(errnoOf(error))
  }

  #startTimer(delayMs: number): NodeJS.Timeout {
    return setTimeout(() => this.#sweep(), delayMs).unref()
  }

  /** Ends what is overdue, and comes back when the next will be. */
  #sweep(): void {
    this.#timer = undefined
    const now = performance.now()
    for (const pending of this.#pending) {
      if (pending.expires > now) {
        this.#timer = this.#startTimer(pending.expires - now)
        return
      }
      this.#complaints.tell(new ImagerError('IO', { what: `no answer in ${this.#deadlineMs / 1000} s` }), pending.what)
      this.#expire(pending)
    }
  }

  #expire(pending: Pending): void {
    this.#settle(pending)
    if (this.#claim(pending)) pending.request.error(EIO)
    pending.controller.abort()
  }
}

/** What the task gives, unless the signal comes first: a read that ignores its signal must not keep its slot. */
async function orAborted<T>(signal: AbortSignal, task: () => Promise<T>): Promise<T> {
  signal.throwIfAborted()
  return await new Promise<T>((resolve, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true })
    task().then(resolve, reject)
  })
}
