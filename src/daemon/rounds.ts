/** What the coordinator does beside its answers, round after round, with what its peers say. */
import type { Clock } from '../base/clock.js'
import type { Report } from '../base/report.js'
import type { LocalCatalog } from '../catalog/local.js'
import type { Home } from '../keys/home.js'
import { Peers } from '../peers/pool.js'
import { Loop } from './running.js'

export interface RoundsParts {
  readonly home: Home
  readonly catalog: LocalCatalog
  readonly clock: Clock
  readonly report: Report
}

export abstract class Rounds {
  protected readonly parts: RoundsParts
  protected readonly peers: Peers
  #loop: Loop | undefined

  constructor(parts: RoundsParts) {
    this.parts = parts
    this.peers = new Peers(parts.home.tls, () => parts.catalog.members.rows(), parts.clock)
  }

  /** `name`: what is said of a round that failed. */
  protected begin(name: string, everyMs: number): void {
    this.#loop = new Loop(
      everyMs,
      (signal) => this.round(signal),
      (error) => this.parts.report(name, error),
    )
  }

  async close(): Promise<void> {
    this.peers.close()
    await this.#loop?.close()
  }

  abstract round(signal: AbortSignal): Promise<void>
}
