/**
 * How long a run goes on asking a coordinator that does not answer: one that is started anew, or brought up to date, must not cost a
 * night's backup. Others, who can say so to a person at once, are not patient.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Clock } from '../base/clock.js'
import type { ImagerError } from '../base/errors.js'
import { RUN_PATIENCE_MS } from '../base/limits.js'

const FIRST_PAUSE_MS = 250
const LONGEST_PAUSE_MS = 4_000

export interface Patience {
  /** One that never jumps. */
  readonly clock: Clock
  /** Ends the waiting, and with it the run. */
  readonly signal: AbortSignal
  /** Hears why nothing comes just now. */
  readonly waiting: (error: ImagerError) => void
  /** Looks where the coordinator may be now. Called again and again while it does not answer; does not throw. */
  readonly seek?: (signal: AbortSignal) => Promise<void>
  readonly sleep?: (ms: number, signal: AbortSignal) => Promise<unknown>
}

/** The pauses of one call. */
export class Pauses {
  readonly #patience: Patience
  readonly #until: number
  #next = FIRST_PAUSE_MS

  constructor(patience: Patience) {
    this.#patience = patience
    this.#until = patience.clock.now() + RUN_PATIENCE_MS
  }

  /** Waits a while, each time longer; false once that has been enough. `left`: it is looked for at once. Throws where the run is ended. */
  async after(error: ImagerError, left = false): Promise<boolean> {
    const { clock, signal, waiting, seek, sleep: pause = wait } = this.#patience
    signal.throwIfAborted()
    if (clock.now() >= this.#until) return false
    waiting(error)
    // One that only starts anew is back before that.
    const isLong = left || this.#next === LONGEST_PAUSE_MS
    await Promise.all([pause(this.#next, signal), isLong ? seek?.(signal) : undefined])
    signal.throwIfAborted()
    this.#next = Math.min(2 * this.#next, LONGEST_PAUSE_MS)
    return true
  }
}

async function wait(ms: number, signal: AbortSignal): Promise<void> {
  // Why it ended is the signal's to say.
  await sleep(ms, undefined, { signal }).catch(() => {})
}
