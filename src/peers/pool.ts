/**
 * One client for each peer, made when it is first asked for and again when its addresses change. All that goes to a host
 * passes one breaker; shards take data connections, or HTTPS where those do not get through.
 */
import type { TokenBucket } from '../base/bucket.js'
import type { Clock } from '../base/clock.js'
import { ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import type { TlsIdentity } from '../keys/certificate.js'
import { DataClient, type DataClientHandle, DirectParts, type DirectPartsHandle, type RoutesHandle } from '../native.js'
import { Connection, type Requester } from '../wire/client.js'
import { DataLink, dataEndpoint } from '../wire/data-client.js'
import type { ShardTransport } from '../wire/shard-transport.js'
import { Breaker } from './breaker.js'
import { PeerClient } from './client.js'
import { DataTransport } from './data-transport.js'
import { FallbackTransport } from './fallback-transport.js'
import { HttpsTransport } from './https-transport.js'
import { LimitedTransport } from './limited-transport.js'

/** What of a row of the master file, or of the membership, is needed to call a host. */
export interface Callable {
  readonly host: Hex
  readonly name: string
  readonly addresses: readonly string[]
}

interface Entry {
  readonly addresses: string
  readonly data: DataLink
  readonly connection: Connection
  readonly client: PeerClient
}

export class Peers {
  readonly #entries = new Map<Hex, Entry>()
  readonly #data: DataClientHandle
  /** How fast shards may come and go. */
  limit: TokenBucket | undefined

  constructor(
    readonly tls: TlsIdentity,
    readonly hosts: () => readonly Callable[],
    readonly clock: Clock,
    /** Hears, once for each host, that shards reach it over HTTPS only. */
    readonly report: (what: string, error: unknown) => void = () => {},
    /** Hears where a host proved itself. */
    readonly reached: (host: Hex, address: string) => void = () => {},
  ) {
    this.#data = new DataClient(tls.key, tls.cert)
  }

  /** Throws HOST_UNREACHABLE for a host that is not in the list. */
  get(host: Hex): PeerClient {
    const row = this.hosts().find((one) => one.host === host)
    if (!row) throw new ImagerError('HOST_UNREACHABLE', { host, address: 'no address', why: 'it is not in the fleet' })
    const addresses = row.addresses.join(' ')
    const held = this.#entries.get(host)
    if (held?.addresses === addresses) return held.client
    held?.connection.close()
    const entry = { addresses, ...this.#call(row) }
    this.#entries.set(host, entry)
    return entry.client
  }

  #call({ host, name, addresses }: Callable): Omit<Entry, 'addresses'> {
    const onReached = (address: string) => this.reached(host, address)
    const connection = new Connection({ tls: this.tls, addresses, host, name, onReached })
    const data = new DataLink({ client: this.#data, addresses, host, name })
    const transport = new DataTransport(data)
    const breaker = new Breaker(this.clock)
    const requester: Requester = { request: (...args) => breaker.run(() => connection.request(...args)) }
    const quick: ShardTransport = {
      put: (...args) => breaker.run(() => transport.put(...args)),
      fetch: (...args) => breaker.run(() => transport.fetch(...args)),
    }
    const sure = new HttpsTransport(name, requester)
    const say = (error: unknown) =>
      this.report(`${name} takes and gives shards over HTTPS only, which is slower`, error)
    const either = new FallbackTransport({ quick, sure, clock: this.clock, say })
    const shards = new LimitedTransport(either, () => this.limit)
    return { connection, data, client: new PeerClient(host, name, requester, shards) }
  }

  /** For how long nothing has come of a host, whichever way; undefined where nothing ever did. */
  silentMs(host: Hex): number | undefined {
    const { data, connection } = this.#entries.get(host) ?? {}
    const times = [data?.silentMs(), connection?.silentMs()].filter((ms) => ms !== undefined)
    return times.length > 0 ? Math.min(...times) : undefined
  }

  /** What lets the addon fetch parts of packs by itself, over data connections to all hosts of the list. */
  direct(routes: RoutesHandle): DirectPartsHandle {
    const direct = new DirectParts(this.#data, routes)
    // It knows no limit: where there is one, all is fetched here.
    if (this.limit) return direct
    for (const row of this.hosts()) if (row.addresses.length > 0) direct.host(dataEndpoint(row))
    return direct
  }

  close(): void {
    for (const { connection } of this.#entries.values()) connection.close()
    this.#entries.clear()
    this.#data.close()
  }
}
