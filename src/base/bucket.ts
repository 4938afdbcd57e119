/** A token bucket: so many bytes a second go through, however many ask for them at once. */
import type { Clock } from './clock.js'

/** What may go at once after a pause, in seconds' worth. */
const BURST_SECONDS = 0.25

export type Sleep = (ms: number, signal: AbortSignal | undefined) => Promise<void>

export class TokenBucket {
  /** Bytes that may go now; below zero: promised already, and waited for. */
  #tokens = 0
  #filledAt: number

  constructor(
    readonly bytesPerSecond: number,
    readonly clock: Clock,
    readonly sleep: Sleep,
  ) {
    this.#filledAt = clock.now()
  }

  /** Returns when these bytes may go. Throws the signal's reason. */
  async take(bytes: number, signal?: AbortSignal): Promise<void> {
    const now = this.clock.now()
    // A clock that was set back fills nothing.
    const filled = (Math.max(0, now - this.#filledAt) / 1000) * this.bytesPerSecond
    this.#filledAt = now
    this.#tokens = Math.min(this.#tokens + filled, BURST_SECONDS * this.bytesPerSecond) - bytes
    if (this.#tokens < 0) await this.sleep((-this.#tokens / this.bytesPerSecond) * 1000, signal)
  }
}
