/**
 * The quick way to a host, and another for where the quick one does not get through: a firewall that lets only TLS pass, no
 * place for one more data connection. Only `NotCarried` sends a call on; a host that is unreachable is so either way.
 */
import type { Clock } from '../base/clock.js'
import type { Hex } from '../base/ids.js'
import { DATA_RETRY_MS } from '../base/limits.js'
import type { BodyHandle } from '../native.js'
import type { CallOptions } from '../wire/bounded.js'
import { NotCarried, type ShardFile, type ShardRange, type ShardTransport } from '../wire/shard-transport.js'

export interface FallbackParts {
  readonly quick: ShardTransport
  readonly sure: ShardTransport
  readonly clock: Clock
  /** Hears, once, why `quick` was given up for `sure`. */
  readonly say: (error: NotCarried) => void
}

export class FallbackTransport implements ShardTransport {
  readonly #parts: FallbackParts
  /** `quick` is not tried before this time (ms since 1970). */
  #asideUntil = 0
  #said = false

  constructor(parts: FallbackParts) {
    this.#parts = parts
  }

  put(shard: Hex, file: ShardFile, grant: string, options?: CallOptions): Promise<Buffer> {
    return this.#run((way) => way.put(shard, file, grant, options))
  }

  fetch(shard: Hex, range: ShardRange | undefined, options?: CallOptions): Promise<BodyHandle> {
    return this.#run((way) => way.fetch(shard, range, options))
  }

  /** Tries `quick`; where that does not carry data, `sure`, with the whole deadline once more. */
  async #run<T>(call: (way: ShardTransport) => Promise<T>): Promise<T> {
    const { quick, sure, clock } = this.#parts
    if (clock.now() < this.#asideUntil) return call(sure)
    try {
      return await call(quick)
    } catch (error) {
      if (!(error instanceof NotCarried)) throw error
      this.#setAside(error)
    }
    return call(sure)
  }

  #setAside(error: NotCarried): void {
    const { clock, say } = this.#parts
    this.#asideUntil = clock.now() + DATA_RETRY_MS
    if (!this.#said) say(error)
    this.#said = true
  }
}
