/**
 * One client for each peer, made when it is first asked for and again when its addresses change. A host that did not answer
 * fails at once for some seconds, so that a dead peer costs one deadline and not one for each of its shards.
 */
import type { Clock } from '../base/clock.js'
import { hasCode, ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import { BREAKER_MS, DATA_RETRY_MS } from '../base/limits.js'
import type { TlsIdentity } from '../keys/certificate.js'
import {
  type BodyHandle,
  DataClient,
  type DataClientHandle,
  DataLines,
  type DataLinesHandle,
  type DataPatience,
} from '../native.js'
import { Connection, type Requester } from '../wire/client.js'
import { type Carrier, DataLink, dataTarget, NotCarried } from '../wire/data-client.js'
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
  readonly #data: DataClientHandle

  constructor(
    readonly tls: TlsIdentity,
    readonly hosts: () => readonly Callable[],
    readonly clock: Clock,
    /** Hears, once for each host, that the quick way to it is closed. */
    readonly report: (what: string, error: unknown) => void = () => {},
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
    const { name } = row
    const connection = new Connection({ tls: this.tls, addresses: row.addresses, host, name })
    const breaker = new Breaker(this.clock)
    const guarded: Requester = { request: (...args) => breaker.run(() => connection.request(...args)) }
    const link = new DataLink({ client: this.#data, addresses: row.addresses, host, name })
    const say = (error: unknown) =>
      this.report(`${name} takes and gives shards over HTTPS only, which is slower`, error)
    const client = new PeerClient(host, name, guarded, new PatientCarrier(link, breaker, this.clock, say))
    this.#entries.set(host, { addresses, connection, client })
    return client
  }

  /** For ranges that the addon fetches by itself. */
  lines(patience: DataPatience): DataLinesHandle {
    const lines = new DataLines(this.#data, patience)
    for (const row of this.hosts()) if (row.addresses.length > 0) lines.host(dataTarget(row))
    return lines
  }

  close(): void {
    for (const { connection } of this.#entries.values()) connection.close()
    this.#entries.clear()
    this.#data.close()
  }
}

/** What a host fails with, it fails with at once for some seconds, whichever way it is called. */
class Breaker {
  #failure: ImagerError | undefined
  #closedUntil = 0

  constructor(readonly clock: Clock) {}

  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#failure && this.clock.now() < this.#closedUntil) throw this.#failure
    try {
      const result = await work()
      this.#failure = undefined
      return result
    } catch (error) {
      if (hasCode(error, 'HOST_UNREACHABLE')) {
        this.#failure = error
        this.#closedUntil = this.clock.now() + BREAKER_MS
      }
      throw error
    }
  }
}

/** Leaves a host that answers but carries nothing to HTTPS for a while, and says so once. */
class PatientCarrier implements Carrier {
  #asideUntil = 0
  #said = false

  constructor(
    readonly link: Carrier,
    readonly breaker: Breaker,
    readonly clock: Clock,
    readonly say: (error: unknown) => void,
  ) {}

  put(...args: Parameters<Carrier['put']>): Promise<void> {
    return this.#run(() => this.link.put(...args))
  }

  fetch(...args: Parameters<Carrier['fetch']>): Promise<BodyHandle> {
    return this.#run(() => this.link.fetch(...args))
  }

  async #run<T>(work: () => Promise<T>): Promise<T> {
    if (this.clock.now() < this.#asideUntil) throw new NotCarried()
    try {
      return await this.breaker.run(work)
    } catch (error) {
      if (error instanceof NotCarried) {
        this.#asideUntil = this.clock.now() + DATA_RETRY_MS
        if (!this.#said) this.say(error)
        this.#said = true
      }
      throw error
    }
  }
}
