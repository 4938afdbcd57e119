/**
 * One client for each peer, made when it is first asked for and again when its addresses change. A host that did not answer
 * fails at once for some seconds, so that a dead peer costs one deadline and not one for each of its shards.
 */
import type { Clock } from '../base/clock.js'
import { hasCode, ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import { BREAKER_MS } from '../base/limits.js'
import type { TlsIdentity } from '../keys/certificate.js'
import { Connection, type Reply, type Requester, type RequestOptions } from '../wire/client.js'
import type { Pattern } from '../wire/router.js'
import { PeerClient } from './client.js'

/** What of a row of the master file, or of the membership, is needed to call a host. */
export interface Callable {
  readonly host: Hex
  readonly name: string
  readonly addresses: readonly string[]
}

interface Entry {
  readonly addresses: string
  readonly connection: Connection
  readonly client: PeerClient
}

export class Peers {
  readonly #entries = new Map<Hex, Entry>()

  constructor(
    readonly tls: TlsIdentity,
    readonly hosts: () => readonly Callable[],
    readonly clock: Clock,
  ) {}

  /** Throws HOST_UNREACHABLE for a host that is not in the list. */
  get(host: Hex): PeerClient {
    const row = this.hosts().find((one) => one.host === host)
    if (!row) throw new ImagerError('HOST_UNREACHABLE', { host, address: 'no address', why: 'it is not in the fleet' })
    const addresses = row.addresses.join(' ')
    const held = this.#entries.get(host)
    if (held?.addresses === addresses) return held.client
    held?.connection.close()
    const { name } = row
    const connection = new Connection({ tls: this.tls, addresses: row.addresses, host, name })
    const client = new PeerClient(host, name, new Breaker(connection, name, this.clock))
    this.#entries.set(host, { addresses, connection, client })
    return client
  }

  close(): void {
    for (const { connection } of this.#entries.values()) connection.close()
    this.#entries.clear()
  }
}

class Breaker implements Requester {
  #failure: ImagerError | undefined
  #closedUntil = 0

  constructor(
    readonly inner: Requester,
    readonly name: string,
    readonly clock: Clock,
  ) {}

  async request(method: Pattern['method'], path: string, options: RequestOptions): Promise<Reply> {
    if (this.#failure && this.clock.now() < this.#closedUntil) throw this.#failure
    try {
      const reply = await this.inner.request(method, path, options)
      this.#failure = undefined
      return reply
    } catch (error) {
      if (hasCode(error, 'HOST_UNREACHABLE')) {
        this.#failure = error
        this.#closedUntil = this.clock.now() + BREAKER_MS
      }
      throw error
    }
  }
}
