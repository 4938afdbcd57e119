/** Memory for what callers send: so much for one, so much for all. Who would go beyond that waits, and is not read meanwhile. */
import type { Hex } from '../base/ids.js'
import { BODIES_BYTES, BODIES_PER_HOST_BYTES } from '../base/limits.js'
import { Room } from '../base/queue.js'

export class BodyRoom {
  readonly #all = new Room(BODIES_BYTES)
  readonly #byHost = new Map<Hex, Room>()

  /** Until it is released. `bytes` is at most a route's cap, which is below both. */
  async claim(host: Hex, bytes: number): Promise<() => void> {
    const own = this.#byHost.get(host) ?? new Room(BODIES_PER_HOST_BYTES)
    this.#byHost.set(host, own)
    await own.claim(bytes)
    await this.#all.claim(bytes)
    return () => {
      this.#all.release(bytes)
      own.release(bytes)
      if (own.isEmpty) this.#byHost.delete(host)
    }
  }
}
