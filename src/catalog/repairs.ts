/** Stripes that listed snapshots refer to and that bear less than their scheme can; and what was made anew of them. */
import type Database from 'better-sqlite3'
import { ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import { shardFileBytes } from '../native.js'
import { partsOfRunName, runOf, shardOf } from '../stripes/names.js'
import { isReceiptOf } from '../stripes/receipt.js'
import type { Standing, Weak } from '../stripes/repair.js'
import type { HostCatalogue } from './hosts.js'
import type { CatalogParts } from './parts.js'
import type { Registry } from './registry.js'
import type { StoredRuns } from './runs.js'
import { decodeStripes, type Snapshots } from './snapshots.js'
import { isGood, type Stripes } from './stripes.js'
import type { Known, ShardRow } from './types.js'

export interface WeakStripe extends Weak {
  /** As rows have it. */
  readonly stripe: number
  /** Name of its run. */
  readonly run: Buffer
  readonly shards: readonly (ShardRow & { readonly standing: Standing })[]
}

/** A shard as its new host signed it. */
export interface Remade {
  readonly index: number
  readonly host: Hex
  readonly root: Hex
  readonly receipt: Buffer
  /** Identity of its stripe, as its writer signed it. */
  readonly identity: Hex
}

interface RepairsParts {
  readonly db: Database.Database
  readonly parts: Pick<CatalogParts, 'openReceipt'>
  readonly runs: StoredRuns
  readonly stripes: Stripes
  readonly snapshots: Snapshots
  readonly members: HostCatalogue
  readonly registry: Registry
}

export class Repairs {
  readonly #parts: RepairsParts
  readonly #weak: Database.Statement<[], number>
  readonly #lists: Database.Statement<[], Buffer>

  constructor(parts: RepairsParts) {
    this.#parts = parts
    this.#weak = parts.db
      .prepare<[], number>('SELECT stripe FROM sound_stripe WHERE committed = 1 AND survives < m')
      .pluck()
    this.#lists = parts.db.prepare<[], Buffer>('SELECT stripes FROM sound_snapshot ORDER BY n DESC').pluck()
  }

  /** Those of the newest snapshots first. `passedOver`: stripes that are left out. */
  weak(passedOver: ReadonlySet<number>, limit: number): WeakStripe[] {
    const weak = new Set(this.#weak.all().filter((stripe) => !passedOver.has(stripe)))
    const found: WeakStripe[] = []
    if (weak.size === 0) return found
    for (const list of this.#lists.iterate()) {
      for (const stripe of decodeStripes(list)) {
        if (!weak.delete(stripe)) continue
        found.push(...this.#row(stripe))
        if (found.length >= limit) return found
      }
      if (weak.size === 0) break
    }
    return found
  }

  #row(stripe: number): WeakStripe[] {
    const { stripes, runs } = this.#parts
    const row = stripes.row(stripe)
    if (!row) return []
    const run = runs.name(runOf(stripe))
    const { k, m, packBytes } = row
    const shards = row.shards.map(({ fact, ...shard }) => ({ ...shard, standing: standingOf(fact) }))
    const { writer } = partsOfRunName(run)
    return [{ stripe, run, k, m, writer, fileBytes: shardFileBytes(packBytes, k), shards }]
  }

  /** From now on that host holds it. In a transaction. Throws FORGED where it did not sign so, PROTOCOL where it is of another shard. */
  keep({ stripe, run, fileBytes }: WeakStripe, { index, host, root, receipt, identity }: Remade): void {
    const { parts, stripes, snapshots, members, registry } = this.#parts
    const said = parts.openReceipt(receipt, { shard: shardOf(run, stripe, index), root, host })
    if (!isReceiptOf(said, { stripe: identity, index, lengthBytes: fileBytes })) {
      throw new ImagerError('PROTOCOL', { what: 'a receipt of another shard' })
    }
    stripes.remake(stripe, { index, host, root, receipt: receipt.toString('base64') })
    snapshots.forgetFigures()
    registry.record('correction', host, `${members.name(host)} made a lost part anew, out of what others hold`)
  }
}

function standingOf(fact: Known | undefined): Standing {
  if (isGood(fact ?? null)) return 'good'
  return fact === 'stale' ? 'doubted' : 'lost'
}
