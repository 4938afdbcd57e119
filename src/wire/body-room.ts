/**
 * Memory for what callers send: so much for one, so much for all; small bodies have a room of their own, so that a question is not
 * kept waiting by what others send slowly. Who would go beyond that waits, and is not read meanwhile. While somebody waits, a body
 * that comes too slowly to be done by its deadline is cut.
 */
import type { Hex } from '../base/ids.js'
import {
  BODIES_BYTES,
  BODIES_PER_HOST_BYTES,
  SLOW_BODY_MS,
  SMALL_BODIES_BYTES,
  SMALL_BODY_BYTES,
  TRANSFER_TIMEOUT_MS,
} from '../base/limits.js'
import { Room } from '../base/queue.js'

/** A body on its way. */
export interface Arriving {
  readonly bytes: number
  /** How many of them have come. */
  arrived: number
  /** Ends it, and whoever sends it. */
  cut(): void
}

const LOOK_MS = 500

export class BodyRoom {
  readonly #byHost = new Map<Hex, Room>()
  readonly #small: Shared
  readonly #large: Shared

  constructor(now: () => number = () => performance.now()) {
    this.#small = new Shared(SMALL_BODIES_BYTES, now)
    this.#large = new Shared(BODIES_BYTES, now)
  }

  /** Until it is released. `bytes` is at most a route's cap, which is below both. */
  async claim(host: Hex, body: Arriving): Promise<() => void> {
    if (body.bytes <= SMALL_BODY_BYTES) return this.#small.claim(body)
    const own = this.#byHost.get(host) ?? new Room(BODIES_PER_HOST_BYTES)
    this.#byHost.set(host, own)
    await own.claim(body.bytes)
    const release = await this.#large.claim(body)
    return () => {
      release()
      own.release(body.bytes)
      if (own.isEmpty) this.#byHost.delete(host)
    }
  }
}

/** What all callers have together. */
class Shared {
  readonly #room: Room
  readonly #now: () => number
  /** Since when each is being read. */
  readonly #read = new Map<Arriving, number>()
  #looking: NodeJS.Timeout | undefined

  constructor(size: number, now: () => number) {
    this.#room = new Room(size)
    this.#now = now
  }

  async claim(body: Arriving): Promise<() => void> {
    const entered = this.#room.claim(body.bytes)
    if (this.#room.isAwaited) this.#look()
    await entered
    this.#read.set(body, this.#now())
    return () => {
      this.#read.delete(body)
      this.#room.release(body.bytes)
    }
  }

  /** Every now and then, as long as somebody waits. */
  #look(): void {
    this.#looking ??= setInterval(() => {
      for (const [body, since] of this.#read) if (isTooSlow(body, this.#now() - since)) body.cut()
      if (this.#room.isAwaited) return
      clearInterval(this.#looking)
      this.#looking = undefined
    }, LOOK_MS).unref()
  }
}

/** At that pace it would not be whole by its deadline. Pure. */
export function isTooSlow({ bytes, arrived }: Pick<Arriving, 'bytes' | 'arrived'>, ms: number): boolean {
  return ms >= SLOW_BODY_MS && arrived < (bytes * ms) / TRANSFER_TIMEOUT_MS
}
