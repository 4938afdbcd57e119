/**
 * One host's way to another for the bodies of shards: data connections, which the addon carries (docs/protocol.md). Pinned,
 * bounded and named in errors like every `Connection`.
 */
import { ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import {
  CONNECT_TIMEOUT_MS,
  DATA_AFTER_MS,
  FETCH_IDLE_MS,
  FREE_SOCKET_MS,
  IDLE_TIMEOUT_MS,
  SOCKETS_PER_HOST,
  TRANSFER_TIMEOUT_MS,
} from '../base/limits.js'
import {
  type BodyHandle,
  type DataClientHandle,
  type DataEndpoint,
  type DataOutcome,
  DataStop,
  type DataStopHandle,
} from '../native.js'
import { parseAddress } from './address.js'
import { bounded, type CallOptions } from './bounded.js'
import { decodeRefusal } from './refusal.js'
import { NotCarried, type ShardFile, type ShardRange } from './shard-transport.js'

export interface DataLinkOptions {
  readonly client: DataClientHandle
  /** Tried in turn, the last one that worked first. */
  readonly addresses: readonly string[]
  /** Whose key must answer. */
  readonly host: Hex
  /** What people call it. */
  readonly name: string
  readonly idleTimeoutMs?: number
}

type Exchange = (endpoint: DataEndpoint, stop: DataStopHandle) => Promise<DataOutcome>

/** How a host is reached. */
export function dataEndpoint({
  addresses,
  host,
  idleTimeoutMs = IDLE_TIMEOUT_MS,
}: Omit<DataLinkOptions, 'client' | 'name'>): DataEndpoint {
  const parsed = addresses.map(parseAddress)
  return {
    host: Buffer.from(host, 'hex'),
    names: parsed.map((address) => address.host),
    ports: parsed.map((address) => address.port),
    connectMs: CONNECT_TIMEOUT_MS,
    idleMs: idleTimeoutMs,
    timeoutMs: TRANSFER_TIMEOUT_MS,
    keepMs: FREE_SOCKET_MS,
    atOnce: SOCKETS_PER_HOST,
  }
}

export class DataLink {
  readonly #options: DataLinkOptions
  readonly #endpoint: DataEndpoint

  constructor(options: DataLinkOptions) {
    this.#options = options
    this.#endpoint = dataEndpoint(options)
  }

  /** Throws as `ShardTransport.put` does. */
  async put(question: Uint8Array, file: ShardFile, options: CallOptions = {}): Promise<Buffer> {
    const { client } = this.#options
    const said = await this.#run((endpoint, stop) => {
      if (file instanceof Uint8Array) return client.put(endpoint, question, file, stop)
      return client.putShard(endpoint, question, file, stop)
    }, options)
    return said.take()
  }

  /** Throws as `ShardTransport.fetch` does. */
  async fetch(shard: Hex, range: ShardRange | undefined, options: CallOptions = {}): Promise<BodyHandle> {
    const [start, end] = range ?? [0]
    const id = Buffer.from(shard, 'hex')
    return this.#run((endpoint, stop) => {
      const idleMs = Math.min(endpoint.idleMs, FETCH_IDLE_MS)
      return this.#options.client.fetch({ ...endpoint, idleMs }, id, start, end, stop)
    }, options)
  }

  /** For how long nothing has come of the host; undefined where nothing ever did. */
  silentMs(): number | undefined {
    return this.#options.client.silentMs(this.#endpoint.host) ?? undefined
  }

  async #run(exchange: Exchange, { timeoutMs = TRANSFER_TIMEOUT_MS, signal }: CallOptions): Promise<BodyHandle> {
    const { addresses, name } = this.#options
    const late = () => {
      const why = `no answer within ${timeoutMs / 1000} s`
      return new ImagerError('HOST_UNREACHABLE', { host: name, address: addresses[0] ?? 'no address', why })
    }
    return bounded({ timeoutMs, signal, late }, async (ended) => {
      const stop = new DataStop()
      const interrupt = () => stop.stop()
      ended.addEventListener('abort', interrupt, { once: true })
      try {
        return this.#settle(await exchange({ ...this.#endpoint, timeoutMs: timeoutMs + DATA_AFTER_MS }, stop), ended)
      } finally {
        ended.removeEventListener('abort', interrupt)
      }
    })
  }

  #settle({ kind, body, bytes, address, why }: DataOutcome, ended: AbortSignal): BodyHandle {
    const { name: host } = this.#options
    switch (kind) {
      case 'done':
        return body as BodyHandle
      case 'refused':
        throw decodeRefusal(host, 500, bytes)
      case 'unreachable':
        throw new ImagerError('HOST_UNREACHABLE', { host, address, why })
      case 'lied': {
        const actual = bytes.length > 0 ? bytes.toString('hex').slice(0, 16) : 'one without a key'
        const what = `at ${address} another host answers, ${actual}; nothing was sent to it`
        throw new ImagerError('HOST_LIED', { host, what, address })
      }
      case 'malformed':
        throw new ImagerError('PROTOCOL', { what: `${host}: ${why}` })
      case 'exhausted':
        throw new ImagerError('EXHAUSTED', { what: why })
      case 'stopped':
        throw ended.reason
      case 'notCarried':
        throw new NotCarried(why)
    }
  }
}
