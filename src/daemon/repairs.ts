/**
 * What is missing of stripes is made anew where a host is fit to hold it: when hosts are back that were away during a run, when one
 * was removed, when a part was found lost or damaged. Peers do it among themselves; the coordinator says which, reads one header, and
 * keeps the receipt. A host that is only away has lost nothing: for it nothing is made.
 */
import { hasCode, ImagerError, isOfHost } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import type { WeakStripe } from '../catalog/repairs.js'
import type { HostRow } from '../catalog/types.js'
import { signRepair } from '../keys/repair.js'
import { inspectShardHeader, type StripeFacts } from '../native.js'
import { numberOf, partsOfRunName, shardOf } from '../stripes/names.js'
import { type PlannedRepair, planRepair } from '../stripes/repair.js'
import { Rounds } from './rounds.js'

const ROUND_MS = 5_000
const STRIPES_AT_ONCE = 64
const HEADER_BYTES = 4096
/** One that could not be made whole is left alone for so long; where only a host was not reached, as just after it came back, for less. */
const AGAIN_MS = 10 * 60_000
const UNREACHED_MS = 10_000

export class RepairsMade extends Rounds {
  /** Stripes that failed, and until when they are left alone. */
  readonly #failed = new Map<number, number>()
  /** Those for which nobody was fit, and who was there then. */
  #hopeless = { hosts: '', stripes: new Set<number>() }
  #said = ''

  start(): void {
    this.begin('repairs', ROUND_MS)
  }

  /** All that can be made whole with the hosts that are here. */
  async round(signal: AbortSignal): Promise<void> {
    const { catalog, clock } = this.parts
    for (const [stripe, until] of this.#failed) if (clock.now() >= until) this.#failed.delete(stripe)
    while (!signal.aborted && !catalog.upkeep.guard.trouble) {
      const passedOver = new Set([...this.#failed.keys(), ...this.#hopelessWith(catalog.members.rows())])
      const batch = catalog.repairs.weak(passedOver, STRIPES_AT_ONCE)
      if (batch.length === 0) return
      for (const weak of batch) {
        const plan = planRepair(weak, catalog.members.rows())
        if (!plan) this.#hopeless.stripes.add(weak.stripe)
        else if (!signal.aborted) await this.#try(weak, plan, signal)
      }
    }
  }

  #hopelessWith(rows: readonly HostRow[]): ReadonlySet<number> {
    const hosts = JSON.stringify(
      rows.map(({ host, domain, storage, away, suspect }) => [host, domain, storage, away, suspect]),
    )
    if (hosts !== this.#hopeless.hosts) this.#hopeless = { hosts, stripes: new Set() }
    return this.#hopeless.stripes
  }

  async #try(weak: WeakStripe, plan: PlannedRepair, signal: AbortSignal): Promise<void> {
    const { catalog, clock } = this.parts
    try {
      await this.#repair(weak, plan, signal)
    } catch (error) {
      if (signal.aborted) return
      if (!isOfHost(error) && !hasCode(error, 'COORDINATOR_READ_ONLY', 'STATE_DAMAGED')) throw error
      const isUnreached = hasCode(error, 'HOST_UNREACHABLE')
      this.#failed.set(weak.stripe, clock.now() + (isUnreached ? UNREACHED_MS : AGAIN_MS))
      const what = `A lost part was not made anew on ${catalog.members.name(plan.host)}: ${error.message}`
      if (what === this.#said) return
      this.#said = what
      this.parts.report('repairs', new Error(what))
      if (!isUnreached) catalog.registry.record('alarm', plan.host, what)
    }
  }

  async #repair(weak: WeakStripe, { index, host, sources }: PlannedRepair, signal: AbortSignal): Promise<void> {
    const { home, catalog } = this.parts
    const { identity, roots } = await this.#stripe(weak, sources, signal)
    const root = roots[index]
    if (root === undefined)
      throw new ImagerError('CORRUPT', { what: 'A stripe is of another width than was committed' })
    const { fleet, term } = home.membership()
    const named = { ...partsOfRunName(weak.run), number: numberOf(weak.stripe), index, lengthBytes: weak.fileBytes }
    const leave = signRepair({ fleet, term, ...named, host }, home.secret).toString('base64')
    const receipt = await this.peers.get(host).repair({ leave, k: weak.k, sources: [...sources] }, { signal })
    catalog.write(() => catalog.repairs.keep(weak, { index, host, root, receipt, identity }))
  }

  /** As its writer signed it, from the header of one of its shards. It is the one that was committed: their roots are the same. */
  async #stripe({ run, stripe, shards }: WeakStripe, sources: PlannedRepair['sources'], signal: AbortSignal) {
    let failure: unknown
    for (const { host, index } of sources) {
      try {
        return await this.#header(host, shardOf(run, stripe, index), shards, signal)
      } catch (error) {
        if (signal.aborted || !isOfHost(error)) throw error
        failure = error
      }
    }
    throw failure
  }

  async #header(host: Hex, shard: Hex, known: WeakStripe['shards'], signal: AbortSignal): Promise<StripeFacts> {
    const peer = this.peers.get(host)
    const header = await peer.fetchBody(shard, [0, HEADER_BYTES], { signal })
    const facts = inspectShardHeader(header.take())
    const isOurs = facts.shard === shard && facts.stripe.fleet === this.parts.home.fleet
    if (isOurs && known.every(({ index, root }) => root === '' || facts.stripe.roots[index] === root))
      return facts.stripe
    throw new ImagerError('HOST_LIED', { host: peer.name, what: `a header of another stripe as shard ${shard}` })
  }
}
