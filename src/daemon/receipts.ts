/**
 * Receipts that the catalog does not have, asked of the hosts again: of what a recovery found, or a host's new store holds. It goes on
 * beside everything else, one batch a host at a time, and until it is done those shards are only `placed`.
 */
import { hasCode, isOfHost } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import { RECEIPTS_AT_ONCE } from '../base/limits.js'
import { forEachAtOnce } from '../base/queue.js'
import type { Unreceipted } from '../catalog/receipts.js'
import { listDiffering } from './listing.js'
import { Rounds } from './rounds.js'

const ROUND_MS = 2_000
const HOSTS_AT_ONCE = 8
const START = { stripe: -1, index: 0 }

export class ReceiptsAsked extends Rounds {
  /** What each host that signed something else gave, so that it is said once. */
  readonly #said = new Map<Hex, string>()

  start(): void {
    this.begin('receipts', ROUND_MS)
  }

  /** All that hosts that are here have to sign. */
  async round(signal: AbortSignal): Promise<void> {
    const { catalog } = this.parts
    if (catalog.upkeep.guard.trouble) return
    await listDiffering(catalog, this.peers, signal)
    const waiting = new Set(catalog.signed.waiting())
    const here = catalog.members.rows().filter(({ host, state }) => waiting.has(host) && state === 'here')
    await forEachAtOnce(here, HOSTS_AT_ONCE, ({ host }) => this.#host(host, signal))
  }

  async #host(host: Hex, signal: AbortSignal): Promise<void> {
    const { signed: receipts } = this.parts.catalog
    try {
      let after: Pick<Unreceipted, 'stripe' | 'index'> = START
      while (!signal.aborted) {
        const batch = receipts.missing(host, after, RECEIPTS_AT_ONCE)
        if (batch.length === 0) return
        await this.#take(host, batch, signal)
        after = batch.at(-1) as Unreceipted
      }
    } catch (error) {
      // It is asked again with the next round.
      if (signal.aborted || (isOfHost(error) && error.code === 'HOST_UNREACHABLE')) return
      if (!isOfHost(error) && !hasCode(error, 'COORDINATOR_READ_ONLY', 'STATE_DAMAGED')) throw error
      this.#say(host, error.message)
    }
  }

  async #take(host: Hex, batch: readonly Unreceipted[], signal: AbortSignal): Promise<void> {
    const { catalog } = this.parts
    const shards = batch.map(({ shard }) => shard)
    const answers = await this.peers.get(host).fetchReceipts(shards, { signal })
    const signed = batch.flatMap((one, at) => {
      const receipt = answers[at]
      return Buffer.isBuffer(receipt) ? [{ ...one, receipt }] : []
    })
    const flaws = catalog.signed.keep(host, signed)
    const found = batch.flatMap((one, at) => {
      const fact = answers[at]
      return fact === 'missing' || fact === 'corrupt'
        ? [{ stripe: catalog.signed.here(one), shard: one.shard, fact }]
        : []
    })
    if (found.length > 0) await catalog.learn(found, [])
    if (flaws[0] !== undefined) this.#say(host, flaws[0])
  }

  #say(host: Hex, why: string): void {
    if (this.#said.get(host) === why) return
    this.#said.set(host, why)
    const { catalog } = this.parts
    const what = `${catalog.members.name(host)} does not sign what it holds: ${why}`
    this.parts.report('receipts', new Error(what))
    catalog.registry.record('alarm', host, what)
  }
}
