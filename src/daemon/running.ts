/** What every daemon is once it is ready, and what it does between two requests. */
import { setTimeout as sleep } from 'node:timers/promises'

export interface Running {
  /** Where it listens, with the real port. */
  readonly address: string
  /** Answers what was begun, accepts nothing new, writes what must be written. */
  close(): Promise<void>
}

export function untilAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve()
    signal.addEventListener('abort', () => resolve(), { once: true })
  })
}

/** Runs `task` now and then every `everyMs`, or when woken; one at a time. A failing task does not end it. */
export class Loop {
  /** The first run is over. */
  readonly first: Promise<void>
  readonly #stop = new AbortController()
  readonly #done: Promise<void>
  #again = false
  #nap = new AbortController()

  constructor(everyMs: number, task: (signal: AbortSignal) => Promise<void>, failed: (error: unknown) => void) {
    let firstDone = () => {}
    this.first = new Promise((resolve) => {
      firstDone = resolve
    })
    this.#done = this.#run(everyMs, task, failed, firstDone)
  }

  /** Runs the task again without waiting for its time; while it runs, once more afterwards. */
  wake(): void {
    this.#again = true
    this.#nap.abort()
  }

  async close(): Promise<void> {
    this.#stop.abort()
    this.#nap.abort()
    await this.#done
  }

  async #run(
    everyMs: number,
    task: (signal: AbortSignal) => Promise<void>,
    failed: (error: unknown) => void,
    firstDone: () => void,
  ): Promise<void> {
    const stopped = this.#stop.signal
    while (!stopped.aborted) {
      this.#again = false
      try {
        await task(stopped)
      } catch (error) {
        if (!stopped.aborted) failed(error)
      }
      firstDone()
      if (this.#again || stopped.aborted) continue
      this.#nap = new AbortController()
      await sleep(everyMs, undefined, { signal: this.#nap.signal }).catch(() => undefined)
    }
  }
}

/** Calls once it has been quiet for a while, however much happened before. */
export class Lull {
  readonly #quietMs: number
  readonly #call: () => void
  #timer: NodeJS.Timeout | undefined

  constructor(quietMs: number, call: () => void) {
    this.#quietMs = quietMs
    this.#call = call
  }

  happened(): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(this.#call, this.#quietMs)
  }

  close(): void {
    clearTimeout(this.#timer)
  }
}
