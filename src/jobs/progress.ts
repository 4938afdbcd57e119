/** What long work says of itself, a few times a second. */
import type { Clock } from '../base/clock.js'

export interface Progress {
  /** What is being done, for people. */
  readonly phase: string
  readonly doneBytes: number
  readonly totalBytes: number
  readonly bytesPerSecond: number
  /** Seconds that are left at this rate; null before there is a rate. */
  readonly etaSeconds: number | null
  /** Nothing comes just now; `phase` says why. */
  readonly waiting: boolean
}

export type Report = (progress: Progress) => void

const INTERVAL_MS = 250

export class Meter {
  #done = 0
  #shown = 0
  readonly #started: number

  constructor(
    readonly phase: string,
    public totalBytes: number,
    readonly clock: Clock,
    readonly report: Report,
  ) {
    this.#started = clock.now()
  }

  add(bytes: number): void {
    this.#done += bytes
    const now = this.clock.now()
    if (now - this.#shown < INTERVAL_MS) return
    this.#shown = now
    this.#show(this.phase, now, false)
  }

  /** Why nothing comes just now. */
  wait(why: string): void {
    this.#show(why, this.clock.now(), true)
  }

  #show(phase: string, now: number, waiting: boolean): void {
    const seconds = (now - this.#started) / 1000
    const rate = seconds > 0 ? this.#done / seconds : 0
    const left = Math.max(0, this.totalBytes - this.#done)
    this.report({
      phase,
      doneBytes: this.#done,
      totalBytes: this.totalBytes,
      bytesPerSecond: Math.round(rate),
      etaSeconds: rate > 0 ? Math.round(left / rate) : null,
      waiting,
    })
  }
}
