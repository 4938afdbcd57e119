/** A witness as its coordinator sees it. What it answers proves itself, or is not believed. */
import { ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import { ENTRY_BYTES, HEADS } from '../base/limits.js'
import { type Cosigned, decodeCosigned } from '../keys/checkpoint.js'
import { HEAD_ID_BYTES, type HeadId } from '../keys/head-set.js'
import { STATEMENT_BYTES } from '../keys/statement.js'
import type { CallOptions } from '../wire/bounded.js'
import type { Requester } from '../wire/client.js'
import type { Reason } from './judge.js'
import { decodeVerdict, encodeOffer, type Offer } from './offer.js'

export type WitnessAnswer = { cosignature: Buffer } | { refused: Reason; held: Cosigned | undefined }

const CONFLICT = 409
const SNAPSHOT_BYTES = 16

export class WitnessClient {
  constructor(
    readonly host: Hex,
    readonly name: string,
    readonly fleet: Hex,
    readonly connection: Requester,
  ) {}

  async offer(offer: Offer, options: CallOptions): Promise<WitnessAnswer> {
    const body = encodeOffer(offer)
    const given = { ...options, body, maxBytes: 2 * STATEMENT_BYTES, accept: [CONFLICT] }
    const reply = await this.connection.request('PUT', this.#path(''), given)
    const { refused, bytes } = decodeVerdict(reply.body)
    if (refused === null) return { cosignature: bytes }
    return { refused, held: bytes.length === 0 ? undefined : decodeCosigned(bytes) }
  }

  /** What it signed last. */
  async fetchHeld(options: CallOptions): Promise<Cosigned | undefined> {
    const reply = await this.#get('', 2 * STATEMENT_BYTES, options)
    return reply && decodeCosigned(reply)
  }

  /** The ids of the heads of that, back to back. */
  async fetchHeads(options: CallOptions): Promise<Buffer> {
    const reply = await this.#get('/heads', HEADS * HEAD_ID_BYTES, options)
    if (!reply || reply.length % HEAD_ID_BYTES !== 0) {
      throw new ImagerError('HOST_LIED', { host: this.name, what: 'heads that are none' })
    }
    return reply
  }

  /** The snapshots of one appliance among them. */
  async fetchHeadsOf(appliance: Hex, options: CallOptions): Promise<Set<Hex>> {
    const reply = (await this.#get(`/heads/${appliance}`, HEADS * SNAPSHOT_BYTES, options)) ?? Buffer.alloc(1)
    const count = reply.length / SNAPSHOT_BYTES
    if (!Number.isInteger(count)) throw new ImagerError('HOST_LIED', { host: this.name, what: 'heads that are none' })
    const idAt = (at: number) => reply.toString('hex', at * SNAPSHOT_BYTES, (at + 1) * SNAPSHOT_BYTES)
    return new Set(Array.from({ length: count }, (_, at) => idAt(at)))
  }

  async fetchEntry({ appliance, snapshot }: HeadId, options: CallOptions): Promise<Buffer | undefined> {
    return this.#get(`/entries/${appliance}/${snapshot}`, ENTRY_BYTES, options)
  }

  async #get(path: string, maxBytes: number, options: CallOptions): Promise<Buffer | undefined> {
    const reply = await this.connection.request('GET', this.#path(path), { ...options, maxBytes })
    return reply.status === 204 ? undefined : reply.body
  }

  #path(rest: string): string {
    return `/v1/checkpoints/${this.fleet}${rest}`
  }
}
