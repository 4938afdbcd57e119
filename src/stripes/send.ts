/**
 * Sends one pack to the peers as a stripe: grants from the catalog, shards straight to the hosts, and the
 * commit that makes its records known. A host that fails gives its place to a spare; without one, the shard stays missing.
 */
import { hasCode, ImagerError, reason } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import type { Pack, SecretHandle, Stripe, StripeShard, VaultHandle } from '../native.js'
import { shardFileBytes } from '../native.js'
import { numberOf, type RunsHandle, runOf, shardOf } from './names.js'
import { type Group, hostsOfStripe } from './place.js'
import { isReceiptOf, openReceipt, type Receipt } from './receipt.js'

interface Shard {
  readonly index: number
  readonly host: Hex
}

interface Wanted {
  readonly index: number
  readonly host: Hex | undefined
}

/** What of the catalog a sender needs; `catalog/types.ts` has it. */
export interface StripeCatalog {
  readonly names: RunsHandle
  place(
    lease: Hex,
    request: { k: number; m: number; packBytes: number; lengthBytes: number; shards: Shard[]; stripe: number },
  ): Promise<string[]>
  commit(
    lease: Hex,
    request: {
      k: number
      m: number
      packBytes: number
      stripe: number
      records: Uint8Array
      shards: (Shard & { root: Hex; receipt: string })[]
    },
  ): Promise<void>
}

export type SendShard = (
  host: Hex,
  shard: Hex,
  file: StripeShard,
  grant: string,
  signal: AbortSignal,
) => Promise<Uint8Array>

/** Its host holds it durably, and signed that. */
interface Kept extends Shard {
  readonly receipt: Buffer
  /** In which of its stores. */
  readonly store: Hex
}

export interface SentStripe {
  readonly stripe: number
  readonly packBytes: number
  readonly k: number
  readonly shards: readonly (Shard & { readonly store: Hex })[]
  readonly bytesByHost: ReadonlyMap<Hex, number>
}

export interface Failure {
  readonly host: Hex
  readonly error: unknown
}

export class StripeSender {
  /** Hosts that failed in this run are not asked again. */
  readonly failures = new Map<Hex, unknown>()

  constructor(
    readonly catalog: StripeCatalog,
    readonly lease: Hex,
    readonly group: Group,
    readonly vault: VaultHandle,
    /** Its secret signs each stripe. */
    readonly writer: { readonly fleet: Hex; readonly secret: SecretHandle },
    readonly send: SendShard,
  ) {}

  /** Throws NOT_PLACED where losing one more host would lose the pack. */
  async sendPack(pack: Pack, signal: AbortSignal): Promise<SentStripe> {
    const { k, m } = this.group
    const wanted = hostsOfStripe(this.group, numberOf(pack.stripe)).map((host, index) => ({ index, host }))
    const stripe = await pack.encode(this.vault, this.writer.secret, k, m)
    try {
      const shards = await this.#placeAll(pack, wanted, stripe, signal)
      const rooted = shards.map(({ receipt, store: _store, ...shard }) => {
        return { ...shard, root: stripe.root(shard.index), receipt: receipt.toString('base64') }
      })
      const packBytes = pack.lengthBytes
      const commit = { stripe: pack.stripe, k, m, packBytes, records: pack.records(), shards: rooted }
      await this.catalog.commit(this.lease, commit)
      const bytesByHost = new Map<Hex, number>()
      const length = shardFileBytes(packBytes, k)
      for (const { host } of shards) bytesByHost.set(host, (bytesByHost.get(host) ?? 0) + length)
      return { stripe: pack.stripe, packBytes, k, shards, bytesByHost }
    } finally {
      stripe.release()
    }
  }

  /** In order of their index. */
  async #placeAll(pack: Pack, wanted: readonly Wanted[], stripe: Stripe, signal: AbortSignal) {
    const { k, m } = this.group
    const held = await this.#place(pack, wanted, stripe, signal)
    const failed = wanted.filter((shard) => !held.some((one) => one.index === shard.index))
    const replaced = await this.#place(pack, this.#withSpares(failed, held), stripe, signal)
    const shards = [...held, ...replaced].sort((a, b) => a.index - b.index)
    const distinct = new Set(shards.map((shard) => shard.host)).size
    if (shards.length < k + 1 || distinct < 2) {
      const cause = [...this.failures.values()].at(-1)
      throw new ImagerError(
        'NOT_PLACED',
        { placed: shards.length, total: k + m, needed: k + 1, why: reason(cause) },
        { cause },
      )
    }
    return shards
  }

  /** The shards that their hosts hold durably now. */
  async #place(pack: Pack, wanted: readonly Wanted[], stripe: Stripe, signal: AbortSignal): Promise<Kept[]> {
    const { k, m } = this.group
    const lengthBytes = shardFileBytes(pack.lengthBytes, k)
    const shards = wanted.flatMap(({ host, index }) =>
      host === undefined || this.failures.has(host) ? [] : [{ index, host }],
    )
    const name = this.catalog.names.name(runOf(pack.stripe)) as Buffer
    const placement = { k, m, packBytes: pack.lengthBytes, lengthBytes, stripe: pack.stripe }
    const granted = await this.#grants(placement, shards)
    const sent = await Promise.all(
      granted.map(async ({ shard, grant }) => {
        try {
          const id = shardOf(name, pack.stripe, shard.index)
          const receipt = await this.send(shard.host, id, stripe.shard(shard.index), grant, signal)
          const { store } = this.#requireReceipt(receipt, { ...shard, shard: id, lengthBytes }, stripe)
          return [{ ...shard, receipt: Buffer.from(receipt), store }]
        } catch (error) {
          signal.throwIfAborted()
          if (hasCode(error, 'EXHAUSTED')) throw error
          this.failures.set(shard.host, error)
          return []
        }
      }),
    )
    return sent.flat()
  }

  /** Its host says that it holds exactly this, durably. Throws HOST_LIED. */
  #requireReceipt(
    receipt: Uint8Array,
    { host, shard, index, lengthBytes }: Shard & { shard: Hex; lengthBytes: number },
    stripe: Stripe,
  ): Receipt {
    try {
      const said = openReceipt(receipt, { fleet: this.writer.fleet, shard, root: stripe.root(index), host })
      if (isReceiptOf(said, { stripe: stripe.identity(), index, lengthBytes })) return said
    } catch (cause) {
      throw new ImagerError('HOST_LIED', { host: host.slice(0, 8), what: reason(cause) }, { cause })
    }
    throw new ImagerError('HOST_LIED', { host: host.slice(0, 8), what: `a receipt of another shard than ${shard}` })
  }

  /** The coordinator checks each host; one that it finds unfit by now counts as failed, and the others are asked for again. */
  async #grants(
    placement: { k: number; m: number; packBytes: number; lengthBytes: number; stripe: number },
    shards: Shard[],
  ): Promise<{ shard: Shard; grant: string }[]> {
    if (shards.length === 0) return []
    try {
      const grants = await this.catalog.place(this.lease, { ...placement, shards })
      return shards.map((shard, index) => ({ shard, grant: grants[index] as string }))
    } catch (error) {
      if (!hasCode(error, 'HOST_UNFIT')) throw error
      const unfit = shards.filter((shard) => shard.host === error.details.key)
      if (unfit.length === 0) throw error
      this.failures.set((unfit[0] as Shard).host, error)
      return this.#grants(
        placement,
        shards.filter((shard) => !unfit.includes(shard)),
      )
    }
  }

  #withSpares(failed: readonly { index: number }[], held: readonly Shard[]) {
    const taken = new Set(held.map((shard) => shard.host))
    const free = this.group.spares.filter((host) => !taken.has(host) && !this.failures.has(host))
    return failed.map(({ index }, at) => ({ index, host: free[at] }))
  }
}
