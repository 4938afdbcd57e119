/**
 * What is found out about hosts and their shards, and all that follows from it: facts, figures, whom to believe, and what people
 * read of it. Each call is part of a transaction of `local.ts`.
 */
import type Database from 'better-sqlite3'
import type { Clock } from '../base/clock.js'
import type { Hex } from '../base/ids.js'
import { formatBytes } from '../base/units.js'
import { departHost } from './departure.js'
import { Evidence } from './evidence.js'
import type { Heartbeat, HostCatalogue } from './hosts.js'
import type { Registry } from './registry.js'
import type { Snapshots } from './snapshots.js'
import type { Stores } from './stores.js'
import type { Stripes } from './stripes.js'
import { tidingsOf } from './tidings.js'
import type { Finding } from './types.js'

export interface KnowledgeParts {
  readonly db: Database.Database
  readonly clock: Clock
  readonly members: HostCatalogue
  readonly registry: Registry
  readonly stripes: Stripes
  readonly snapshots: Snapshots
  readonly stores: Stores
}

export class Knowledge {
  readonly #parts: KnowledgeParts
  readonly #evidence: Evidence
  /** What each host had been given when it was last heard of: since then it may have counted before more came. */
  readonly #placedBefore = new Map<Hex, number>()

  constructor(parts: KnowledgeParts) {
    this.#parts = parts
    this.#evidence = new Evidence(parts.db, parts.stripes.placed)
  }

  /** `by` is who looked; what `trusted` says outweighs what others said. */
  learn(findings: readonly Finding[], inspected: readonly Hex[], by: Hex, trusted: boolean): void {
    const { clock, members, registry } = this.#parts
    const { stripes, turned } = this.#evidence.learn(findings, by, trusted, clock.now())
    if (trusted) for (const host of inspected) this.#trust(host)
    this.#refigure(stripes)
    for (const one of tidingsOf(turned, (host) => members.name(host), by)) registry.record(...one)
  }

  /** Keeps what the host says of itself; true as `HostCatalogue.heartbeat`. A store with less than it was given is not believed. */
  heartbeat(host: Hex, beat: Heartbeat): boolean {
    const { members, stores } = this.#parts
    const isNews = members.heartbeat(host, beat)
    const why = stores.hear(host, beat.store)
    if (why !== undefined) this.#doubt(host, why)
    else this.#weigh(host, beat)
    return isNews
  }

  /** Of a store that is not what it was, nothing counts until it was looked at again. */
  #doubt(host: Hex, why: string): void {
    const { clock, members, registry } = this.#parts
    if (members.trust(host)?.suspect === why) return
    members.suspect(host, why)
    registry.record('alarm', host, `${members.name(host)} is not believed: ${why}`)
    // Its documents may be gone as well: they are brought again.
    registry.deliveries.forget(host)
    this.#refigure(this.#evidence.doubt(host, clock.now()))
  }

  #weigh(host: Hex, beat: Heartbeat): void {
    const { members, registry } = this.#parts
    const { placedBytes, suspect } = members.trust(host) ?? { placedBytes: 0, suspect: '' }
    const before = this.#placedBefore.get(host)
    this.#placedBefore.set(host, placedBytes)
    const holdsLess = before !== undefined && beat.usedBytes < Math.min(before, placedBytes)
    if (holdsLess && suspect === '')
      this.#doubt(host, `its store holds ${formatBytes(beat.usedBytes)}, ${formatBytes(placedBytes)} were placed there`)
    if (beat.usedBytes >= placedBytes && suspect !== '') {
      members.suspect(host, '')
      registry.record('correction', host, `${members.name(host)} holds what it should again`)
      this.#refigure(this.#evidence.believe(host))
    }
  }

  /** It leaves the fleet: its shards are missing. */
  depart(host: Hex, by: Hex): void {
    this.#refigure(departHost(this.#parts.db, host, by, this.#parts.clock.now()))
  }

  /** Of a stripe that was just committed: one of its hosts may have been removed after it was sent a shard. */
  missDeparted(stripe: number, hosts: readonly Hex[]): void {
    const departed = hosts.filter((host) => this.#parts.members.role(host) === undefined)
    if (departed.length === 0) return
    const gone = (this.#parts.stripes.row(stripe)?.shards ?? []).filter(({ host }) => departed.includes(host))
    const findings = gone.map(({ shard }) => ({ stripe, shard, fact: 'missing' as const }))
    this.#refigure(this.#evidence.learn(findings, '', true, this.#parts.clock.now()).stripes)
  }

  /** All its shards were looked at one by one: what it holds is known again. */
  #trust(host: Hex): void {
    this.#parts.members.suspect(host, '')
    this.#parts.stripes.placed.count(host)
  }

  #refigure(numbers: Iterable<number>): void {
    const { stripes, snapshots } = this.#parts
    let any = false
    for (const number of numbers) {
      stripes.refigure(number)
      any = true
    }
    if (any) snapshots.forgetFigures()
  }
}
