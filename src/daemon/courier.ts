/**
 * Brings documents to peers: the membership and every keybag, to each peer, again until it has them. A peer that is away
 * gets them when it is back; what a peer was given is remembered for an hour, in case it lost its disk since.
 */
import type { Clock } from '../base/clock.js'
import { hasCode } from '../base/errors.js'
import { HEARTBEAT_MS } from '../base/limits.js'
import { Slots } from '../base/queue.js'
import type { Home } from '../keys/home.js'
import type { MembershipHost } from '../keys/membership.js'
import type { PeerClient } from '../peers/client.js'
import type { Peers } from '../peers/pool.js'
import { Loop, type Report } from './running.js'

interface Document {
  kind: 'membership' | 'keybag'
  name: string
  /** Tells whether a peer has this very version. */
  version: string
  bytes: Buffer
}

export interface CourierParts {
  home: Home
  peers: Peers
  clock: Clock
  readonly keybags: () => { name: string; sequence: number; bytes: Buffer }[]
  report: Report
}

const PEERS_AT_ONCE = 8
const REMEMBER_MS = 3_600_000

export class Courier {
  readonly #parts: CourierParts
  /** By peer, then by kind and name: the version it took, and when. */
  readonly #taken = new Map<string, Map<string, { version: string; at: number }>>()
  #loop: Loop | undefined

  constructor(parts: CourierParts) {
    this.#parts = parts
  }

  start(): void {
    this.#loop = new Loop(
      HEARTBEAT_MS,
      (signal) => this.#round(signal),
      (error) => this.#parts.report('documents', error),
    )
  }

  /** There is something new. */
  wake(): void {
    this.#loop?.wake()
  }

  async close(): Promise<void> {
    await this.#loop?.close()
  }

  async #round(signal: AbortSignal): Promise<void> {
    const documents = this.#documents()
    const peers = this.#parts.home
      .membership()
      .hosts.filter((host) => host.role === 'peer' && host.addresses.length > 0)
    const slots = new Slots(PEERS_AT_ONCE)
    await Promise.all(peers.map((peer) => slots.run(() => this.#visit(peer, documents, signal))))
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
    const { clock, peers, report } = this.#parts
    const taken = this.#taken.get(peer.host) ?? new Map<string, { version: string; at: number }>()
    this.#taken.set(peer.host, taken)
    const due = documents.filter(({ kind, name, version }) => {
      const last = taken.get(`${kind}/${name}`)
      return last?.version !== version || clock.now() - last.at > REMEMBER_MS
    })
    if (due.length === 0 || signal.aborted) return
    try {
      for (const { kind, name, version, bytes } of due) {
        await send(peers.get(peer.host), kind, name, bytes, signal)
        taken.set(`${kind}/${name}`, { version, at: clock.now() })
      }
    } catch (error) {
      if (!signal.aborted) report(`documents for ${peer.name}`, error)
    }
  }
}

/** A peer that holds a newer one has what it needs. */
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
