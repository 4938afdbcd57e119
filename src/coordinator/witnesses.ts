/** The witnesses of a coordinator: who they are by the membership of now, the connections to them, and what makes a quorum. */
import { hasCode, ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import { WITNESS_PATIENCE_MS } from '../base/limits.js'
import type { LocalCatalog } from '../catalog/local.js'
import { soundAddress } from '../keys/address-book.js'
import {
  type Checkpoint,
  type Cosigned,
  openCheckpoint,
  openCosignature,
  quorumOf,
  witnessesOf,
} from '../keys/checkpoint.js'
import { type HeadId, HeadSet } from '../keys/head-set.js'
import type { Home } from '../keys/home.js'
import { type MembershipHost, openMembership } from '../keys/membership.js'
import { PeerClient } from '../peers/client.js'
import { WitnessClient } from '../peers/witness-client.js'
import type { CallOptions } from '../wire/bounded.js'
import { Connection } from '../wire/client.js'
import { isNotMember } from '../wire/refusal.js'

/** What one witness says when it is asked. */
export interface Reply {
  readonly witness: Witness
  /** It answered; else why it did not. */
  readonly failure: ImagerError | undefined
  /** What it signed last, verified, with its cosignature. */
  readonly held: { readonly checkpoint: Checkpoint; readonly cosignature: Buffer } | undefined
  /** The membership that it holds, not verified. */
  readonly membership: Buffer | undefined
  /** What it keeps of the policy, not verified. */
  readonly policies: readonly Buffer[]
}

/** One of each admin and coordinator there ever was. */
const MOST_POLICIES = 256

export class Witness {
  readonly host: Hex
  readonly name: string
  readonly #home: Home
  readonly #connection: Connection
  readonly client: WitnessClient
  readonly addresses: readonly string[]

  constructor(home: Home, { host, name }: MembershipHost, addresses: readonly string[]) {
    this.#home = home
    this.host = host
    this.name = name
    this.addresses = addresses
    this.#connection = new Connection({ tls: home.tls, addresses, host, name })
    this.client = new WitnessClient(host, name, home.fleet, this.#connection)
  }

  async ask(): Promise<Reply> {
    const options = { timeoutMs: WITNESS_PATIENCE_MS }
    try {
      const [held, membership, policies] = await Promise.all([
        this.client.fetchHeld(options),
        this.#fetchMembership(),
        this.#fetchPolicies(),
      ])
      return { witness: this, failure: undefined, held: held && this.#verify(held), membership, policies }
    } catch (error) {
      if (!(error instanceof ImagerError)) throw error
      // It does not know this coordinator any more, and may say who it is now.
      const membership = isNotMember(error) ? await this.#fetchSuccession().catch(() => undefined) : undefined
      return { witness: this, failure: error, held: undefined, membership, policies: [] }
    }
  }

  async #fetchPolicies(): Promise<Buffer[]> {
    const policies: Buffer[] = []
    const peer = new PeerClient(this.host, this.name, this.#connection)
    for await (const { bytes } of peer.fetchDocuments('policy', { timeoutMs: WITNESS_PATIENCE_MS })) {
      policies.push(bytes)
      if (policies.length === MOST_POLICIES) break
    }
    return policies
  }

  /** The heads of what it signed last; undefined where it has lost them. */
  async fetchHeads(of: Checkpoint): Promise<HeadSet | undefined> {
    try {
      const set = HeadSet.empty.with(await this.client.fetchHeads({ timeoutMs: 4 * WITNESS_PATIENCE_MS }))
      return set.root === of.heads.root ? set : undefined
    } catch (error) {
      if (error instanceof ImagerError) return undefined
      throw error
    }
  }

  async fetchEntry(id: HeadId): Promise<Buffer | undefined> {
    try {
      return await this.client.fetchEntry(id, { timeoutMs: WITNESS_PATIENCE_MS })
    } catch (error) {
      if (error instanceof ImagerError) return undefined
      throw error
    }
  }

  /** What it signs names this membership: who is set back finds it there. Throws where it cannot be brought. */
  async sendMembership(options: CallOptions): Promise<void> {
    const { fleet, bytes } = this.#home.membership()
    const peer = new PeerClient(this.host, this.name, this.#connection)
    try {
      await peer.sendDocument('membership', fleet, bytes, options)
    } catch (error) {
      // It has it, or a newer one, which it shows when it is asked.
      if (!hasCode(error, 'HOST_REFUSED')) throw error
    }
  }

  /** Undefined where it is not this fleet's, or not cosigned by that witness: it says nothing then. */
  #verify({ checkpoint: bytes, cosignatures }: Cosigned): Reply['held'] {
    try {
      const checkpoint = openCheckpoint(bytes, this.#home.fleet, this.#home.rootKey)
      const [cosignature] = cosignatures
      const isOwn = cosignature && openCosignature(cosignature, checkpoint) === this.host
      return isOwn ? { checkpoint, cosignature } : undefined
    } catch (error) {
      if (hasCode(error, 'FORGED', 'CORRUPT', 'UNSUPPORTED')) return undefined
      throw error
    }
  }

  #fetchMembership(): Promise<Buffer | undefined> {
    return this.#fetch('membership', this.#home.fleet)
  }

  #fetch(kind: 'membership' | 'address', name: Hex): Promise<Buffer | undefined> {
    const options = { timeoutMs: WITNESS_PATIENCE_MS }
    return new PeerClient(this.host, this.name, this.#connection).fetchDocument(kind, name, options)
  }

  /** The membership that names another coordinator, and into the book where that one is. */
  async #fetchSuccession(): Promise<Buffer | undefined> {
    const membership = await this.#fetchMembership()
    if (!membership) return undefined
    const { coordinator } = this.#home.openMembership(membership)
    const bytes = await this.#fetch('address', coordinator)
    const said = bytes && soundAddress(bytes, this.#home.fleet)
    if (said?.host === coordinator) this.#home.addresses.learn([[coordinator, said.addresses]])
    return membership
  }

  close(): void {
    this.#connection.close()
  }
}

/** For the rest, once a quorum has answered: those that are awake take no longer. */
const STRAGGLERS_MS = 300
/** Under which membership the last quorum came together: until the next one has, its witnesses are asked too. */
const WATCHED = 'watched'

export class Witnesses {
  readonly #home: Home
  readonly #catalog: LocalCatalog
  readonly #open = new Map<Hex, Witness>()

  constructor(home: Home, catalog: LocalCatalog) {
    this.#home = home
    this.#catalog = catalog
  }

  /** By the membership of now. */
  get named(): MembershipHost[] {
    return witnessesOf(this.#home.membership())
  }

  /** All who are asked; where nobody watches, all peers: they may know of a membership that has witnesses. */
  all(): Witness[] {
    const watching = [...this.#former(), ...this.named]
    const peers = this.#home.membership().hosts.filter(({ role }) => role === 'peer')
    const wanted = new Map((watching.length > 0 ? watching : peers).map((one) => [one.host, one]))
    for (const [host, witness] of this.#open) {
      if (wanted.has(host) && this.#addresses(host).join() === witness.addresses.join()) continue
      witness.close()
      this.#open.delete(host)
    }
    return [...wanted].map(([host, one]) => {
      const witness = this.#open.get(host) ?? new Witness(this.#home, one, this.#addresses(host))
      this.#open.set(host, witness)
      return witness
    })
  }

  /**
   * Of all witnesses; or of a quorum, where the others take longer: it knows each list that a quorum signed, and one PC that hangs
   * must not hold up every backup. Who was left out is met with the next offer.
   */
  ask(): Promise<Reply[]> {
    const witnesses = this.all()
    const replies = new Map<Witness, Reply>()
    return new Promise((resolve, reject) => {
      let timer: NodeJS.Timeout | undefined
      const end = () => {
        clearTimeout(timer)
        resolve(witnesses.flatMap((witness) => replies.get(witness) ?? []))
      }
      const take = (reply: Reply) => {
        replies.set(reply.witness, reply)
        const answered = [...replies.values()].filter(({ failure }) => !failure).map(({ witness }) => witness.host)
        if (replies.size === witnesses.length) end()
        else if (!timer && this.isQuorum(answered)) timer = setTimeout(end, STRAGGLERS_MS)
      }
      // Peers that are off hold up nobody whom they do not watch.
      if (this.isQuorum([])) timer = setTimeout(end, STRAGGLERS_MS)
      for (const witness of witnesses) witness.ask().then(take).catch(reject)
    })
  }

  /** A majority of those who are named, and of those who were when the last one came together, as far as they are members. */
  isQuorum(hosts: Iterable<Hex>): boolean {
    const signers = new Set(hosts)
    return [this.named, this.#former()].every((some) => {
      return some.filter(({ host }) => signers.has(host)).length >= quorumOf(some.length)
    })
  }

  /** No quorum has come together under the membership of now. */
  get isNewMembership(): boolean {
    const { fleet, bytes } = this.#home.membership()
    return !this.#catalog.registry.document(WATCHED, fleet)?.bytes.equals(bytes)
  }

  /** A quorum has come together under the membership of now. */
  noteQuorum(): void {
    const { fleet, sequence, bytes } = this.#home.membership()
    const known = this.#catalog.registry.document(WATCHED, fleet)
    if (!known?.bytes.equals(bytes)) this.#catalog.registry.setDocument(WATCHED, fleet, sequence, bytes)
  }

  close(): void {
    for (const witness of this.#open.values()) witness.close()
    this.#open.clear()
  }

  /** As it told the catalog, or as it was reached before: a catalog that was set back may know an older one. */
  #addresses(host: Hex): readonly string[] {
    return [...new Set([...this.#catalog.members.addresses(host), ...this.#home.addresses.of(host)])]
  }

  #former(): MembershipHost[] {
    const { fleet, rootKey } = this.#home
    const kept = this.#catalog.registry.document(WATCHED, fleet)
    const now = this.#home.membership()
    if (!kept || kept.bytes.equals(now.bytes)) return []
    return witnessesOf(openMembership(kept.bytes, fleet, rootKey)).flatMap(({ host }) => now.find(host) ?? [])
  }
}

/** True where one of them holds a newer membership. */
export function takeNews(replies: readonly Reply[], home: Home): boolean {
  const taken = replies.map(({ membership }) => {
    try {
      return membership !== undefined && home.saveMembership(membership)
    } catch (error) {
      if (hasCode(error, 'FORGED', 'CORRUPT', 'UNSUPPORTED', 'MEMBERSHIP_SHRINKS')) return false
      throw error
    }
  })
  return taken.includes(true)
}
