/**
 * `imager check`: what the catalog says against what the hosts hold. Without reading data: every shard is there, in its
 * length. With it: every slice of every shard is right. Then what all of that means for each snapshot.
 */
import type { Clock } from '../base/clock.js'
import { hasCode, ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import { Slots } from '../base/queue.js'
import type { Catalog, ShardRow, StripeRow } from '../catalog/types.js'
import type { Home } from '../keys/home.js'
import { inspectShard, shardFileBytes } from '../native.js'
import type { PeerClient } from '../peers/client.js'
import type { Peers } from '../peers/pool.js'
import { findOutlook } from '../stripes/suffice.js'
import { Meter, type Report } from './progress.js'

/** Whole shards being read from all hosts together: 16 MiB. */
const READS_IN_FLIGHT = 4

export interface CheckParts {
  readonly home: Home
  readonly catalog: Catalog
  readonly peers: Peers
  readonly clock: Clock
  readonly report: Report
  readonly signal: AbortSignal
}

/** A shard that is not as the catalog says. */
export interface Damage {
  readonly host: string
  readonly shard: Hex
  readonly stripe: number
  readonly what: 'missing' | 'wrong length' | 'corrupt'
}

export interface CheckReport {
  readonly stripes: number
  readonly shards: number
  readonly readBytes: number
  readonly damage: readonly Damage[]
  readonly unreachable: readonly string[]
  readonly snapshots: readonly {
    readonly snapshot: Hex
    readonly restorable: boolean
    readonly suffice: readonly string[]
  }[]
}

interface Held {
  readonly row: StripeRow
  readonly shard: ShardRow
}

export async function runCheck(readData: boolean, parts: CheckParts): Promise<CheckReport> {
  const { catalog, home } = parts
  const snapshots = await catalog.snapshots()
  const stripesOf = new Map<Hex, number[]>()
  for (const { id } of snapshots) stripesOf.set(id, await catalog.snapshotStripes(id))
  const rows = await catalog.stripes([...new Set([...stripesOf.values()].flat())].sort((a, b) => a - b))
  const byHost = new Map<Hex, Held[]>()
  for (const row of rows)
    for (const shard of row.shards) byHost.set(shard.host, [...(byHost.get(shard.host) ?? []), { row, shard }])
  const run = new Check(parts, readData, rows)
  await Promise.all([...byHost].map(([host, held]) => run.host(host, held)))
  const name = (host: Hex) => home.membership().find(host)?.name ?? host.slice(0, 8)
  const bad = new Set(run.damage.map((one) => one.shard))
  const usable = rows.map((row) => ({ ...row, shards: row.shards.filter((shard) => !bad.has(shard.shard)) }))
  const outlooks = snapshots.map(({ id }) => {
    const wanted = new Set(stripesOf.get(id))
    const { lost, suffice } = findOutlook(
      usable.filter((row) => wanted.has(row.stripe)),
      run.unreachable,
    )
    return { snapshot: id, restorable: lost.length === 0, suffice: suffice.map(name).sort() }
  })
  return {
    stripes: rows.length,
    shards: rows.reduce((sum, row) => sum + row.shards.length, 0),
    readBytes: run.readBytes,
    damage: run.damage,
    unreachable: [...run.unreachable].map(name).sort(),
    snapshots: outlooks,
  }
}

class Check {
  readonly damage: Damage[] = []
  readonly unreachable = new Set<Hex>()
  readBytes = 0
  readonly #parts: CheckParts
  readonly #readData: boolean
  readonly #meter: Meter
  readonly #slots = new Slots(READS_IN_FLIGHT)

  constructor(parts: CheckParts, readData: boolean, rows: readonly StripeRow[]) {
    this.#parts = parts
    this.#readData = readData
    const total = rows.reduce((sum, row) => sum + row.shards.length * fileBytes(row), 0)
    this.#meter = new Meter('checking', total, parts.clock, parts.report)
  }

  async host(host: Hex, held: readonly Held[]): Promise<void> {
    try {
      const peer = this.#parts.peers.get(host)
      const there = await this.#inventory(peer)
      await Promise.all(held.map((one) => this.#slots.run(() => this.#shard(peer, one, there.get(one.shard.shard)))))
    } catch (error) {
      this.#parts.signal.throwIfAborted()
      if (!(error instanceof ImagerError)) throw error
      this.unreachable.add(host)
    }
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

  async #shard(peer: PeerClient, { row, shard }: Held, bytes: number | undefined): Promise<void> {
    this.#parts.signal.throwIfAborted()
    const damaged = (what: Damage['what']) => {
      this.damage.push({ host: peer.name, shard: shard.shard, stripe: row.stripe, what })
    }
    this.#meter.add(fileBytes(row))
    if (bytes === undefined) return damaged('missing')
    if (bytes !== fileBytes(row)) return damaged('wrong length')
    if (!this.#readData) return
    const file = (await peer.fetchBody(shard.shard, undefined, { signal: this.#parts.signal })).take()
    this.readBytes += file.length
    try {
      const facts = await inspectShard(file)
      if (facts.shard !== shard.shard || facts.root !== shard.root) damaged('corrupt')
    } catch (error) {
      if (!hasCode(error, 'CORRUPT', 'UNSUPPORTED')) throw error
      damaged('corrupt')
    }
  }
}

function fileBytes(row: StripeRow): number {
  return shardFileBytes(row.packBytes, row.k)
}
