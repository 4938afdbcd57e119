/**
 * Brings documents to peers: the membership and every keybag, to each peer, again until it has them. A peer that did not
 * answer is tried again as soon as it was heard of, and now and then in case it can only be called. What a peer was given
 * is remembered for an hour, in case it lost its disk since.
 */
import type { Clock } from '../base/clock.js'
import { hasCode } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import { HEARTBEAT_MS } from '../base/limits.js'
import { Slots } from '../base/queue.js'
import type { Report } from '../base/report.js'
import type { Home } from '../keys/home.js'
import type { MembershipHost } from '../keys/membership.js'
import { PeerClient } from '../peers/client.js'
import { Connection } from '../wire/client.js'
import { Loop } from './running.js'

interface Document {
  kind: 'membership' | 'keybag'
  name: string
  /** Tells whether a peer has this very version. */
  version: string
  bytes: Buffer
}

export interface CourierParts {
  home: Home
  clock: Clock
  /** When each host was last heard of. */
  readonly lastSeen: () => ReadonlyMap<Hex, number>
  readonly keybags: () => { name: string; sequence: number; bytes: Buffer }[]
  report: Report
}

const PEERS_AT_ONCE = 8
const REMEMBER_MS = 3_600_000
const TICK_MS = 1_000

export class Courier {
  readonly #parts: CourierParts
  /** By peer, then by kind and name: the version it took, and when. */
  readonly #taken = new Map<Hex, Map<string, { version: string; at: number }>>()
  readonly #failedAt = new Map<Hex, number>()
  #loop: Loop | undefined

  constructor(parts: CourierParts) {
    this.#parts = parts
  }

  start(): void {
    this.#loop = new Loop(
      TICK_MS,
      (signal) => this.#round(signal),
      (error) => this.#parts.report('documents', error),
    )
  }

  /** Starts a round now: a document is new. */
  wake(): void {
    this.#loop?.wake()
  }

  async close(): Promise<void> {
    await this.#loop?.close()
  }

  async #round(signal: AbortSignal): Promise<void> {
    const documents = this.#documents()
    const lastSeen = this.#parts.lastSeen()
    const slots = new Slots(PEERS_AT_ONCE)
    const peers = this.#parts.home.membership().hosts.filter(({ host, role, addresses }) => {
      return role === 'peer' && addresses.length > 0 && this.#mayAnswer(host, lastSeen.get(host) ?? 0)
    })
    await Promise.all(peers.map((peer) => slots.run(() => this.#visit(peer, documents, signal))))
  }

  #mayAnswer(host: Hex, lastSeen: number): boolean {
    // It joined, but its daemon has never run.
    if (lastSeen === 0) return false
    const failedAt = this.#failedAt.get(host) ?? 0
    return lastSeen > failedAt || this.#parts.clock.now() - failedAt > HEARTBEAT_MS
  }

  #documents(): Document[] {
    const { home, keybags } = this.#parts
    const { term, sequence, bytes } = home.membership()
    const bags = keybags().map((bag) => {
      return { kind: 'keybag' as const, name: bag.name, version: String(bag.sequence), bytes: bag.bytes }
    })
    return [{ kind: 'membership', name: home.fleet, version: `${term}.${sequence}`, bytes }, ...bags]
  }

  async #visit(peer: MembershipHost, documents: readonly Document[], signal: AbortSignal): Promise<void> {
    const { clock, home, report } = this.#parts
    const taken = this.#taken.get(peer.host) ?? new Map<string, { version: string; at: number }>()
    this.#taken.set(peer.host, taken)
    const due = documents.filter(({ kind, name, version }) => {
      const last = taken.get(`${kind}/${name}`)
      return last?.version !== version || clock.now() - last.at > REMEMBER_MS
    })
    if (due.length === 0 || signal.aborted) return
    const { host, name, addresses } = peer
    const connection = new Connection({ tls: home.tls, addresses, host, name })
    const client = new PeerClient(host, name, connection)
    try {
      for (const { kind, name, version, bytes } of due) {
        await send(client, kind, name, bytes, signal)
        taken.set(`${kind}/${name}`, { version, at: clock.now() })
      }
      this.#failedAt.delete(host)
    } catch (error) {
      this.#failedAt.set(host, clock.now())
      if (!signal.aborted) report(`documents for ${name}`, error)
    } finally {
      connection.close()
    }
  }
}

/** Sends one document. A peer that refuses it because it holds a newer one has what it needs. */
async function send(
  peer: PeerClient,
  kind: Document['kind'],
  name: string,
  bytes: Buffer,
  signal: AbortSignal,
): Promise<void> {
  try {
    await peer.sendDocument(kind, name, bytes, { signal })
  } catch (error) {
    if (!hasCode(error, 'HOST_REFUSED')) throw error
  }
}
