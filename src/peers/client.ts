/** A peer as the rest of the program sees it. What it answers is believed no further than its form. */
import * as v from 'valibot'
import { ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import {
  BITMAP_BYTES,
  INVENTORY_ROWS,
  MESSAGE_BYTES,
  REPAIR_TIMEOUT_MS,
  SHARD_FILE_BYTES,
  TRANSFER_TIMEOUT_MS,
} from '../base/limits.js'
import { Count, Id } from '../keys/fields.js'
import { STATEMENT_BYTES } from '../keys/statement.js'
import type { BodyHandle } from '../native.js'
import { RECEIPT_BYTES } from '../stripes/receipt.js'
import type { CallOptions } from '../wire/bounded.js'
import type { Requester } from '../wire/client.js'
import { decodeMessage, encodeMessage } from '../wire/message.js'
import type { ShardFile, ShardRange, ShardTransport } from '../wire/shard-transport.js'
import { HttpsTransport } from './https-transport.js'
import { decodeProofs, encodeProve, PROVE_ANSWER_BYTES, type Proof, type ProveRange } from './prove.js'
import { Receipts } from './receipts.js'
import { encodeRepair, type RepairQuestion } from './repair.js'
import type { DocumentKind, Held, Space, StatementKind } from './store.js'

export interface Document {
  readonly name: string
  readonly bytes: Buffer
}

const Inventory = v.object({
  shards: v.pipe(v.array(v.object({ shard: Id, bytes: Count })), v.maxLength(INVENTORY_ROWS)),
  next: v.nullable(Id),
})
const DocumentName = v.pipe(v.string(), v.regex(/^(?:[0-9a-f]{32}){1,4}$/))
const Documents = v.object({
  documents: v.array(v.object({ name: DocumentName, bytes: v.pipe(Count, v.maxValue(STATEMENT_BYTES)) })),
  next: v.nullable(DocumentName),
})
const State = v.object({
  freeBytes: Count,
  usedBytes: Count,
  capacityBytes: Count,
  storage: v.pipe(v.string(), v.maxLength(64), v.regex(/^[0-9a-f]*$/)),
})

export class PeerClient {
  constructor(
    readonly host: Hex,
    readonly name: string,
    /** For everything but shards. */
    readonly connection: Requester,
    readonly shards: ShardTransport = new HttpsTransport(name, connection),
  ) {}

  /** What the host says of it, once the shard is durable there: see `openReceipt`. `grant` in base64, as the coordinator gave it. */
  sendShard(shard: Hex, file: ShardFile, grant: string, options?: CallOptions): Promise<Buffer> {
    return this.shards.put(shard, file, grant, options)
  }

  /** Exactly the bytes of the range, end exclusive; without one the whole file. Not verified. */
  fetchBody(shard: Hex, range?: ShardRange, options?: CallOptions): Promise<BodyHandle> {
    return this.shards.fetch(shard, range, options)
  }

  /** It reads each shard again, whole: what it signed of it, see `openReceipt`, or what is wrong with it. */
  async fetchReceipts(shards: readonly Hex[], options: CallOptions = {}): Promise<(Buffer | 'missing' | 'corrupt')[]> {
    const asked = { ...transfer(options), body: encodeMessage({ shards }), maxBytes: MESSAGE_BYTES }
    const { body } = await this.connection.request('POST', '/v1/receipts', asked)
    const { receipts } = decodeMessage(Receipts, body).body
    if (receipts.length !== shards.length) throw this.#lied(`${receipts.length} receipts of ${shards.length} shards`)
    return receipts.map((one) => (one === 'missing' || one === 'corrupt' ? one : Buffer.from(one, 'base64')))
  }

  /** The whole file of a shard, for this host to make another one of its stripe. `leave` in base64: see openRepair. Not verified. */
  async fetchForRepair(shard: Hex, leave: string, options: CallOptions = {}): Promise<Buffer> {
    const { body } = await this.connection.request('GET', `/v1/shards/${shard}`, {
      ...transfer(options),
      headers: { 'imager-repair': leave },
      maxBytes: SHARD_FILE_BYTES,
    })
    return body
  }

  /** Has it make a shard out of others, and keep it. What it says of it, see `openReceipt`. */
  async repair(question: RepairQuestion, options: CallOptions = {}): Promise<Buffer> {
    const asked = { timeoutMs: REPAIR_TIMEOUT_MS, idleMs: REPAIR_TIMEOUT_MS, ...options }
    const body = encodeRepair(question)
    return (await this.connection.request('POST', '/v1/repairs', { ...asked, body, maxBytes: RECEIPT_BYTES })).body
  }

  /**
   * Of each range of a shard's file the digest keyed by `nonce` (32 bytes, drawn for this), in their order. The shards of neighbours
   * are opened once. At most PROVE_RANGES of PROVE_BYTES together.
   */
  async prove(nonce: Uint8Array, ranges: readonly ProveRange[], options: CallOptions = {}): Promise<Proof[]> {
    const asked = { ...transfer(options), body: encodeProve(nonce, ranges), maxBytes: PROVE_ANSWER_BYTES }
    const { body } = await this.connection.request('POST', '/v1/prove', asked)
    const proofs = decodeProofs(body, ranges.length)
    if (!proofs) throw this.#lied('proofs that answer another question')
    return proofs
  }

  /** One page of what it holds, in order of ids. */
  async fetchInventory(
    after = '',
    limit = INVENTORY_ROWS,
    options: CallOptions = {},
  ): Promise<{ shards: Held[]; next: Hex | null }> {
    const path = `/v1/shards?after=${after}&limit=${limit}`
    const page = (await this.#message(Inventory, path, options)).body
    const inOrder = page.shards.every(({ shard }, index) => shard > (page.shards[index - 1]?.shard ?? after))
    // A page that does not go on would be asked for without end.
    if (!inOrder || (page.next !== null && page.next !== page.shards.at(-1)?.shard))
      throw this.#lied('an inventory out of order')
    return page
  }

  async sendDocument(kind: DocumentKind, name: string, bytes: Uint8Array, options: CallOptions = {}): Promise<void> {
    const path = `/v1/documents/${kind}/${name}`
    await this.connection.request('PUT', path, { ...transfer(options), body: bytes, maxBytes: 0 })
  }

  /** Those of many hosts: see `encodeAddresses`. */
  async sendAddresses(message: Uint8Array, options: CallOptions = {}): Promise<void> {
    await this.connection.request('PUT', '/v1/addresses', { ...transfer(options), body: message, maxBytes: 0 })
  }

  async fetchDocument(kind: DocumentKind, name: string, options: CallOptions = {}): Promise<Buffer | undefined> {
    const path = `/v1/documents/${kind}/${name}`
    const maxBytes = kind === 'bitmap' ? BITMAP_BYTES : STATEMENT_BYTES
    const reply = await this.connection.request('GET', path, { ...transfer(options), maxBytes })
    return reply.status === 204 ? undefined : reply.body
  }

  /** All documents of a kind, page by page. Their signatures are for the caller to check. */
  async *fetchDocuments(kind: StatementKind, options: CallOptions = {}): AsyncGenerator<Document> {
    let after: string | null = ''
    while (after !== null) {
      const path: string = `/v1/documents/${kind}?after=${after}`
      const { body, attachment } = await this.#message(Documents, path, options)
      let offset = 0
      for (const { name, bytes } of body.documents) {
        if (name <= after || offset + bytes > attachment.length)
          throw this.#lied(`a list of ${kind}s that does not fit`)
        yield { name, bytes: attachment.subarray(offset, offset + bytes) }
        after = name
        offset += bytes
      }
      if (body.next !== null && (body.next !== after || body.documents.length === 0)) {
        throw this.#lied(`a list of ${kind}s out of order`)
      }
      if (body.next === null) after = null
    }
  }

  async fetchState(options: CallOptions = {}): Promise<Space> {
    const { body } = await this.connection.request('GET', '/v1/state', { ...options, maxBytes: 4096 })
    return decodeMessage(State, body).body
  }

  async #message<S extends v.GenericSchema>(schema: S, path: string, options: CallOptions) {
    const { body } = await this.connection.request('GET', path, { ...transfer(options), maxBytes: MESSAGE_BYTES })
    return decodeMessage(schema, body)
  }

  #lied(what: string): ImagerError {
    return new ImagerError('HOST_LIED', { host: this.name, what })
  }
}

function transfer(options: CallOptions): CallOptions {
  return { timeoutMs: TRANSFER_TIMEOUT_MS, ...options }
}
