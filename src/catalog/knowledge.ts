/**
 * What is found out about hosts and their shards, and all that follows from it: facts, figures, whom to believe, and what people
 * read of it. Each call is part of a transaction of `local.ts`.
 */
import type Database from 'better-sqlite3'
import type { Clock } from '../base/clock.js'
import { type Hex, toHex } from '../base/ids.js'
import type { Line } from '../keys/replacement.js'
import { Complaints } from './complaints.js'
import { departHost } from './departure.js'
import { Evidence } from './evidence.js'
import type { Heartbeat, HostCatalogue } from './hosts.js'
import type { Registry } from './registry.js'
import type { Snapshots } from './snapshots.js'
import type { ExpectedShard, Stock } from './stock.js'
import type { Stores } from './stores.js'
import { isGood, type Stripes } from './stripes.js'
import { tidingsOf } from './tidings.js'
import type { Condition, Finding } from './types.js'

export interface KnowledgeParts {
  readonly db: Database.Database
  readonly clock: Clock
  /** `line`: who took whose place. */
  readonly parts: { readonly line: () => Line }
  readonly members: HostCatalogue
  readonly registry: Registry
  readonly stripes: Stripes
  readonly snapshots: Snapshots
  readonly stores: Stores
}

/** A bucket of a host's store: what should be in it, by the catalog of before it was asked, and what it listed. */
export interface ListedBucket {
  readonly bucket: number
  readonly expected: readonly ExpectedShard[]
  readonly held: ReadonlyMap<Hex, number>
}

/** What of it is news. Pure. */
export function findingsOf({ expected, held }: Pick<ListedBucket, 'expected' | 'held'>): Finding[] {
  return expected.flatMap(({ stripe, shard: id, lengthBytes, fact }): Finding[] => {
    const shard = toHex(id)
    const bytes = held.get(shard)
    const found = bytes === undefined ? 'missing' : bytes === lengthBytes ? 'present' : 'wrong length'
    return (found === 'present' ? isGood(fact) : found === fact) ? [] : [{ stripe, shard, fact: found }]
  })
}

export class Knowledge {
  readonly #parts: KnowledgeParts
  readonly #evidence: Evidence
  readonly #complaints: Complaints

  constructor(parts: KnowledgeParts) {
    this.#parts = parts
    this.#evidence = new Evidence(parts.db, parts.stripes.stock)
    this.#complaints = new Complaints(parts.db, { ...parts, line: parts.parts.line })
  }

  get stock(): Stock {
    return this.#parts.stripes.stock
  }

  /** `by` is who looked; what `trusted` says outweighs what others said. */
  learn(findings: readonly Finding[], inspected: readonly Hex[], by: Hex, trusted: boolean): void {
    const { clock, members, registry } = this.#parts
    const { stripes, turned } = this.#evidence.learn(findings, by, trusted, clock.now())
    if (trusted) for (const host of inspected) this.#trust(host)
    this.#refigure(stripes)
    for (const one of tidingsOf(turned, (host) => members.name(host), by)) registry.record(...one)
  }

  /** Keeps what the host says of itself; true as `HostCatalogue.heartbeat`. A store that is not what it was is not believed. */
  heartbeat(host: Hex, beat: Heartbeat): boolean {
    const { members, stores } = this.#parts
    const isNews = members.heartbeat(host, beat)
    const why = stores.hear(host, beat.store)
    if (why !== undefined) this.doubt(host, why)
    if (beat.store && this.stock.hear(host, beat.store)) this.#believe(host)
    return isNews
  }

  /** Of a store that is not what it was, nothing counts until it was looked at again. */
  doubt(host: Hex, why: string): void {
    const { clock, members, registry } = this.#parts
    if (members.suspicion(host) === why) return
    members.suspect(host, why)
    registry.record('alarm', host, `${members.name(host)} is not believed: ${why}`)
    // Its documents may be gone as well: they are brought again.
    registry.deliveries.forget(host)
    this.#refigure(this.#evidence.doubt(host, clock.now()))
  }

  /** The buckets of the host that differed were listed: what it lacks is missing, and the rest is as it should be. */
  takeListed(host: Hex, listed: readonly ListedBucket[]): void {
    for (const { bucket, expected, held } of listed) {
      const ids = new Set(expected.map(({ shard }) => toHex(shard)))
      const others = [...held.keys()].filter((id) => !ids.has(id))
      this.stock.noteExtra(
        host,
        bucket,
        others.map((id) => Buffer.from(id, 'hex')),
      )
    }
    this.learn(listed.flatMap(findingsOf), [], '', true)
    this.#believe(host)
  }

  #believe(host: Hex): void {
    const { members, registry } = this.#parts
    if (members.suspicion(host) === '') return
    members.suspect(host, '')
    registry.record('correction', host, `${members.name(host)} was looked at: what its store holds is known again`)
    this.#refigure(this.#evidence.believe(host))
  }

  /** Of stripes that do not hold what they are said to; as of `learn`. */
  complain(stripes: readonly number[], by: Hex, trusted: boolean): void {
    this.#complaints.add(stripes, by, trusted, this.#parts.clock.now())
  }

  /** Stripes that this host is not offered. */
  struckFor(host: Hex): ReadonlySet<number> {
    return this.#complaints.struckFor(host)
  }

  /** With what was complained of; of a catalog that cannot be believed no more is said. */
  conditions(trouble: Condition[]): Condition[] {
    return trouble.length > 0 ? trouble : this.#complaints.conditions(this.#parts.clock.now())
  }

  /** It leaves the fleet: its shards are missing. */
  depart(host: Hex, by: Hex): void {
    this.#refigure(departHost(this.#parts.db, host, by, this.#parts.clock.now()))
    this.stock.forget()
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
