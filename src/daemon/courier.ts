/**
 * Brings documents to peers: the membership and every key entry, to each peer, again until it has them. A peer that did not
 * answer is tried again as soon as it was heard of, and now and then in case it can only be called. What a peer took, or
 * refused, is kept in the catalog and believed for an hour, in case it lost its disk since; a refusal of one document keeps
 * no other from being brought.
 */
import type { Clock } from '../base/clock.js'
import { type ErrorCode, ImagerError } from '../base/errors.js'
import { type Hex, toHex } from '../base/ids.js'
import { HEARTBEAT_MS } from '../base/limits.js'
import { Slots } from '../base/queue.js'
import type { Report } from '../base/report.js'
import type { DeliveredKind, Deliveries, Delivery } from '../catalog/deliveries.js'
import { entryName, partsOfEntryName, readEntry } from '../keys/entry.js'
import type { Home } from '../keys/home.js'
import { type Membership, type MembershipHost, openMembership } from '../keys/membership.js'
import { isOrder } from '../keys/orders.js'
import { isNewerPolicy, openPolicy } from '../keys/policy.js'
import { hash } from '../native.js'
import { encodeAddresses } from '../peers/addresses.js'
import { PeerClient } from '../peers/client.js'
import type { Callable } from '../peers/pool.js'
import { Connection } from '../wire/client.js'
import { isNotMember } from '../wire/refusal.js'
import { Loop } from './running.js'

interface Document {
  kind: DeliveredKind
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
  readonly keys: () => { name: string; sequence: number; bytes: Buffer }[]
  /** Where each host can be reached. */
  readonly addresses: () => ReadonlyMap<Hex, readonly string[]>
  /** What each says of that itself. */
  readonly statements: () => readonly { bytes: Buffer }[]
  /** What admins said, and the policy. */
  readonly orders: () => readonly Document[]
  /** Memberships that a peer must not miss, in order: see `stepsOf`. */
  readonly steps: () => readonly Pick<Membership, 'bytes'>[]
  readonly deliveries: Pick<Deliveries, 'of' | 'note'>
  /** A peer will not take a document: heard once for each version. */
  readonly onRefusal: (peer: MembershipHost, kind: DeliveredKind, name: string, why: string) => void
  report: Report
}

const PEERS_AT_ONCE = 8
const REMEMBER_MS = 3_600_000
/** A refusal that has another reason than the document, as a disk that is full, may be over soon. */
const REFUSED_MS = 60_000
const TICK_MS = 1_000
/** The peer was not met, or is not the one that was meant: nothing else gets through now. Nor does it where it knows of no newer term. */
const NOT_MET: readonly ErrorCode[] = ['HOST_UNREACHABLE', 'HOST_LIED', 'INTERRUPTED']
/** The document itself is what it will not take: that changes with the document, or with what it knows of the members. */
const FOR_GOOD: readonly ErrorCode[] = [
  ...(['NOT_ALLOWED', 'FORGED', 'CORRUPT', 'UNSUPPORTED', 'INVALID'] as const),
  ...(['TOO_MANY_KEYS', 'MEMBERSHIP_SHRINKS'] as const),
]

export class Courier {
  readonly #parts: CourierParts
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
    const addresses = this.#parts.addresses()
    const peers = this.#parts.home.membership().hosts.flatMap((one) => {
      const at = addresses.get(one.host) ?? []
      const isDue = one.role === 'peer' && at.length > 0 && this.#mayAnswer(one.host, lastSeen.get(one.host) ?? 0)
      return isDue ? [{ ...one, addresses: at }] : []
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
    const { home, keys, statements, orders } = this.#parts
    const { term, sequence, bytes } = home.membership()
    const entries = keys().map(({ name, sequence, bytes }) => {
      return { kind: 'key' as const, name, version: String(sequence), bytes }
    })
    const all = encodeAddresses(statements().map((one) => one.bytes))
    const addresses = { kind: 'address' as const, name: home.fleet, version: toHex(hash(all)), bytes: all }
    return [
      { kind: 'membership', name: home.fleet, version: `${term}.${sequence}`, bytes },
      addresses,
      ...entries,
      ...orders(),
    ]
  }

  async #visit(peer: MembershipHost & Callable, documents: readonly Document[], signal: AbortSignal): Promise<void> {
    const { clock, home, deliveries, report } = this.#parts
    const { host, name, addresses } = peer
    const known = deliveries.of(host)
    const due = dueDocuments(documents, known, clock.now())
    if (due.length === 0 || signal.aborted) return
    const connection = new Connection({ tls: home.tls, addresses, host, name })
    const client = new PeerClient(host, name, connection)
    try {
      const last = new Map(known.map((one) => [`${one.kind}/${one.name}`, one]))
      for (const document of due) {
        await this.#bring(peer, client, document, last.get(`${document.kind}/${document.name}`), signal)
      }
      this.#failedAt.delete(host)
    } catch (error) {
      this.#failedAt.set(host, clock.now())
      if (!signal.aborted) report(`documents for ${name}`, error)
    } finally {
      connection.close()
    }
  }

  /** Throws only where the peer cannot be met: what it refuses is noted, and the next document is brought. */
  async #bring(
    peer: MembershipHost,
    client: PeerClient,
    document: Document,
    before: Delivery | undefined,
    signal: AbortSignal,
  ): Promise<void> {
    const { clock, deliveries, onRefusal } = this.#parts
    const { kind, name, version } = document
    const refusal = await this.#send(client, document, signal)
    const refused = refusal?.message ?? null
    const due = clock.now() + (refusal && !FOR_GOOD.includes(refusal.code) ? REFUSED_MS : REMEMBER_MS)
    deliveries.note(peer.host, { kind, name, version, due, refused })
    if (refused !== null && !(before?.version === version && before.refused === refused)) {
      onRefusal(peer, kind, name, refused)
    }
  }

  /** One that was away while many left, one after another, takes them in that order. */
  async #send(client: PeerClient, document: Document, signal: AbortSignal): Promise<ImagerError | undefined> {
    const { home, steps } = this.#parts
    const refusal = await send(home, client, document, signal)
    if (refusal?.code !== 'MEMBERSHIP_SHRINKS') return refusal
    for (const { bytes } of steps()) await send(home, client, { ...document, bytes }, signal)
    return send(home, client, document, signal)
  }
}

/**
 * What a peer was not brought in this version, and what is due again. By a new membership it may judge otherwise of what it
 * refused. Pure.
 */
export function dueDocuments<D extends Pick<Document, 'kind' | 'name' | 'version'>>(
  documents: readonly D[],
  known: readonly Delivery[],
  now: number,
): D[] {
  const last = new Map(known.map((one) => [`${one.kind}/${one.name}`, one]))
  const isNew = ({ kind, name, version }: D) => last.get(`${kind}/${name}`)?.version !== version
  const membershipIsNew = documents.some((one) => one.kind === 'membership' && isNew(one))
  return documents.filter((one) => {
    const delivery = last.get(`${one.kind}/${one.name}`)
    if (!delivery || isNew(one)) return true
    if (delivery.refused !== null && membershipIsNew) return true
    // Further off than it was ever set: the clock was turned back.
    return now >= delivery.due || delivery.due - now > REMEMBER_MS
  })
}

/** Sends one document; gives why it was refused. A peer that holds one as good already has what it needs, and shows it. */
async function send(
  home: Home,
  peer: PeerClient,
  { kind, name, bytes }: Document,
  signal: AbortSignal,
): Promise<ImagerError | undefined> {
  try {
    if (kind === 'address') await peer.sendAddresses(bytes, { signal })
    else await peer.sendDocument(kind, name, bytes, { signal })
    return undefined
  } catch (error) {
    if (!(error instanceof ImagerError) || NOT_MET.includes(error.code) || isNotMember(error)) throw error
    if (error.code !== 'HOST_REFUSED' || kind === 'address') return error
    const held = await peer.fetchDocument(kind, name, { signal })
    return held && isAsGood(home, { kind, name }, held, bytes) ? undefined : error
  }
}

/**
 * Of a key only this very entry is as good. What another of its name seals can be seen by its reader alone, and its owner may
 * be in wrong hands; but what this host signed under its own name, before it was recovered, it sealed itself.
 */
function isAsGood(home: Home, { kind, name }: Pick<Document, 'kind' | 'name'>, held: Buffer, own: Buffer): boolean {
  try {
    if (kind === 'key')
      return held.equals(own) || (partsOfEntryName(name).owner === home.host && isOwn(home, name, held))
    if (isOrder(kind)) return held.equals(own)
    if (kind === 'policy') {
      const policy = (bytes: Buffer) => openPolicy(bytes, home.membership(), home.rootKey)
      return !isNewerPolicy(policy(own), policy(held))
    }
    const open = (bytes: Buffer) => openMembership(bytes, home.fleet, home.rootKey)
    return !open(own).newerThan(open(held))
  } catch (error) {
    if (error instanceof ImagerError) return false
    throw error
  }
}

function isOwn(home: Home, name: string, held: Buffer): boolean {
  const { entry, signer } = readEntry(held)
  return signer === home.host && entry.fleet === home.fleet && entryName(entry) === name
}
