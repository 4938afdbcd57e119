/** The coordinator's witnesses asked and told, now and whenever something is due; and what a coordinator does whose term is over. */
import { setMaxListeners } from 'node:events'
import type { Clock } from '../base/clock.js'
import { hasCode, ImagerError } from '../base/errors.js'
import { HEARTBEAT_MS } from '../base/limits.js'
import type { Report } from '../base/report.js'
import { formatCount } from '../base/units.js'
import type { LocalCatalog } from '../catalog/local.js'
import { RemoteCatalog } from '../coordinator/client.js'
import { settlePolicy } from '../coordinator/policy.js'
import { replaced } from '../coordinator/replaced.js'
import { Watch } from '../coordinator/watch.js'
import { CoordinatorLink } from '../fleet/link.js'
import type { Home } from '../keys/home.js'
import { catchUp, catchUpLate, catchUpOrders } from './catch-up.js'
import { Loop } from './running.js'

export interface WatchingParts {
  readonly home: Home
  readonly catalog: LocalCatalog
  readonly clock: Clock
  readonly report: Report
  /** A newer membership than the catalog's is in the state folder. */
  readonly onMembership: () => void
  /** The witnesses were asked: what was not signed before may be. */
  readonly onAsked: () => void
  /** What was decided here is signed. */
  readonly onPolicy: () => void
}

const ROUND_MS = 2_000

export class Watching {
  readonly watch: Watch
  readonly #parts: WatchingParts
  readonly #stop = new AbortController()
  #loop: Loop | undefined
  #knocked = Number.NEGATIVE_INFINITY
  #saidReplaced = false
  /** Of those who answered at the start. */
  #hasOrders = false

  constructor(parts: WatchingParts) {
    const { home, catalog, clock, report } = parts
    this.#parts = parts
    // Each fetch listens to it.
    setMaxListeners(0, this.#stop.signal)
    this.watch = new Watch({
      ...{ home, catalog, clock },
      restore: (missing, witnesses) => catchUp(missing, witnesses, this.#catchUpParts),
      onMembership: parts.onMembership,
      wake: () => this.wake(),
      say: (what) => report('witnesses', new Error(what)),
    })
  }

  get #catchUpParts() {
    const { home, catalog, clock } = this.#parts
    return { home, catalog, clock, signal: this.#stop.signal }
  }

  start(): void {
    const { report } = this.#parts
    this.#loop = new Loop(
      ROUND_MS,
      () => this.#round(),
      (error) => report('witnesses', error),
    )
  }

  /** The members have changed, or something else is due. */
  wake(): void {
    this.#loop?.wake()
  }

  async close(): Promise<void> {
    this.#stop.abort(new ImagerError('INTERRUPTED'))
    await this.#loop?.close()
    await this.watch.close()
  }

  async #round(): Promise<void> {
    if (this.watch.isReplaced) return this.#knock()
    if (this.watch.isFrozen) return
    const { maySign } = this.watch
    await this.watch.round()
    if (!maySign && this.watch.maySign) this.#parts.onAsked()
    if (!this.watch.isCurrent) return
    this.#settlePolicy()
    if (!this.#hasOrders && !this.#parts.catalog.upkeep.guard.trouble) {
      await catchUpOrders(this.#catchUpParts)
      this.#hasOrders = true
    }
    const found = await catchUpLate(this.#catchUpParts)
    if (found > 0) this.#sayFound(found)
  }

  #sayFound(found: number): void {
    const { home, catalog, report } = this.#parts
    const what = `${formatCount(found, 'snapshot')} came back with PCs that were away during a recovery`
    report('witnesses', new Error(what))
    catalog.registry.record('fleet', home.host, what)
  }

  /** What a command decided in the state folder itself. */
  #settlePolicy(): void {
    try {
      if (settlePolicy(this.#parts)) this.#parts.onPolicy()
    } catch (error) {
      if (!hasCode(error, 'COORDINATOR_READ_ONLY', 'STATE_DAMAGED')) throw error
    }
  }

  /** Shows itself to the coordinator that took its place, which refuses it and says in its `status` that it was there. */
  async #knock(): Promise<void> {
    const { home, report } = this.#parts
    if (!this.#saidReplaced) report('witnesses', replaced(home))
    this.#saidReplaced = true
    // Who handed it over knows, and so does the one that has it now.
    if (home.handedOver) return
    if (performance.now() - this.#knocked < HEARTBEAT_MS) return
    this.#knocked = performance.now()
    const { addresses, key } = home.coordinator
    const link = new CoordinatorLink(home.tls, addresses, key)
    try {
      await new RemoteCatalog(link).membership()
    } catch (error) {
      if (!hasCode(error, 'REMOVED', 'COORDINATOR_UNREACHABLE', 'HOST_LIED')) throw error
    } finally {
      link.close()
    }
  }
}
