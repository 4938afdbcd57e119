/** A fleet in this process: real catalog, stores, keys and witnesses in folders, on real ports, each host with a clock of its own. */
import { createHash } from 'node:crypto'
import { setMaxListeners } from 'node:events'
import { rmSync, writeFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Clock } from '../../src/base/clock.js'
import { ImagerError } from '../../src/base/errors.js'
import { startCoordinator } from '../../src/daemon/coordinator.js'
import { startPeer } from '../../src/daemon/peer.js'
import type { Running } from '../../src/daemon/running.js'
import { initFleet } from '../../src/fleet/init.js'
import { joinFleet } from '../../src/fleet/join.js'
import { type Fleet, openFleet } from '../../src/fleet/open.js'
import { readStatus } from '../../src/fleet/status.js'
import { unlocking } from '../../src/fleet/unlock.js'
import { planRecover, type RecoverReport, runRecover } from '../../src/jobs/recover/recover.js'
import { planRestore, runRestore } from '../../src/jobs/restore/disk.js'
import { type SnapshotReport, takeSnapshot } from '../../src/jobs/snapshot/snapshot.js'
import { openHome } from '../../src/keys/home.js'

export const PEERS = ['peer-1', 'peer-2', 'peer-3', 'peer-4', 'peer-5', 'peer-6'] as const
export const APPLIANCES = ['server-1', 'server-2', 'server-3'] as const
export const HOSTS = ['coordinator', ...PEERS, ...APPLIANCES] as const
export type Host = (typeof HOSTS)[number]
type Appliance = (typeof APPLIANCES)[number]

const SOON_MS = 40_000
const BEAT_MS = 250
const ANY_PORT = '127.0.0.1:0'

class HostClock implements Clock {
  skewMs = 0

  now(): number {
    return Date.now() + this.skewMs
  }
}

export class Site {
  readonly clocks = new Map<Host, HostClock>(HOSTS.map((host) => [host, new HostClock()]))
  #running: Running[] = []
  /** Where the coordinator lies: a recovery puts another one elsewhere. */
  coordinator = 'coordinator'

  constructor(readonly folder: string) {}

  /** `onInit`: nobody has joined yet. */
  static async found(folder: string, onInit = () => {}): Promise<{ site: Site; words: string }> {
    const site = new Site(folder)
    let words = ''
    const keepWords = (said: string) => {
      words = said
    }
    const given = { name: 'coordinator', domain: 'coordinator', listen: ANY_PORT, address: ANY_PORT }
    initFleet({ state: site.state('coordinator'), ...given, keepWords })
    onInit()
    await site.#startCoordinator()
    const fleet = await openFleet(openHome(site.state('coordinator')))
    try {
      for (const name of [...PEERS, ...APPLIANCES]) {
        const isPeer = name.startsWith('peer')
        const { token } = await fleet.invite(isPeer ? 'peer' : 'appliance')
        await joinFleet({ token, state: site.state(name), name, domain: name, listen: isPeer ? ANY_PORT : null })
      }
    } finally {
      await fleet.close()
    }
    for (const peer of PEERS) await site.#startPeer(peer)
    return { site, words }
  }

  state(host: string): string {
    return join(this.folder, host, 'state')
  }

  store(host: string): string {
    return join(this.folder, host, 'store')
  }

  async start(): Promise<void> {
    await this.#startCoordinator()
    await Promise.all(PEERS.map((peer) => this.#startPeer(peer)))
  }

  async stop(): Promise<void> {
    await Promise.all(this.#running.splice(0).map((one) => one.close()))
  }

  async startPeers(peers: readonly (typeof PEERS)[number][] = PEERS): Promise<void> {
    await Promise.all(peers.map((peer) => this.#startPeer(peer)))
  }

  /** `listen`: where its state folder does not know yet. */
  async startCoordinator(listen?: string): Promise<void> {
    await this.#startCoordinator(listen)
  }

  async #startCoordinator(at?: string): Promise<void> {
    const home = openHome(this.state(this.coordinator))
    const options = { listen: at ?? home.config.listen ?? ANY_PORT, clock: this.#clock('coordinator') }
    this.#running.unshift(await startCoordinator(home, options))
  }

  async #startPeer(name: (typeof PEERS)[number]): Promise<void> {
    const home = openHome(this.state(name))
    const options = { store: this.store(name), listen: home.config.listen ?? ANY_PORT, keepFreeBytes: 0 }
    this.#running.unshift(await startPeer(home, { ...options, clock: this.#clock(name), beatEveryMs: BEAT_MS }))
  }

  #clock(host: Host): HostClock {
    return this.clocks.get(host) as HostClock
  }

  /** Time goes on everywhere, and all peers are heard of again. */
  async later(ms: number): Promise<void> {
    for (const clock of this.clocks.values()) clock.skewMs += ms
    await this.allHere()
  }

  async allHere(): Promise<void> {
    await this.as('server-1', async ({ catalog }) => {
      for (const end = performance.now() + SOON_MS; performance.now() < end; await sleep(50)) {
        const rows = await catalog.hosts()
        if (PEERS.every((peer) => rows.some(({ name, away, storage }) => name === peer && !away && storage !== '')))
          return
      }
      throw new Error('not all peers are heard of again')
    })
  }

  async as<T>(host: Appliance, work: (fleet: Fleet) => Promise<T>): Promise<T> {
    const fleet = await openFleet(openHome(this.state(host)), this.#clock(host))
    try {
      return await work(fleet)
    } finally {
      await fleet.close()
    }
  }

  /** As the command does; `during` is called while it runs. */
  snapshot(host: Appliance, source: string, during: () => void = () => {}): Promise<SnapshotReport> {
    const view = { choice: 'auto' as const, quietMs: 0, giveUpMs: 0 }
    const options = { source, label: '', view, fullRead: false, everything: false, level: 1, wait: false }
    const signal = neverAborted()
    return this.as(host, ({ home, patient, peers, clock }) =>
      takeSnapshot(options, { home, catalog: patient(signal, () => {}), peers, clock, report: during, signal }),
    )
  }

  /** SHA-256 of what comes back. */
  async restore(fleet: Fleet, snapshot: string): Promise<string> {
    const target = join(this.folder, 'target.img')
    rmSync(target, { force: true })
    const { home, catalog, peers, clock } = fleet
    const signal = neverAborted()
    const parts = { home, catalog, peers, clock, unlock: unlocking(fleet, undefined, signal), signal }
    const quiet = { ...parts, report: () => {}, note: () => {} }
    const options = { snapshot, to: target, force: true, delta: false, verify: false }
    await runRestore(await planRestore(options, quiet), quiet)
    return digest(await readFile(target))
  }

  status(host: Appliance) {
    return this.as(host, readStatus)
  }

  /** On a new host; the former coordinator does not run. */
  async recover(words: string, port: number): Promise<RecoverReport> {
    const [peer] = PEERS
    const at = `127.0.0.1:${port}`
    const given = {
      words,
      peer: openHome(this.state(peer)).config.listen ?? '',
      name: 'spare',
      listen: at,
      address: at,
    }
    const options = { ...given, state: this.state('spare') }
    const parts = { clock: this.#clock('coordinator'), report: () => {}, signal: neverAborted() }
    const plan = await planRecover(options, parts)
    try {
      return await runRecover(plan, options, parts)
    } finally {
      plan.close()
      this.coordinator = 'spare'
    }
  }
}

function neverAborted(): AbortSignal {
  const { signal } = new AbortController()
  setMaxListeners(0, signal)
  return signal
}

export function digest(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}

/** Until it does not fail any more, for as long as a person would try; then what it failed with. */
export async function persist<T>(work: () => Promise<T>, forMs = SOON_MS): Promise<T> {
  for (const end = performance.now() + forMs; ; await sleep(300)) {
    try {
      return await work()
    } catch (error) {
      if (!(error instanceof ImagerError) || performance.now() > end) throw error
    }
  }
}

export function writeDisk(path: string, bytes: Buffer): string {
  writeFileSync(path, bytes)
  return digest(bytes)
}
