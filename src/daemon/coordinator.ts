/**
 * The coordinator's daemon: the catalog served to the fleet, and a courier that brings the membership and every key entry to
 * every peer, so that recovery needs nothing but peers and the words.
 *
 * It runs whatever befalls its disk. While nothing can be written it reads on; while the catalog cannot be opened it says why;
 * and it comes back by itself when there is room again, a lock is gone, or `recover` has put a new catalog in place.
 */
import { statSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Clock, systemClock } from '../base/clock.js'
import { hasCode, ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import type { Report } from '../base/report.js'
import { heed } from '../catalog/audit.js'
import type { LocalCatalog } from '../catalog/local.js'
import { stepsOf } from '../coordinator/admission.js'
import { serveClosed } from '../coordinator/closed.js'
import { Moving } from '../coordinator/moving.js'
import { OrderBook } from '../coordinator/orders.js'
import { replaced } from '../coordinator/replaced.js'
import { type ServedCoordinator, serveCoordinator } from '../coordinator/server.js'
import { Traffic } from '../coordinator/traffic.js'
import { advertised } from '../fleet/address.js'
import { lockLocalCatalog, openLocalCatalog } from '../fleet/local-catalog.js'
import { entryName, partsOfEntryName, readEntry } from '../keys/entry.js'
import { type Home, hasHome, openHome } from '../keys/home.js'
import { findOpenedKeys } from '../keys/opened-keys.js'
import type { SegmentOptions } from '../signatures/segments.js'
import type { Served } from '../wire/server.js'
import { auditApart } from './audit.js'
import { Courier } from './courier.js'
import { keepPort } from './port.js'
import { ReceiptsAsked } from './receipts.js'
import { RepairsMade } from './repairs.js'
import { Loop, type Running } from './running.js'
import { Watching } from './watching.js'

const KEYS_MS = 5_000
const POLL_MS = 100

export interface CoordinatorOptions extends SegmentOptions {
  listen: string
  clock?: Clock
  report?: Report
}

/** How often it tries to write again, and looks whether the catalog was replaced. */
const TICK_MS = 2_000
/** How often it looks whether the keys that a recovery opened are over. */
const LOOK_MS = 60_000
const AUDIT_EVERY_MS = 24 * 3_600_000
/** After one that could not look. */
const AUDIT_AGAIN_MS = 60_000

export async function startCoordinator(
  home: Home,
  options: CoordinatorOptions,
): Promise<Running & { traffic: Traffic }> {
  const daemon = new Daemon(home, options)
  await daemon.start()
  return daemon
}

/** With a catalog, or with the reason why there is none. */
type Service =
  | {
      readonly catalog: LocalCatalog
      readonly server: ServedCoordinator
      readonly courier: Courier
      readonly watching: Watching
      readonly receipts: ReceiptsAsked
      readonly repairs: RepairsMade
    }
  | { readonly catalog: undefined; readonly server: Served; readonly trouble: ImagerError }

class Daemon implements Running {
  readonly traffic = new Traffic()
  readonly #options: CoordinatorOptions
  readonly #clock: Clock
  readonly #report: Report
  #home: Home
  #service: Service | undefined
  /** Of the file that was opened. */
  #inode = 0
  #audited = Number.NEGATIVE_INFINITY
  #looked = Number.NEGATIVE_INFINITY
  #said: string | undefined
  #loop: Loop | undefined
  /** Of the catalog, as long as it is believed: then `recover` may make it anew. */
  #lock: { release(): void } | undefined
  address = ''

  constructor(home: Home, options: CoordinatorOptions) {
    this.#home = home
    this.#options = options
    this.#clock = options.clock ?? systemClock
    this.#report = options.report ?? (() => {})
  }

  async start(): Promise<void> {
    this.#service = await this.#serve(this.#options.listen)
    this.address = this.#service.server.address
    keepPort(this.#home, this.#options.listen, this.address, this.#report)
    this.#loop = new Loop(
      TICK_MS,
      (signal) => this.#tick(signal),
      (error) => this.#report('catalog', error),
    )
  }

  async close(): Promise<void> {
    await this.#loop?.close()
    await this.#stop()
  }

  async #stop(): Promise<void> {
    const service = this.#service
    this.#service = undefined
    if (service?.catalog) {
      const { courier, watching, receipts, repairs } = service
      await Promise.all([courier, watching, receipts, repairs].map((one) => one.close()))
    }
    await service?.server.close()
    service?.catalog?.close()
    this.#unlock()
  }

  #unlock(): void {
    this.#lock?.release()
    this.#lock = undefined
  }

  async #serve(listen: string): Promise<Service> {
    const home = this.#home
    this.#inode = inodeOf(home)
    if (home.role === 'coordinator' && !home.coordinates) return this.#signpost(listen)
    let catalog: LocalCatalog
    try {
      catalog = await openLocalCatalog(home, this.#clock, this.#options)
    } catch (trouble) {
      if (!hasCode(trouble, 'COORDINATOR_READ_ONLY', 'STATE_DAMAGED')) throw trouble
      this.#say(trouble)
      return { catalog: undefined, trouble, server: await serveClosed({ home, listen, trouble }) }
    }
    try {
      await this.#takeLock(catalog)
      catalog.upkeep.guard.watchDamage(() => this.#unlock())
      this.#inode = inodeOf(home)
      const courier = this.#courier(catalog)
      const watching = new Watching({
        ...{ home, catalog, clock: this.#clock, report: this.#report },
        onMembership: () => {
          server.adopt()
          courier.wake()
        },
        onAsked: () => server.catchUp(),
        onPolicy: () => courier.wake(),
      })
      const server: ServedCoordinator = await serveCoordinator({
        ...{ home, catalog, clock: this.#clock, listen, watch: watching.watch },
        onDocument: () => {
          courier.wake()
          watching.wake()
        },
        ...publicAddress(home, this.#options.listen),
        onFinish: (appliance) => this.#bringKeys(appliance, catalog, courier),
        onAnswer: (...answer) => this.traffic.add(...answer),
      })
      this.#keepKeys(catalog)
      this.#say(catalog.upkeep.guard.trouble)
      const parts = { home, catalog, clock: this.#clock, report: this.#report }
      const [receipts, repairs] = [new ReceiptsAsked(parts), new RepairsMade(parts)]
      courier.start()
      watching.start()
      receipts.start()
      repairs.start()
      return { catalog, server, courier, watching, receipts, repairs }
    } catch (error) {
      catalog.close()
      this.#unlock()
      throw error
    }
  }

  /** Its place was handed over, and it may be that the other has not heard of it; else throws REPLACED. */
  async #signpost(listen: string): Promise<Service> {
    const home = this.#home
    if (home.membership().coordinator !== home.host) throw replaced(home)
    const none = async () => {}
    const moving = new Moving({ home, catalog: undefined, freeze: none, thaw() {}, onTaken() {} })
    const trouble = moving.trouble ?? replaced(home)
    this.#say(trouble)
    return { catalog: undefined, trouble, server: await serveClosed({ home, listen, trouble, moving }) }
  }

  /** False while a recovery is at work there: what was written now would be lost. */
  async #takeLock({ upkeep: { guard } }: LocalCatalog): Promise<boolean> {
    this.#lock ??= await lockLocalCatalog(this.#home)
    if (this.#lock) return true
    const why = `a recovery, or another coordinator, is at work in ${this.#home.state}`
    guard.pause(new ImagerError('COORDINATOR_READ_ONLY', { why, todo: 'Wait for it to end' }))
    return false
  }

  #courier(catalog: LocalCatalog): Courier {
    const book = new OrderBook(this.#home, catalog)
    return new Courier({
      home: this.#home,
      clock: this.#clock,
      // While nothing can be written, what was brought could not be noted: nobody counts as seen.
      lastSeen: () =>
        new Map(catalog.upkeep.guard.trouble ? [] : catalog.members.rows().map((row) => [row.host, row.lastSeen])),
      keys: () => catalog.registry.documents('key'),
      addresses: () => new Map(catalog.members.members().map(({ host, addresses }) => [host, addresses])),
      statements: () => catalog.registry.documents('address'),
      orders: () => book.said(),
      steps: () => stepsOf(this.#home, catalog),
      deliveries: catalog.registry.deliveries,
      onRefusal(peer, kind, name, why) {
        const whose =
          kind === 'key'
            ? `a key of ${catalog.members.name(partsOfEntryName(name).owner)}`
            : kind === 'address'
              ? 'addresses'
              : `the ${kind}`
        catalog.registry.record('refusal', peer.host, `${peer.name} refused ${whose}: ${why}`)
      },
      report: this.#report,
    })
  }

  /** Until enough peers hold its keys, for as long as a person does not notice: it may have joined a moment ago. */
  async #bringKeys(appliance: Hex, { registry, members }: LocalCatalog, courier: Courier): Promise<void> {
    const isHeld = () => registry.keysHeld(appliance, members.rows())
    for (let left = KEYS_MS; left > 0 && !isHeld(); left -= POLL_MS) {
      courier.wake()
      await sleep(POLL_MS)
    }
  }

  /** A key that is damaged here keeps nobody from reading. */
  #keepKeys(catalog: LocalCatalog): void {
    const home = this.#home
    try {
      for (const bytes of home.ownEntries()) catalog.registry.keepKey(entryName(readEntry(bytes).entry), bytes)
    } catch (error) {
      if (hasCode(error, 'STATE_DAMAGED')) catalog.upkeep.guard.distrust(error, [])
      else if (!hasCode(error, 'COORDINATOR_READ_ONLY')) throw error
    }
  }

  async #tick(signal: AbortSignal): Promise<void> {
    const service = this.#service
    // What kept it from starting anew may be over.
    if (!service) return this.#startAnew()
    const { catalog } = service
    this.#lookAtKeys()
    if (this.#home.handedOver) return
    if (!catalog || inodeOf(this.#home) !== this.#inode) return this.#startAnew()
    const { guard } = catalog.upkeep
    const mayResume = guard.trouble && !guard.damage && catalog.upkeep.hasRoom() && (await this.#takeLock(catalog))
    // What was opened for this process alone is opened anew, for others as well.
    if (mayResume && guard.isAlone) return this.#startAnew()
    if (mayResume && catalog.upkeep.resume((host, beat) => void catalog.heartbeat(host, beat))) {
      service.server.catchUp()
      this.#keepKeys(catalog)
    }
    if (this.#clock.now() - this.#audited >= AUDIT_EVERY_MS && !catalog.upkeep.guard.trouble)
      await this.#audit(catalog, signal)
    this.#say(catalog.upkeep.guard.trouble)
  }

  async #audit(catalog: LocalCatalog, signal: AbortSignal): Promise<void> {
    this.#audited = this.#clock.now() - AUDIT_EVERY_MS + AUDIT_AGAIN_MS
    heed(catalog.upkeep, await auditApart(join(this.#home.state, 'catalog'), signal), this.#home.host)
    this.#audited = this.#clock.now()
  }

  /** What a recovery opened is over on time, also where no command looks. */
  #lookAtKeys(): void {
    // A clock that was set must not keep it from looking.
    if (performance.now() - this.#looked < LOOK_MS) return
    this.#looked = performance.now()
    const opened = findOpenedKeys(this.#home, this.#clock.now())
    if ('why' in opened && opened.why)
      this.#report('keys', new Error(`This host opens no snapshots any more${opened.why}`))
  }

  /** On the same address, with what lies in the state folder now. While that cannot be opened, all stays as it is. */
  async #startAnew(): Promise<void> {
    const listen = this.address
    const { state } = this.#home
    // A recovery puts the catalog in place, and then says that it is this fleet's.
    if (!hasHome(state)) return
    const home = openHome(state)
    if (!this.#service?.catalog && !(await this.#canOpen(home))) return
    await this.#stop()
    this.#home = home
    this.#audited = Number.NEGATIVE_INFINITY
    this.#service = await this.#serve(listen)
  }

  async #canOpen(home: Home): Promise<boolean> {
    try {
      const catalog = await openLocalCatalog(home, this.#clock, { ...this.#options, waitMs: 0 })
      catalog.close()
      return true
    } catch (error) {
      if (error instanceof ImagerError) return false
      throw error
    }
  }

  /** Once for each trouble, and once when it is over. */
  #say(trouble: ImagerError | undefined): void {
    if (trouble?.message === this.#said) return
    if (trouble) this.#report('catalog', new Error(`${trouble.message}. ${trouble.remedy}`))
    else this.#report('catalog', new Error('it is written again'))
    this.#said = trouble?.message
  }
}

/** 0: there is none. */
function inodeOf({ state }: Home): number {
  return statSync(join(state, 'catalog', 'catalog.db'), { throwIfNoEntry: false })?.ino ?? 0
}

/** As given to `init`, unless the daemon is told to listen elsewhere. A free port is known only once it is taken. */
function publicAddress(home: Home, listen: string): { publicAddress?: string } {
  if (listen.endsWith(':0')) return {}
  return { publicAddress: listen === home.config.listen ? home.coordinator.address : advertised(listen) }
}
