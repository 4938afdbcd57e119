/**
 * A peer as witness of its coordinator: it signs the next checkpoint of the chain and none beside it, so that a coordinator
 * that was set back is told. What it signed, which heads that names, and what the coordinator wants kept of each is on its disk
 * before it answers: `witness/log` in its store (`witness-log.ts`).
 */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Clock } from '../base/clock.js'
import { ImagerError, reason } from '../base/errors.js'
import { type Hex, toHex } from '../base/ids.js'
import { OFFERS_PER_MINUTE } from '../base/limits.js'
import {
  type Checkpoint,
  type Cosigned,
  decodeCosigned,
  encodeCosigned,
  hasQuorum,
  openCheckpoint,
  openCosignature,
  signCosignature,
  witnessesOf,
} from '../keys/checkpoint.js'
import { decodeHeadIds, encodeHeadId, HEAD_ID_BYTES, type HeadId, HeadSet } from '../keys/head-set.js'
import { forgottenBy } from '../keys/orders.js'
import type { SecretHandle } from '../native.js'
import type { Trust } from './documents.js'
import { syncFolder } from './files.js'
import { type Heads, judge, judgeHeads, NO_HEADS, type Reason } from './judge.js'
import type { Offer } from './offer.js'
import { holdsAny, type Orders, soundOrders } from './orders.js'
import { WitnessLog } from './witness-log.js'

export interface WitnessParts {
  /** Of the peer's store. */
  readonly folder: string
  readonly trust: Trust
  readonly secret: SecretHandle
  readonly clock: Clock
  /** What admins ordered. */
  readonly store: Orders
}

interface Signed {
  readonly checkpoint: Checkpoint
  readonly cosignature: Buffer
  /** Undefined where they are not on its disk as it signed them. */
  readonly heads: Heads | undefined
}

export type Answer =
  | { readonly cosignature: Buffer }
  | { readonly refused: Reason; readonly held: Cosigned | undefined }

const MINUTE_MS = 60_000
const NOTHING = Buffer.alloc(0)

export class Witness {
  readonly #parts: WitnessParts
  readonly #log: WitnessLog
  #last: Signed | undefined
  #turn: Promise<unknown> = Promise.resolve()
  #minute = { began: 0, offers: 0 }

  private constructor(parts: WitnessParts, log: WitnessLog) {
    this.#parts = parts
    this.#log = log
    this.#last = readLast(log, parts)
  }

  static async open(parts: WitnessParts): Promise<Witness> {
    const folder = join(parts.folder, 'witness')
    await mkdir(folder, { recursive: true, mode: 0o700 })
    const log = await WitnessLog.open(join(folder, 'log'))
    for (const path of [folder, parts.folder]) await syncFolder(path)
    return new Witness(parts, log)
  }

  /** What it signed last; undefined: nothing. */
  get held(): Cosigned | undefined {
    const last = this.#last
    return last && { checkpoint: last.checkpoint.bytes, cosignatures: [last.cosignature] }
  }

  /** The ids of its heads, back to back; none where it has lost them. */
  heads(): Buffer {
    return this.#last?.heads?.live.bytes() ?? Buffer.alloc(0)
  }

  /** Of those, the snapshots of one appliance, 16 bytes each. */
  headsOf(appliance: Hex): Buffer {
    const signer = Buffer.from(appliance, 'hex')
    const all = this.heads()
    const own: Buffer[] = []
    for (let at = 0; at < all.length; at += HEAD_ID_BYTES) {
      const snapshot = at + signer.length
      if (all.subarray(at, snapshot).equals(signer)) own.push(all.subarray(snapshot, at + HEAD_ID_BYTES))
    }
    return Buffer.concat(own)
  }

  async entry(id: HeadId): Promise<Buffer | undefined> {
    return this.#log.entry(encodeHeadId(id))
  }

  /** One after the other. Throws FORGED, CORRUPT, UNSUPPORTED where it is not even a chain; HOST_REFUSED where too many come. */
  async offer(offer: Offer): Promise<Answer> {
    this.#count()
    const mine = this.#turn.then(() => this.#offer(offer))
    this.#turn = mine.catch(() => {})
    return mine
  }

  async #offer(offer: Offer): Promise<Answer> {
    const { trust, secret, clock } = this.#parts
    const refuse = (refused: Reason): Answer => ({ refused, held: this.held })
    const last = this.#last
    const chain = offer.links.map((bytes) => openCheckpoint(bytes, trust.fleet, trust.rootKey))
    const offered = chain.at(-1) as Checkpoint
    const verdict = judge(last?.checkpoint, chain, this.#proved(offer, chain), trust.membership())
    if (verdict === 'again' && last) return { cosignature: last.cosignature }
    if (verdict !== 'sign') return refuse(verdict as Reason)
    const forgotten = forgottenBy(soundOrders('forget', offer.forgets, trust))
    const { base, added, removed } = offer
    const own = last ? last.heads : NO_HEADS
    const next = judgeHeads(own, { base, added, removed, forgotten }, offered)
    if (typeof next === 'string') return refuse(next)
    const leaving = own?.live.without(next.live) ?? NOTHING
    if (await holdsAny(this.#parts.store, trust, decodeHeadIds(leaving))) return refuse('held')
    const cosignature = signCosignature(offered, clock.now(), secret)
    const sealed = new Map(offer.entries.map((entry) => [entry.snapshot, entry.sealed]))
    const { live, gone } = own ?? NO_HEADS
    const coming = decodeHeadIds(next.live.without(live))
    const heads = coming.map((id) => ({ id: encodeHeadId(id), sealed: sealed.get(id.snapshot) ?? NOTHING }))
    const signed = encodeCosigned({ checkpoint: offered.bytes, cosignatures: [cosignature] })
    try {
      // Heads that rotted would be counted again at the next start.
      await this.#log.append({ heads, gone: next.gone.without(gone), signed, anew: !own })
    } catch (cause) {
      throw new ImagerError('IO', { what: `The witness cannot write: ${reason(cause)}` }, { cause })
    }
    this.#last = { checkpoint: offered, cosignature, heads: next }
    return { cosignature }
  }

  #proved({ proof }: Offer, chain: readonly Checkpoint[]): number | undefined {
    const link = proof && chain[proof.link]
    if (!link) return undefined
    const witnesses = witnessesOf(this.#parts.trust.membership()).map(({ host }) => host)
    return witnesses.length > 0 && hasQuorum(link, proof.cosignatures, witnesses) ? proof.link : undefined
  }

  #count(): void {
    const now = this.#parts.clock.now()
    // A clock that was set back begins a new minute.
    if (Math.abs(now - this.#minute.began) >= MINUTE_MS) this.#minute = { began: now, offers: 0 }
    if (++this.#minute.offers <= OFFERS_PER_MINUTE) return
    throw new ImagerError('HOST_REFUSED', { host: 'The witness', why: 'too many checkpoints within a minute' })
  }
}

/** What rotted, or is another fleet's, was never signed for all that is known here: a majority of others knows. */
function readLast(log: WitnessLog, { trust, secret }: WitnessParts): Signed | undefined {
  if (!log.signed) return undefined
  try {
    const { checkpoint: text, cosignatures } = decodeCosigned(log.signed)
    const checkpoint = openCheckpoint(text, trust.fleet, trust.rootKey)
    const [cosignature] = cosignatures
    if (!cosignature || openCosignature(cosignature, checkpoint) !== toHex(secret.signingKey())) return undefined
    const heads = { live: HeadSet.empty.with(log.ids()), gone: HeadSet.empty.with(log.gone()) }
    const isWhole = heads.live.root === checkpoint.heads.root && heads.gone.root === checkpoint.removals.root
    return { checkpoint, cosignature, heads: isWhole ? heads : undefined }
  } catch (error) {
    if (error instanceof ImagerError) return undefined
    throw error
  }
}
