/**
 * The peer's daemon: a store served to the fleet, and a heartbeat that tells the coordinator what there is. Without the
 * coordinator it goes on serving; it adopts every newer membership it is shown, by the coordinator or by anybody, and
 * asks other peers for one while the coordinator does not answer.
 */
import { type Clock, systemClock } from '../base/clock.js'
import { hasCode, ImagerError } from '../base/errors.js'
import { HEARTBEAT_MS } from '../base/limits.js'
import type { Report } from '../base/report.js'
import { hasMoved } from '../catalog/hosts.js'
import { RemoteCatalog } from '../coordinator/client.js'
import { advertised } from '../fleet/address.js'
import { followMembership, showMembership } from '../fleet/follow.js'
import { CoordinatorLink } from '../fleet/link.js'
import { seekMembership } from '../fleet/seek.js'
import { isNewer } from '../keys/handover.js'
import type { Home } from '../keys/home.js'
import { keepMembership } from '../peers/memberships.js'
import { type Callable, Peers } from '../peers/pool.js'
import { servePeer } from '../peers/server.js'
import { ShardStore } from '../peers/store.js'
import { Witness } from '../peers/witness.js'
import { keepPort } from './port.js'
import { Loop, Lull, type Running } from './running.js'

export interface PeerOptions {
  store: string
  listen: string
  maxBytes?: number
  keepFreeBytes?: number
  clock?: Clock
  report?: Report
  /** Between two heartbeats. */
  beatEveryMs?: number
}

/** After what was stored last a heartbeat tells of it: a person who looks once a backup is done sees where it is. */
const TELL_AFTER_MS = 500

export async function startPeer(home: Home, options: PeerOptions): Promise<Running> {
  const { listen, clock = systemClock, report = () => {} } = options
  if (home.coordinates) {
    const what = `${home.name} is the coordinator; a peer beside it needs a state folder and a token of its own`
    throw new ImagerError('NOT_ALLOWED', { what, role: 'peer' })
  }
  if (home.role !== 'peer') {
    const what = `${home.name} joined as ${home.role}; a peer beside it needs a state folder and a token of its own`
    throw new ImagerError('NOT_ALLOWED', { what, role: 'peer' })
  }
  const store = await ShardStore.open({
    folder: options.store,
    maxBytes: options.maxBytes,
    keepFree: options.keepFreeBytes,
    name: home.name,
  })
  const witness = await Witness.open({ folder: options.store, trust: home, secret: home.secret, clock, store })
  const called = (): Callable[] =>
    home.membership().hosts.map(({ host, name }) => ({ host, name, addresses: home.addresses.of(host) }))
  const others = new Peers(home.tls, called, clock)
  const server = await servePeer({
    tls: home.tls,
    listen,
    host: home.host,
    secret: home.secret,
    trust: home,
    store,
    clock,
    witness,
    others,
    adopt: (membership) => void home.saveMembership(membership),
    onAddress: (host, addresses) => home.addresses.learn([[host, addresses]]),
    report: (error, path) => report(path, error),
  })
  keepPort(home, listen, server.address, report)
  const { beatEveryMs = HEARTBEAT_MS } = options
  const heartbeat = new Heartbeat({ home, store, clock, addresses: [advertised(server.address)], beatEveryMs })
  const beating = new Loop(
    beatEveryMs,
    (signal) => heartbeat.beat(signal),
    (error) => report('heartbeat', withRemedy(error)),
  )
  const lull = new Lull(TELL_AFTER_MS, () => beating.wake())
  store.watch(() => lull.happened())
  // Ready means: it knows the members of now, unless the coordinator does not answer.
  await beating.first
  return {
    address: server.address,
    async close() {
      // First, so that a beat that waits for an absent coordinator fails at once.
      heartbeat.close()
      lull.close()
      await beating.close()
      await server.close()
      others.close()
    },
  }
}

/** A log has only the message: what to do belongs into it where nothing changes by itself. */
function withRemedy(error: unknown): unknown {
  return hasCode(error, 'REMOVED') ? new Error(`${error.message}. ${error.remedy}`, { cause: error }) : error
}

interface HeartbeatParts {
  home: Home
  store: ShardStore
  clock: Clock
  addresses: string[]
  beatEveryMs: number
}

class Heartbeat {
  readonly #parts: HeartbeatParts
  /** On the monotonic clock. */
  #lookedAt = Number.NEGATIVE_INFINITY
  #link: { key: string; link: CoordinatorLink; catalog: RemoteCatalog } | undefined

  constructor(parts: HeartbeatParts) {
    this.#parts = parts
  }

  /**
   * Sends a heartbeat. Where that fails the coordinator may have been replaced: if other peers hold a newer membership,
   * it is adopted, and the heartbeat goes to the coordinator that it names.
   */
  async beat(signal: AbortSignal): Promise<void> {
    try {
      await this.#beat()
    } catch (error) {
      if (signal.aborted) throw error
      if (await seekMembership(this.#parts.home, signal)) await this.#passOn()
      // It may have been set back to before this host joined.
      else if (hasCode(error, 'REMOVED')) await showMembership(this.#parts.home, this.#coordinator())
      else throw error
      await this.#beat()
    }
  }

  async #beat(): Promise<void> {
    const { home, store, addresses, clock, beatEveryMs } = this.#parts
    // A beat that tells of what was just stored comes in between: at what was there before it does not look once more.
    if (performance.now() - this.#lookedAt > beatEveryMs / 2) {
      await store.lookAgain()
      this.#lookedAt = performance.now()
    }
    const own = home.addresses.own(home.fleet, home.host, addresses, clock.now(), home.secret)
    const beat = { ...(await store.free()), store: store.state }
    const catalog = this.#coordinator()
    const told = catalog.clockSkewMs
    let newest = await catalog.heartbeat(beat, own)
    // The answer shows how far the own clock is off; where that is new, it is told at once.
    const measured = catalog.clockSkewMs
    if (measured !== undefined && hasMoved(told, measured)) newest = await catalog.heartbeat(beat, own)
    // What it holds is not what the coordinator expects: then it says where, and is listed there.
    if (newest.wanted && beat.store) {
      const buckets = store.buckets.encode().toString('base64')
      newest = await catalog.heartbeat({ ...beat, store: { ...beat.store, shards: store.buckets.root, buckets } }, own)
    }
    home.rename(newest.name)
    const known = home.membership()
    if (!isNewer(newest, known) && !isNewer(known, newest)) return
    if (await followMembership(home, catalog)) await this.#passOn()
  }

  /** Puts the membership into the own store, where others that look for a newer one, or for an earlier one, find it. */
  async #passOn(): Promise<void> {
    const { home, store, clock } = this.#parts
    await keepMembership(store, home, clock, home.membership().bytes).catch((error: unknown) => {
      if (!hasCode(error, 'HOST_REFUSED')) throw error
    })
  }

  close(): void {
    this.#link?.link.close()
  }

  /** The coordinator; a new connection where the membership names another, as after a recovery. */
  #coordinator(): RemoteCatalog {
    const { home, clock } = this.#parts
    const { key: host, addresses } = home.coordinator
    const key = [host, ...addresses].join(' ')
    if (this.#link?.key === key) return this.#link.catalog
    this.close()
    const link = new CoordinatorLink(home.tls, addresses, host)
    this.#link = { key, link, catalog: new RemoteCatalog(link, undefined, clock) }
    return this.#link.catalog
  }
}
