/**
 * What a host does not answer, it fails at once for some seconds, whichever way it is called: a dead peer costs one deadline,
 * and not one for each of its shards.
 */
import type { Clock } from '../base/clock.js'
import { hasCode, type ImagerError } from '../base/errors.js'
import { BREAKER_MS } from '../base/limits.js'

export class Breaker {
  readonly #clock: Clock
  #failure: ImagerError | undefined
  #openUntil = 0

  constructor(clock: Clock) {
    this.#clock = clock
  }

  async run<T>(call: () => Promise<T>): Promise<T> {
    const failure = this.failure(this.#clock.now())
    if (failure) throw failure
    try {
      const result = await call()
      this.answered()
      return result
    } catch (error) {
      this.failed(error, this.#clock.now())
      throw error
    }
  }

  /** What a call at this time (ms since 1970) fails with, without being tried. */
  failure(now: number): ImagerError | undefined {
    return now < this.#openUntil ? this.#failure : undefined
  }

  answered(): void {
    this.#failure = undefined
  }

  /** A refusal is an answer of a host that is well: only HOST_UNREACHABLE counts. */
  failed(error: unknown, now: number): void {
    if (!hasCode(error, 'HOST_UNREACHABLE')) return
    this.#failure = error
    this.#openUntil = now + BREAKER_MS
  }
}
