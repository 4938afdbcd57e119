/** What goes wrong in a mount is told on stderr, each kind once a minute: a dead peer fails thousands of reads. */

import type { Clock } from '../base/clock.js'
import { ImagerError, reason } from '../base/errors.js'

const SILENCE_MS = 60_000
/** Kinds are error codes; anything beyond that is one kind. */
const KINDS = 100

export class Complaints {
  readonly #clock: Clock
  readonly #write: (line: string) => void
  readonly #last = new Map<string, number>()

  constructor(clock: Clock, write: (line: string) => void) {
    this.#clock = clock
    this.#write = write
  }

  tell(error: unknown, about: string): void {
    const kind = error instanceof ImagerError ? error.code : reason(error)
    const now = this.#clock.now()
    const last = this.#last.get(kind)
    if (last !== undefined && now - last < SILENCE_MS) return
    if (this.#last.size >= KINDS) this.#last.clear()
    this.#last.set(kind, now)
    const remedy = error instanceof ImagerError ? ` ${error.remedy}` : ''
    this.#write(`imager mount: ${about}: ${reason(error)}.${remedy}\n`)
  }
}
