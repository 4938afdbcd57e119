/** `events --follow`: which events are new, or have been met again since they were shown. Pure but for what it remembers. */
import type { EventRow } from '../catalog/registry.js'

/** An event is counted for a minute after its time; a little more, because it is the coordinator's clock that says when. */
const OPEN_MS = 70_000

export class Follower {
  /** Shown, and perhaps still being counted: number to time and count. */
  readonly #open = new Map<number, Pick<EventRow, 'time' | 'count'>>()
  #last = 0

  /** From where on to ask: behind what cannot change any more. */
  get after(): number {
    return Math.min(this.#last, ...[...this.#open.keys()].map((n) => n - 1))
  }

  /**
   * What to show of the events after `after`: a new one at once, and one that was met more often once its minute is over, with
   * its whole count. `newest` is the time of the newest event or now, by the coordinator's clock as far as it is known.
   */
  take(rows: readonly EventRow[], newest: number): EventRow[] {
    const shown: EventRow[] = []
    for (const row of rows) {
      const before = this.#open.get(row.n)
      const closed = newest - row.time > OPEN_MS
      const isNew = row.n > this.#last
      if (isNew || (closed && before !== undefined && row.count > before.count)) shown.push(row)
      if (closed) this.#open.delete(row.n)
      else if (isNew) this.#open.set(row.n, { time: row.time, count: row.count })
    }
    this.#last = Math.max(this.#last, ...rows.map((row) => row.n))
    return shown
  }
}
