/**
 * `imager check`: what the catalog says against what the hosts hold. Without reading data: every shard is there, in its
 * length. With it: every slice of every shard is right. What was found out goes to the coordinator, so that status, lookups
 * and the next snapshot know; and it is said what all of that means for each snapshot.
 */
import type { Clock } from '../base/clock.js'
import { hasCode, isOfHost } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import { Slots } from '../base/queue.js'
import { fullName } from '../catalog/choose.js'
import { isGood } from '../catalog/stripes.js'
import type { Catalog, Finding, ShardRow, StripeRow } from '../catalog/types.js'
import type { Home } from '../keys/home.js'
import { inspectShard, shardFileBytes } from '../native.js'
import type { PeerClient } from '../peers/client.js'
import type { Peers } from '../peers/pool.js'
import { describeStripe } from '../stripes/names.js'
import { findOutlook } from '../stripes/suffice.js'
import { Meter, type Report } from './progress.js'

/** Whole shards being read from all hosts together: 16 MiB. */
const READS_IN_FLIGHT = 4
/** Findings of shards that are right, kept until they are told. */
const TOLD_AT_ONCE = 1000

export interface CheckParts {
  readonly home: Home
  readonly catalog: Catalog
  readonly peers: Peers
  readonly clock: Clock
  readonly report: Report
  readonly onDamage: (damage: Damage) => void
  readonly signal: AbortSignal
}

/** A shard that is not as the catalog says. */
export interface Damage {
  readonly host: string
  readonly shard: Hex
  /** As `describeStripe` writes it. */
  readonly stripe: string
  readonly what: 'missing' | 'wrong length' | 'corrupt'
}

export interface CheckReport {
  readonly stripes: number
  readonly shards: number
  readonly readBytes: number
  /** Shards that are not as they should be. */
  readonly damaged: number
  /** Stripes of which too little is left anywhere. */
  readonly unrepairable: number
  readonly unreachable: readonly string[]
  readonly snapshots: readonly {
    readonly snapshot: Hex
    readonly restorable: boolean
    readonly suffice: readonly string[]
  }[]
}

interface Held {
  readonly row: StripeRow
  readonly shard: StripeRow['shards'][number]
}

export async function runCheck(readData: boolean, parts: CheckParts): Promise<CheckReport> {
  const { catalog, home } = parts
  const snapshots = await catalog.snapshots()
  const stripesOf = new Map<string, number[]>()
  for (const row of snapshots) stripesOf.set(fullName(row), await catalog.snapshotStripes(fullName(row)))
  const rows = await catalog.stripes([...new Set([...stripesOf.values()].flat())].sort((a, b) => a - b))
  const byHost = new Map<Hex, Held[]>()
  for (const row of rows)
    for (const shard of row.shards) byHost.set(shard.host, [...(byHost.get(shard.host) ?? []), { row, shard }])
  const run = new Check(parts, readData, rows)
  const isMember = (host: Hex) => home.membership().find(host) !== undefined
  // What lay on hosts that were removed is known to be missing.
  await Promise.all([...byHost].filter(([host]) => isMember(host)).map(([host, held]) => run.host(host, held)))
  await run.tell()
  const name = (host: Hex) => home.membership().find(host)?.name ?? host.slice(0, 8)
  const usable = rows.map((row) => ({
    ...row,
    shards: row.shards.filter((shard) => isMember(shard.host) && run.isUsable(shard)),
  }))
  const known = new Set(rows.map((row) => row.stripe))
  const outlooks = snapshots.map((row) => {
    const wanted = new Set(stripesOf.get(fullName(row)))
    const { lost, suffice } = findOutlook(
      usable.filter((row) => wanted.has(row.stripe)),
      run.unreachable,
    )
    const isKnown = [...wanted].every((stripe) => known.has(stripe))
    return { snapshot: row.id, restorable: isKnown && lost.length === 0, suffice: suffice.map(name).sort() }
  })
  return {
    stripes: rows.length,
    shards: rows.reduce((sum, row) => sum + row.shards.length, 0),
    readBytes: run.readBytes,
    damaged: run.damaged.size,
    unrepairable: usable.filter(({ k, shards }) => shards.length < k).length,
    unreachable: [...run.unreachable].map(name).sort(),
    snapshots: outlooks,
  }
}

class Check {
  readonly damaged = new Set<Hex>()
  readonly unreachable = new Set<Hex>()
  readBytes = 0
  readonly #parts: CheckParts
  readonly #readData: boolean
  readonly #meter: Meter
  readonly #slots = new Slots(READS_IN_FLIGHT)
  readonly #inspected: Hex[] = []
  #findings: Finding[] = []

  constructor(parts: CheckParts, readData: boolean, rows: readonly StripeRow[]) {
    this.#parts = parts
    this.#readData = readData
    const total = rows.reduce((sum, row) => sum + row.shards.length * fileBytes(row), 0)
    this.#meter = new Meter('checking', total, parts.clock, parts.report)
  }

  /** Found right here, or nobody found it wrong and its host does not answer. */
  isUsable({ shard, host, fact }: StripeRow['shards'][number]): boolean {
    if (this.unreachable.has(host)) return fact !== undefined && isGood(fact)
    return !this.damaged.has(shard)
  }

  async host(host: Hex, held: readonly Held[]): Promise<void> {
    try {
      const peer = this.#parts.peers.get(host)
      const there = await this.#inventory(peer)
      await Promise.all(held.map((one) => this.#slots.run(() => this.#shard(peer, one, there.get(one.shard.shard)))))
      this.#inspected.push(host)
    } catch (error) {
      this.#parts.signal.throwIfAborted()
      if (!isOfHost(error)) throw error
      this.unreachable.add(host)
    }
  }

  /** Tells the coordinator what is not told yet, and which hosts were looked at whole. */
  async tell(): Promise<void> {
    const told = this.#findings
    this.#findings = []
    await this.#parts.catalog.learn(told, this.#inspected)
  }

  async #inventory(peer: PeerClient): Promise<Map<Hex, number>> {
    const there = new Map<Hex, number>()
    for (let after: Hex | null = ''; after !== null; ) {
      const page: Awaited<ReturnType<PeerClient['fetchInventory']>> = await peer.fetchInventory(after, undefined, {
        signal: this.#parts.signal,
      })
      for (const { shard, bytes } of page.shards) there.set(shard, bytes)
      after = page.next
    }
    return there
  }

  async #shard(peer: PeerClient, held: Held, bytes: number | undefined): Promise<void> {
    this.#parts.signal.throwIfAborted()
    const { row, shard } = held
    const what = await this.#look(peer, held, bytes)
    this.#meter.add(fileBytes(row))
    if (what !== 'present' && what !== 'proved') {
      this.damaged.add(shard.shard)
      const stripe = describeStripe(this.#parts.catalog.names, row.stripe)
      this.#parts.onDamage({ host: peer.name, shard: shard.shard, stripe, what })
    }
    // That a shard is still where it was put is no news.
    if (what === 'present' && shard.fact !== undefined && isGood(shard.fact)) return
    this.#findings.push({ stripe: row.stripe, shard: shard.shard, fact: what })
    if (this.#findings.length >= TOLD_AT_ONCE) await this.#parts.catalog.learn(this.#findings.splice(0), [])
  }

  async #look(
    peer: PeerClient,
    { row, shard }: Held,
    bytes: number | undefined,
  ): Promise<Damage['what'] | 'present' | 'proved'> {
    if (bytes === undefined) return 'missing'
    if (bytes !== fileBytes(row)) return 'wrong length'
    if (!this.#readData) return 'present'
    try {
      const file = (await peer.fetchBody(shard.shard, undefined, { signal: this.#parts.signal })).take()
      this.readBytes += file.length
      return (await isRight(file, shard)) ? 'proved' : 'corrupt'
    } catch (error) {
      this.#parts.signal.throwIfAborted()
      if (hasCode(error, 'SHARD_MISSING')) return 'missing'
      // The host answers, and not with this shard: a bad sector under it, for one.
      if (isOfHost(error) && error.code !== 'HOST_UNREACHABLE') return 'corrupt'
      throw error
    }
  }
}

async function isRight(file: Buffer, shard: ShardRow): Promise<boolean> {
  try {
    const facts = await inspectShard(file)
    return facts.shard === shard.shard && facts.root === shard.root
  } catch (error) {
    if (!hasCode(error, 'CORRUPT', 'UNSUPPORTED')) throw error
    return false
  }
}

function fileBytes(row: StripeRow): number {
  return shardFileBytes(row.packBytes, row.k)
}
