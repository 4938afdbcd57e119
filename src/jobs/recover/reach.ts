/**
 * From the words and one address to the whole fleet: its members, and which of its peers answer. Whoever answers first is
 * believed nothing: what it shows counts by the root's signature alone, and it must be a peer in there itself. Every host is
 * asked that is a peer in any membership which any of them shows: the newest may hide them (members.ts).
 */
import type { Clock } from '../../base/clock.js'
import { hasCode, ImagerError, isOfHost, reason } from '../../base/errors.js'
import { type Hex, toHex } from '../../base/ids.js'
import { forEachAtOnce } from '../../base/queue.js'
import { ifSound } from '../../base/sound.js'
import type { AddressBody } from '../../keys/address.js'
import { soundAddress } from '../../keys/address-book.js'
import { type TlsIdentity, tlsIdentity } from '../../keys/certificate.js'
import { WORDS } from '../../keys/labels.js'
import { type Membership, type MembershipHost, openMembership } from '../../keys/membership.js'
import type { Root } from '../../keys/root.js'
import { hash } from '../../native.js'
import { type Document, PeerClient } from '../../peers/client.js'
import { type Callable, Peers } from '../../peers/pool.js'
import type { Space } from '../../peers/store.js'
import { listed } from '../../stripes/suffice.js'
import { Connection } from '../../wire/client.js'
import { meetHost } from '../../wire/meet.js'
import { Meter, type Report } from '../progress.js'
import { eachOnce, newestFirst, whoIsMissed } from './members.js'

export interface ReachParts {
  readonly root: Root
  /** Of any peer. */
  readonly address: string
  readonly clock: Clock
  readonly report: Report
  readonly signal: AbortSignal
}

export interface Reached extends MembershipHost {
  readonly addresses: readonly string[]
  readonly space: Space
}

export interface Missing {
  readonly host: Hex
  readonly name: string
  readonly why: string
}

export interface ReachedFleet {
  /** Each that any peer showed and that verifies, newest first. */
  readonly versions: readonly Membership[]
  /** Where each host says that it listens. */
  readonly addresses: ReadonlyMap<Hex, readonly string[]>
  readonly reached: readonly Reached[]
  readonly missing: readonly Missing[]
  /** Connected as the root. */
  readonly peers: Peers
}

const PEERS_AT_ONCE = 16
/** After that it is said who has not answered yet: a PC that is off has its deadline, and a person waits. */
const SILENT_MS = 1_000
const FLEET_DIGITS = 32

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
  versions: Membership[]
}

type Row = MembershipHost & Callable

/** Throws WRONG_WORDS where these words are another fleet's. */
async function firstContact({ root, address, signal }: ReachParts, tls: TlsIdentity): Promise<First> {
  const host = await meetHost(tls, address)
  const name = `The host at ${address}`
  const connection = new Connection({ tls, addresses: [address], host, name })
  const versions: Membership[] = []
  try {
    const shown = await documentsOf(new PeerClient(host, name, connection), signal)
    // The newest lies under the fleet's id, which is half as long as the names of earlier ones.
    const fleet = shown.find((one) => one.name.length === FLEET_DIGITS)?.name
    if (fleet === undefined) throw new ImagerError('CORRUPT', { what: `${name} holds no membership; try another peer` })
    versions.push(openAs(shown.find((one) => one.name === fleet)?.bytes ?? Buffer.alloc(0), fleet, root))
    versions.push(...soundOnes(shown, fleet, root))
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
  if (versions.some((one) => one.role(host) === 'peer')) return { host, versions }
  throw new ImagerError('HOST_LIED', { host: name, what: 'it is no peer of the fleet that it shows' })
}

async function documentsOf(peer: PeerClient, signal: AbortSignal): Promise<Document[]> {
  const shown: Document[] = []
  for await (const one of peer.fetchDocuments('membership', { signal })) shown.push(one)
  return shown
}

function soundOnes(shown: readonly Document[], fleet: Hex, root: Root): Membership[] {
  return shown.flatMap(({ bytes }) => ifSound(() => openAs(bytes, fleet, root)) ?? [])
}

/** With the names that the words open. */
export function openAs(bytes: Uint8Array, fleet: Hex, { rootKey, secret }: Root): Membership {
  return openMembership(bytes, fleet, rootKey, { reader: WORDS, secret })
}

/** Visits every peer, those too that only another membership names. */
class Tour {
  readonly peers: Peers
  readonly #parts: ReachParts
  readonly #first: First
  /** By their bytes. */
  readonly #versions = new Map<Hex, Membership>()
  readonly #spaces = new Map<Hex, Space>()
  /** Why, and at which addresses. */
  readonly #failures = new Map<Hex, { why: string; at: string }>()
  readonly #addresses = new Map<Hex, AddressBody>()
  #callable: readonly Callable[] = []

  constructor(first: First, parts: ReachParts, tls: TlsIdentity) {
    this.#first = first
    this.#parts = parts
    this.#keepVersions(first.versions)
    this.peers = new Peers(tls, () => this.#callable, parts.clock)
  }

  async run(): Promise<ReachedFleet> {
    const early = setTimeout(() => this.#tellSilent(), SILENT_MS)
    try {
      for (let due = this.#due(); due.length > 0; due = this.#due()) {
        await forEachAtOnce(due, PEERS_AT_ONCE, (peer) => this.#visit(peer))
      }
    } finally {
      clearTimeout(early)
    }
    const all = this.#peerRows()
    const reached = all.flatMap((row) => {
      const space = this.#spaces.get(row.host)
      return space ? [{ ...row, space }] : []
    })
    const isMissed = whoIsMissed(this.#newestFirst())
    const missing = all
      .filter(({ host }) => isMissed.has(host) && !this.#spaces.has(host))
      .map(({ host, name }) => ({ host, name, why: this.#failures.get(host)?.why ?? 'nobody knows where it is' }))
    const addresses = new Map([...this.#addresses].map(([host, said]) => [host, said.addresses]))
    return { versions: this.#newestFirst(), addresses, reached, missing, peers: this.peers }
  }

  #tellSilent(): void {
    const silent = this.#callable.filter(({ host }) => !this.#spaces.has(host) && !this.#failures.has(host))
    if (silent.length === 0) return
    const names = listed(silent.map(({ name }) => name).sort())
    const { clock, report } = this.#parts
    new Meter('looking for peers', 0, clock, report).wait(
      `${this.#spaces.size} peers answered; no answer yet from ${names}`,
    )
  }

  #keepVersions(versions: readonly Membership[]): void {
    for (const one of versions) this.#versions.set(toHex(hash(one.bytes)), one)
  }

  #newestFirst(): Membership[] {
    return newestFirst([...this.#versions.values()])
  }

  /** The address that was given may be newer than what the host said of itself. */
  #peerRows(): Row[] {
    return eachOnce(this.#newestFirst(), ({ role }) => role === 'peer').map((row) => {
      const given = row.host === this.#first.host ? [this.#parts.address] : []
      const said = this.#addresses.get(row.host)?.addresses ?? []
      return { ...row, addresses: [...new Set([...given, ...said])] }
    })
  }

  /** Again where another peer knew a newer address. */
  #due(): Row[] {
    const rows = this.#peerRows()
    this.#callable = rows
    return rows.filter(({ host, addresses }) => {
      return addresses.length > 0 && !this.#spaces.has(host) && this.#failures.get(host)?.at !== addresses.join()
    })
  }

  async #visit({ host, addresses }: Row): Promise<void> {
    const { signal, root } = this.#parts
    const { fleet } = this.#first.versions[0] as Membership
    const peer = this.peers.get(host)
    try {
      for await (const { bytes } of peer.fetchDocuments('address', { signal })) this.#keepAddress(fleet, bytes)
      // Most peers show the same ones, and each is full of signatures.
      const shown = (await documentsOf(peer, signal)).filter(({ bytes }) => !this.#versions.has(toHex(hash(bytes))))
      const versions = soundOnes(shown, fleet, root)
      this.#spaces.set(host, await peer.fetchState({ signal }))
      this.#keepVersions(versions)
    } catch (error) {
      signal.throwIfAborted()
      if (!isOfHost(error)) throw error
      this.#failures.set(host, { why: reason(error), at: addresses.join() })
    }
  }

  #keepAddress(fleet: Hex, bytes: Buffer): void {
    const said = soundAddress(bytes, fleet)
    if (said && said.sequence > (this.#addresses.get(said.host)?.sequence ?? 0)) this.#addresses.set(said.host, said)
  }
}
