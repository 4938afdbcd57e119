/** A host that is to be the coordinator: it shows that it is there, asks for the place, and takes it once it is offered. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Clock } from '../base/clock.js'
import { ImagerError, reason } from '../base/errors.js'
import { HEARTBEAT_MS } from '../base/limits.js'
import type { Report } from '../base/report.js'
import { RemoteCatalog } from '../coordinator/client.js'
import { STANDING_PATH } from '../coordinator/moving.js'
import { advertised } from '../fleet/address.js'
import { followMembership } from '../fleet/follow.js'
import { CoordinatorLink, FollowingLink } from '../fleet/link.js'
import { isHanded, keepHanded, noteMoved, takeOffer, takePlaceOver } from '../fleet/taking.js'
import { isNewer } from '../keys/handover.js'
import { type Home, openHome } from '../keys/home.js'
import { serve } from '../wire/server.js'
import { auditApart } from './audit.js'

export interface StandingByOptions {
  readonly listen: string
  readonly clock: Clock
  readonly report: Report
  readonly signal: AbortSignal
  /** It listens there. */
  readonly ready: (address: string) => void
}

const ASK_MS = 1_000

/** The home of the coordinator that it has become; undefined where it was ended before. Throws NOT_ALLOWED for a PC or a server. */
export async function standBy(home: Home, options: StandingByOptions): Promise<Home | undefined> {
  if (home.role !== 'admin') {
    const what = `${home.name} joined as ${home.role}; a coordinator beside it needs a state folder of its own, and a token: \`imager invite --role admin\``
    throw new ImagerError('NOT_ALLOWED', { what, role: 'coordinator' })
  }
  const standing = new StandingBy(home, options)
  return standing.run()
}

class StandingBy {
  readonly #home: Home
  readonly #options: StandingByOptions
  readonly #link: FollowingLink
  readonly #coordinator: RemoteCatalog
  #beaten = Number.NEGATIVE_INFINITY
  #said = ''

  constructor(home: Home, options: StandingByOptions) {
    this.#home = home
    this.#options = options
    this.#link = new FollowingLink(home)
    this.#coordinator = new RemoteCatalog(this.#link, undefined, options.clock)
  }

  async run(): Promise<Home | undefined> {
    const { listen, signal, ready } = this.#options
    const { tls } = this.#home
    const routes = [{ method: 'POST' as const, path: STANDING_PATH, maxBytes: 0, handle: () => ({}) }]
    const admit = (host: string) => host === this.#home.membership().coordinator
    const server = await serve({ tls, listen, routes, admit })
    const address = advertised(server.address)
    ready(server.address)
    try {
      while (!signal.aborted) {
        if (isHanded(this.#home) || (await this.#ask(address))) return await this.#take(server.address, address)
        await sleep(ASK_MS, undefined, { signal }).catch(() => undefined)
      }
      return undefined
    } finally {
      this.#link.close()
      await server.close()
    }
  }

  /** True once the place is this host's. */
  async #ask(address: string): Promise<boolean> {
    try {
      await this.#beat(address)
      const { offer, handed } = await this.#coordinator.standBy()
      if (handed) await keepHanded(handed, this.#home)
      else if (offer) await this.#accept(offer)
      this.#said = ''
    } catch (error) {
      if (!(error instanceof ImagerError)) throw error
      if (error.message !== this.#said) this.#options.report('standing by', error)
      this.#said = error.message
    }
    return isHanded(this.#home)
  }

  async #accept(offer: Parameters<typeof takeOffer>[0]): Promise<void> {
    const { clock, signal } = this.#options
    const [home, coordinator] = [this.#home, this.#coordinator]
    const audit = async (folder: string) => {
      const [found] = (await auditApart(folder, signal)).findings
      if (found) throw new ImagerError('CORRUPT', { what: `The catalog that was handed over is damaged: ${found.why}` })
    }
    try {
      // What is signed last here follows on the newest.
      await followMembership(home, coordinator)
      await takeOffer(offer, { home, coordinator, clock, audit })
    } catch (error) {
      await coordinator.standBy(reason(error).slice(0, 1000))
      throw error
    }
    await keepHanded(await coordinator.handOver(), home)
  }

  async #beat(address: string): Promise<void> {
    if (performance.now() - this.#beaten < HEARTBEAT_MS) return
    const [home, coordinator] = [this.#home, this.#coordinator]
    const own = home.addresses.own(home.fleet, home.host, [address], this.#options.clock.now(), home.secret)
    const none = { freeBytes: 0, usedBytes: 0, capacityBytes: 0, storage: '', store: null }
    if (isNewer(await coordinator.heartbeat(none, own), home.membership())) await followMembership(home, coordinator)
    this.#beaten = performance.now()
  }

  /** The old one hears of it, if it is there; peers are brought it in any case. */
  async #take(listen: string, address: string): Promise<Home> {
    const { clock, report } = this.#options
    const { key, addresses } = this.#home.coordinator
    const former = this.#home.membership().find(key)?.name ?? key.slice(0, 8)
    const membership = takePlaceOver(this.#home, listen, address)
    const noted = (error: unknown) => report('standing by', error)
    await tellFormer(this.#home, key, addresses, membership, clock).catch(noted)
    const home = openHome(this.#home.state)
    await noteMoved(home, former, clock).catch(noted)
    return home
  }
}

async function tellFormer(home: Home, host: string, addresses: readonly string[], membership: Buffer, clock: Clock) {
  const link = new CoordinatorLink(home.tls, addresses, host)
  try {
    await new RemoteCatalog(link, undefined, clock).takenUp(membership)
  } finally {
    link.close()
  }
}
