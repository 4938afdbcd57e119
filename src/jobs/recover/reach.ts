/**
 * From the words and one address to the whole fleet: its members, and which of its peers answer. Whoever answers first is
 * believed nothing: what it shows counts by the root's signature alone, and it must be a peer in there itself.
 */
import type { Clock } from '../../base/clock.js'
import { hasCode, ImagerError, isOfHost, reason } from '../../base/errors.js'
import type { Hex } from '../../base/ids.js'
import { forEachAtOnce } from '../../base/queue.js'
import { ifSound } from '../../base/sound.js'
import { type TlsIdentity, tlsIdentity } from '../../keys/certificate.js'
import { type Membership, type MembershipHost, openMembership } from '../../keys/membership.js'
import type { Root } from '../../keys/root.js'
import { PeerClient } from '../../peers/client.js'
import { type Callable, Peers } from '../../peers/pool.js'
import type { Space } from '../../peers/store.js'
import { Connection } from '../../wire/client.js'
import { meetHost } from '../../wire/meet.js'

export interface ReachParts {
  readonly root: Root
  /** Of any peer. */
  readonly address: string
  readonly clock: Clock
  readonly signal: AbortSignal
}

export interface Reached extends MembershipHost {
  readonly space: Space
}

export interface Missing {
  readonly host: Hex
  readonly name: string
  readonly why: string
}

export interface ReachedFleet {
  /** The newest that any peer showed. */
  readonly membership: Membership
  readonly reached: readonly Reached[]
  readonly missing: readonly Missing[]
  /** Connected as the root. */
  readonly peers: Peers
}

const PEERS_AT_ONCE = 16

export async function reachFleet(parts: ReachParts): Promise<ReachedFleet> {
  const tls = tlsIdentity(parts.root.secret)
  const first = await firstContact(parts, tls)
  const tour = new Tour(first, parts, tls)
  try {
    return await tour.run()
  } catch (error) {
    tour.peers.close()
    throw error
  }
}

interface First {
  host: Hex
  membership: Membership
}

/** Throws WRONG_WORDS where these words are another fleet's. */
async function firstContact({ root, address, signal }: ReachParts, tls: TlsIdentity): Promise<First> {
  const host = await meetHost(tls, address)
  const name = `The host at ${address}`
  const connection = new Connection({ tls, addresses: [address], host, name })
  let membership: Membership | undefined
  try {
    for await (const { name: fleet, bytes } of new PeerClient(host, name, connection).fetchDocuments('membership', {
      signal,
    })) {
      const offered = openMembership(bytes, fleet, root.rootKey)
      if (offered.newerThan(membership)) membership = offered
    }
  } catch (error) {
    if (hasCode(error, 'PROTOCOL')) {
      throw new ImagerError(
        'USAGE',
        { what: `What listens at ${address} is no peer`, verb: 'recover' },
        { cause: error },
      )
    }
    if (!hasCode(error, 'NOT_ALLOWED')) throw error
    const what = `The words are not of the fleet to which ${address} belongs, or that is no peer`
    throw new ImagerError('WRONG_WORDS', { what }, { cause: error })
  } finally {
    connection.close()
  }
  if (!membership) throw new ImagerError('CORRUPT', { what: `${name} holds no membership; try another peer` })
  if (membership.role(host) === 'peer') return { host, membership }
  throw new ImagerError('HOST_LIED', { host: name, what: 'it is no peer of the fleet that it shows' })
}

/** Visits every peer, those too that only a newer membership names. */
class Tour {
  readonly peers: Peers
  readonly #parts: ReachParts
  readonly #first: First
  #newest: Membership
  readonly #spaces = new Map<Hex, Space>()
  readonly #failures = new Map<Hex, string>()
  #callable: readonly Callable[] = []

  constructor(first: First, parts: ReachParts, tls: TlsIdentity) {
    this.#first = first
    this.#parts = parts
    this.#newest = first.membership
    this.peers = new Peers(tls, () => this.#callable, parts.clock)
  }

  async run(): Promise<ReachedFleet> {
    for (let due = this.#due(); due.length > 0; due = this.#due()) {
      await forEachAtOnce(due, PEERS_AT_ONCE, (peer) => this.#visit(peer))
    }
    const all = this.#peerRows()
    const reached = all.flatMap((row) => {
      const space = this.#spaces.get(row.host)
      return space ? [{ ...row, space }] : []
    })
    const missing = all
      .filter(({ host }) => !this.#spaces.has(host))
      .map(({ host, name }) => ({ host, name, why: this.#failures.get(host) ?? '' }))
    return { membership: this.#newest, reached, missing, peers: this.peers }
  }

  /** The address that was given may be newer than the membership's. */
  #peerRows(): MembershipHost[] {
    const rows = this.#newest.hosts.filter((host) => host.role === 'peer')
    return rows.map((row) =>
      row.host === this.#first.host
        ? { ...row, addresses: [...new Set([this.#parts.address, ...row.addresses])] }
        : row,
    )
  }

  #due(): MembershipHost[] {
    const rows = this.#peerRows()
    this.#callable = rows
    return rows.filter(({ host }) => !this.#spaces.has(host) && !this.#failures.has(host))
  }

  async #visit({ host }: MembershipHost): Promise<void> {
    const { signal, root } = this.#parts
    const { fleet } = this.#first.membership
    const peer = this.peers.get(host)
    try {
      const bytes = await peer.fetchDocument('membership', fleet, { signal })
      const offered = bytes && ifSound(() => openMembership(bytes, fleet, root.rootKey))
      this.#spaces.set(host, await peer.fetchState({ signal }))
      if (offered?.newerThan(this.#newest)) this.#newest = offered
    } catch (error) {
      signal.throwIfAborted()
      if (!isOfHost(error)) throw error
      this.#failures.set(host, reason(error))
    }
  }
}
