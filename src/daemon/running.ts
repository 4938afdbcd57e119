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

/** Runs `task` now and then every `everyMs`, or when woken; one at a time. A failing task must not end the daemon. */
export class Loop {
  readonly #stop = new AbortController()
  #wake = new AbortController()
  readonly #done: Promise<void>

  constructor(everyMs: number, task: (signal: AbortSignal) => Promise<void>, failed: (error: unknown) => void) {
    this.#done = this.#run(everyMs, task, failed)
  }

  /** Runs the task again without waiting for its time. */
  wake(): void {
    this.#wake.abort()
  }

  async close(): Promise<void> {
    this.#stop.abort()
    await this.#done
  }

  async #run(everyMs: number, task: (signal: AbortSignal) => Promise<void>, failed: (error: unknown) => void) {
    const stopped = this.#stop.signal
    while (!stopped.aborted) {
      this.#wake = new AbortController()
      const woken = AbortSignal.any([stopped, this.#wake.signal])
      try {
        await task(stopped)
      } catch (error) {
        if (!stopped.aborted) failed(error)
      }
      await sleep(everyMs, undefined, { signal: woken }).catch(() => undefined)
    }
  }
}
