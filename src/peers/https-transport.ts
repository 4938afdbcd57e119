/** Shards as bodies of requests: what works wherever TLS does. Every byte passes through JavaScript's memory. */
import { ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import { FETCH_IDLE_MS, SHARD_FILE_BYTES, TRANSFER_TIMEOUT_MS } from '../base/limits.js'
import { Body, type BodyHandle } from '../native.js'
import { RECEIPT_BYTES } from '../stripes/receipt.js'
import type { CallOptions } from '../wire/bounded.js'
import type { Requester } from '../wire/client.js'
import type { ShardFile, ShardRange, ShardTransport } from '../wire/shard-transport.js'

export class HttpsTransport implements ShardTransport {
  readonly #name: string
  readonly #connection: Requester

  /** `name`: what people call the host. */
  constructor(name: string, connection: Requester) {
    this.#name = name
    this.#connection = connection
  }

  async put(shard: Hex, file: ShardFile, grant: string, options?: CallOptions): Promise<Buffer> {
    const { body } = await this.#connection.request('PUT', `/v1/shards/${shard}`, {
      timeoutMs: TRANSFER_TIMEOUT_MS,
      ...options,
      headers: { 'imager-grant': grant },
      body: file instanceof Uint8Array ? file : file.bytes(),
      maxBytes: RECEIPT_BYTES,
    })
    return body
  }

  async fetch(shard: Hex, range: ShardRange | undefined, options?: CallOptions): Promise<BodyHandle> {
    const maxBytes = range ? range[1] - range[0] : SHARD_FILE_BYTES
    const bounds = { timeoutMs: TRANSFER_TIMEOUT_MS, idleMs: FETCH_IDLE_MS, maxBytes }
    const asked = { ...bounds, ...options, ...(range && { range }) }
    const { body } = await this.#connection.request('GET', `/v1/shards/${shard}`, asked)
    if (!range || body.length === maxBytes) return new Body(body)
    const what = `${body.length} bytes of shard ${shard} where ${maxBytes} were asked for`
    throw new ImagerError('HOST_LIED', { host: this.#name, what })
  }
}
