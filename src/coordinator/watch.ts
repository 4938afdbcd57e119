/**
 * The coordinator and its witnesses. After each `finish` and each change of the members it signs the next checkpoint and has
 * them cosign it. At its start, and when one of them contradicts it, it asks them what they hold; while they hold what it does not
 * know it takes no new snapshots, and catches up: nothing that they list is ever left out of the next checkpoint.
 */
import { hasCode, ImagerError } from '../base/errors.js'
import { type Hex, toHex } from '../base/ids.js'
import { WITNESS_PATIENCE_MS } from '../base/limits.js'
import { formatCount } from '../base/units.js'
import { sealCatalogEntry } from '../catalog/entry.js'
import { conditionOf } from '../catalog/guard.js'
import type { LocalCatalog } from '../catalog/local.js'
import type { Condition } from '../catalog/types.js'
import {
  type Checkpoint,
  type CheckpointBody,
  encodeCosigned,
  openCheckpoint,
  signCheckpoint,
} from '../keys/checkpoint.js'
import { decodeHeadIds, type HeadId, HeadSet } from '../keys/head-set.js'
import type { Home } from '../keys/home.js'
import { hash } from '../native.js'
import { chooseBase } from './lineage.js'
import { type Dissent, offerTip, type Signed } from './offers.js'
import { policyInForce, takePolicies } from './policy.js'
import { replaced } from './replaced.js'
import { Shown, seekAmongPeers } from './shown.js'
import { notCosigned, type Outlook, type Phase, troubleOf, unknownSnapshots } from './watch-words.js'
import { type Reply, takeNews, type Witness, Witnesses } from './witnesses.js'

export interface WatchParts {
  readonly home: Home
  readonly catalog: LocalCatalog
  readonly clock: { now(): number }
  /** Brings what of these snapshots the witnesses and peers have into the catalog. */
  readonly restore: (missing: readonly HeadId[], witnesses: readonly Witness[]) => Promise<void>
  /** A newer membership was found with the witnesses, and is kept already. */
  readonly onMembership: () => void
  /** Something is to be done soon. */
  readonly wake: () => void
  /** Hears what befell it. */
  readonly say: (what: string) => void
}

/** What was known by name only when this term began: the words were used, and nobody waits for it. */
const NAMED_ONLY = 'named-only'
const NEWS_ROUNDS = 3
const POLL_MS = 50
const SEALED_KEPT = 16

export class Watch {
  readonly #parts: WatchParts
  readonly #witnesses: Witnesses
  #phase: Phase = { kind: 'asking', answered: [], asked: false }
  #queue: Promise<unknown> = Promise.resolve()
  #isFrozen = false
  /** What a witness holds that lost: it is brought back by a later checkpoint, and contradicts nothing. */
  readonly #lost = new Map<Hex, Hex>()
  /** Who did not sign the tip when it was last offered. */
  #unsigned: readonly string[] = []
  /** Heads that are listed, and known by name only. */
  #namedOnly: readonly HeadId[] = []
  /** What the tip lists; as long as it is that link's. */
  #listed: { readonly tip: Hex; readonly heads: HeadSet } | undefined
  /** Came after the others were a quorum: written with the next that is. */
  #late: Signed[] = []
  readonly #shown: Shown
  /** Entries of the last snapshots, sealed once for all witnesses. */
  readonly #sealed = new Map<string, Buffer>()
  readonly #asked: Promise<void>
  #hasAsked = () => {}

  constructor(parts: WatchParts) {
    this.#parts = parts
    this.#shown = new Shown(parts)
    this.#witnesses = new Witnesses(parts.home, parts.catalog)
    this.#asked = new Promise((resolve) => {
      this.#hasAsked = resolve
    })
  }

  /** The witnesses were asked once: a membership that is signed now follows the newest that they hold. */
  get asked(): Promise<void> {
    return this.#asked
  }

  /** The same, without waiting. */
  get maySign(): boolean {
    return this.#phase.kind !== 'asking' || this.#phase.asked
  }

  get isCurrent(): boolean {
    return this.#phase.kind === 'current'
  }

  get isReplaced(): boolean {
    return this.#phase.kind === 'replaced'
  }

  /** Nothing is signed from now on, once what was begun is done: the catalog is about to be copied for the next coordinator. */
  async freeze(): Promise<void> {
    this.#isFrozen = true
    await this.#queue
  }

  get isFrozen(): boolean {
    return this.#isFrozen
  }

  thaw(): void {
    this.#isFrozen = false
  }

  /** The place was handed over, and the next coordinator has it. */
  leave(): void {
    this.#phase = { kind: 'replaced' }
  }

  /** Throws COORDINATOR_READ_ONLY unless the witnesses said, or say shortly, that its state is the newest. */
  async requireCurrent(patienceMs = WITNESS_PATIENCE_MS): Promise<void> {
    for (let left = patienceMs; left > 0 && this.#phase.kind !== 'current'; left -= POLL_MS) {
      if (this.#phase.kind === 'behind' && this.#phase.tried) break
      this.#parts.wake()
      await new Promise((resolve) => setTimeout(resolve, POLL_MS))
    }
    const trouble = this.#trouble()
    if (trouble) throw trouble
  }

  /** What is due: to ask the witnesses, or to have them sign. */
  async round(): Promise<void> {
    if (this.#phase.kind === 'replaced' || this.#isFrozen) return
    if (this.#phase.kind !== 'current') await this.#inTurn(() => this.#ask())
    this.#hasAsked()
    if (this.#phase.kind === 'current' && this.#isDue()) await this.advance()
  }

  /** A member was heard of: if something is due, he may be the one that was missing. */
  heard(): void {
    if (this.#phase.kind !== 'current' || this.#isDue()) this.#parts.wake()
  }

  /**
   * A caller holds what may be newer than what is known here: then this was set back. Returns once it has caught up, or tried for
   * as long as a person waits. Throws FORGED, CORRUPT.
   */
  async show(kind: 'membership' | 'checkpoint', bytes: Buffer): Promise<void> {
    const { home, catalog, say, wake, onMembership } = this.#parts
    if (this.#phase.kind === 'replaced') return
    const isNews =
      kind === 'membership' ? home.saveMembership(bytes) : this.#shown.take(bytes, this.#witnesses.named, this.#tip())
    if (!isNews) return
    say(`a caller shows a newer ${kind} than is known here: this coordinator was set back`)
    if (!home.coordinates) {
      this.#phase = { kind: 'replaced' }
      return
    }
    seekAmongPeers(home, catalog)
    if (kind === 'membership') onMembership()
    this.#phase = { kind: 'asking', answered: [], asked: false }
    wake()
    await this.requireCurrent().catch((error: unknown) => {
      if (!hasCode(error, 'COORDINATOR_READ_ONLY')) throw error
    })
  }

  /** Signs what is new and has it cosigned, in one round trip to all; true where a quorum has signed all that there is. */
  advance(): Promise<boolean> {
    return this.#inTurn(async () => {
      if (this.#phase.kind !== 'current' || this.#isFrozen) return false
      if (this.#witnesses.named.length === 0) return true
      this.#extend()
      return this.#offer()
    })
  }

  /** The same, as far as it goes in a time that a person waits. */
  async advanceShortly(): Promise<void> {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, WITNESS_PATIENCE_MS)
    })
    await Promise.race([this.advance().then(() => {}), late]).finally(() => clearTimeout(timer))
  }

  /** The newest that a quorum cosigned; empty where there is none. */
  cosigned(): Buffer {
    const { chain } = this.#parts.catalog
    const last = chain.cosigned()
    if (!last || this.#witnesses.named.length === 0) return Buffer.alloc(0)
    return encodeCosigned({ checkpoint: last.bytes, cosignatures: [...chain.cosignatures(last.n).values()] })
  }

  conditions(): Condition[] {
    const trouble = this.#trouble()
    if (this.#namedOnly.length > 0) this.#namedOnly = this.#parts.catalog.chain.missing()
    const missing = this.#phase.kind === 'current' ? this.#namedOnly : []
    return [
      ...(trouble ? [conditionOf(trouble)] : []),
      ...(missing.length > 0 ? [unknownSnapshots(missing, this.#outlook())] : []),
      ...(this.#phase.kind === 'current' && this.#unsigned.length > 0 && this.#waits()
        ? [notCosigned(this.#unsigned, this.#outlook())]
        : []),
    ]
  }

  async close(): Promise<void> {
    // What is asked of a witness that does not answer ends with its connection.
    this.#witnesses.close()
    await this.#queue
    this.#witnesses.close()
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const mine = this.#queue.then(work)
    this.#queue = mine.catch(() => {})
    return mine
  }

  // Signing.

  /** The next link, if there is anything that the last one does not say. */
  #extend(): void {
    const { home, catalog, clock } = this.#parts
    const { chain } = catalog
    const membership = home.membership()
    const tip = this.#tip()
    const now = toHex(hash(membership.bytes))
    const unlisted = chain.unlisted()
    const isAsSaid = tip?.term === membership.term && tip.membership === now && tip.policy === this.#policy()
    if (isAsSaid && unlisted.length === 0) return
    const known = this.#listed?.tip === tip?.hash ? this.#listed?.heads : undefined
    const heads = (known ?? HeadSet.empty.with(chain.heads())).with(unlisted)
    const goesOn = tip?.term === membership.term
    const bytes = signCheckpoint(
      {
        ...{ fleet: home.fleet, term: membership.term, sequence: goesOn ? tip.sequence + 1 : 1 },
        ...{ previous: tip?.hash ?? null, membership: now, heads: { count: heads.size, root: heads.root } },
        // What was let go stays so.
        ...{
          removals: tip?.removals ?? { count: 0, root: HeadSet.empty.root },
          policy: this.#policy(),
          time: clock.now(),
        },
        ...this.#right(),
      },
      home.secret,
    )
    const next = openCheckpoint(bytes, home.fleet, home.rootKey)
    catalog.write(() => chain.append(next))
    this.#listed = { tip: next.hash, heads }
  }

  /** What says that this host signs now. */
  #right(): Pick<CheckpointBody, 'delegation' | 'handovers'> {
    const { home } = this.#parts
    const { body, delegations, term } = home.membership()
    const first = delegations.find((one) => one.duty === 'coordinator' && one.term === term && one.text !== '')
    if (!home.coordinates || !first)
      throw new ImagerError('NOT_ALLOWED', { what: 'This term has another coordinator', role: 'coordinator' })
    return { delegation: first.text, ...(body.handovers?.length && { handovers: body.handovers }) }
  }

  async #offer(): Promise<boolean> {
    const { home, catalog } = this.#parts
    const tip = catalog.chain.tip()
    if (!tip) return false
    if (tip.quorum) return true
    const witnesses = this.#witnesses.all()
    const { reached, signed, dissent, unsigned } = await offerTip(tip, witnesses, this.#lost, {
      ...{ home, catalog },
      isQuorum: (hosts) => this.#witnesses.isQuorum(hosts),
      isNewMembership: this.#witnesses.isNewMembership,
      positions: this.#positions(),
      entry: (id) => this.#seal(id),
      onLate: (cosignature) => void this.#late.push(cosignature),
    })
    this.#unsigned = reached ? [] : unsigned
    // A commit is a sync: what came late waits for one that is due anyway.
    const late = this.#late
    this.#late = []
    catalog.write(() => {
      for (const { n, witness, bytes } of [...late, ...signed]) catalog.chain.keepCosignature(n, witness, bytes)
      if (!reached) return
      catalog.chain.noteQuorum(tip.n)
      this.#witnesses.noteQuorum()
    })
    if (dissent.length > 0) this.#doubt(dissent)
    return reached
  }

  #positions(): Map<Hex, number> {
    const positions = this.#parts.catalog.chain.positions()
    for (const { n, witness } of this.#late) positions.set(witness, Math.max(n, positions.get(witness) ?? 0))
    return positions
  }

  #seal(id: HeadId): Buffer | undefined {
    const name = `${id.appliance}${id.snapshot}`
    const { catalogKey } = this.#parts.home
    const row = this.#sealed.has(name) || !catalogKey ? undefined : this.#parts.catalog.entries.of(id)
    if (row && catalogKey) this.#sealed.set(name, sealCatalogEntry(row, catalogKey))
    const sealed = this.#sealed.get(name)
    for (const [oldest] of this.#sealed) if (this.#sealed.size > SEALED_KEPT) this.#sealed.delete(oldest)
    return sealed
  }

  #doubt(dissent: readonly Dissent[]): void {
    const [{ witness, why }] = dissent as [Dissent]
    this.#parts.say(`${witness.name} refused to sign the list of snapshots: ${why}`)
    // With the next round: a witness that goes on refusing must not keep two hosts busy.
    this.#phase = { kind: 'asking', answered: [], asked: false }
  }

  // Asking.

  async #ask(): Promise<void> {
    for (let round = 0; round < NEWS_ROUNDS; round++) {
      if (this.#witnesses.all().length === 0) return this.#settle()
      const replies = await this.#witnesses.ask()
      if (!takeNews(replies, this.#parts.home))
        return this.#witnesses.named.length === 0 ? this.#settle() : this.#heed(replies)
      if (!this.#parts.home.coordinates) {
        this.#phase = { kind: 'replaced' }
        return
      }
      this.#parts.onMembership()
    }
  }

  async #heed(replies: readonly Reply[]): Promise<void> {
    for (const { policies } of replies) takePolicies(this.#parts, policies)
    await this.#takeOver(replies)
    const answered = replies.filter(({ failure }) => !failure).map(({ witness }) => witness.host)
    if (!this.#witnesses.isQuorum(answered)) {
      this.#phase = { kind: 'asking', answered, asked: true }
      return
    }
    const tip = this.#tip()
    if (!this.#shown.isSettled(tip, answered.length === this.#witnesses.all().length)) {
      this.#phase = { kind: 'asking', answered, asked: true, shown: true }
      return
    }
    // What they signed since they were set back has lost to what was shown: they are given its proof.
    if (this.#tip()?.hash !== tip?.hash) {
      for (const { witness, held } of replies) if (held) this.#lost.set(witness.host, held.checkpoint.hash)
    }
    const { catalog } = this.#parts
    const missing = this.#unforgiven()
    if (missing.length > 0) {
      this.#phase = { kind: 'behind', missing, tried: false }
      await this.#parts.restore(catalog.chain.missing(), this.#witnesses.all())
      const left = this.#unforgiven()
      this.#phase = { kind: 'behind', missing: left, tried: true }
      this.#parts.say(
        `${missing.length - left.length} snapshots were brought back from the peers, ${left.length} were not`,
      )
      if (left.length > 0) return
    }
    this.#settle()
  }

  #settle(): void {
    this.#namedOnly = this.#parts.catalog.chain.missing()
    this.#phase = { kind: 'current' }
  }

  /** Whatever they hold that is not known here: their heads, and the chain that most of them can follow. */
  async #takeOver(replies: readonly Reply[]): Promise<void> {
    const { home, catalog } = this.#parts
    const { chain } = catalog
    const own = chain.links().map(({ bytes }) => openCheckpoint(bytes, home.fleet, home.rootKey))
    const known = new Set(own.map((link) => link.hash))
    const held = replies.flatMap((reply) => (reply.held ? [{ ...reply.held, witness: reply.witness }] : []))
    const lineage = chooseBase(
      own,
      held.map(({ checkpoint }) => checkpoint),
    )
    if (!lineage) return
    const news = held.filter(({ checkpoint }) => !known.has(checkpoint.hash))
    const sets = await Promise.all(news.map(({ witness, checkpoint }) => witness.fetchHeads(checkpoint)))
    const { base, line } = lineage
    const isOwn = base.hash === own.at(-1)?.hash
    const listed = sets[news.findIndex(({ checkpoint }) => checkpoint.hash === base.hash)]
    catalog.write(() => {
      if (!isOwn) chain.exchange(line, listed ? decodeHeadIds(listed.bytes()) : [])
      for (const set of sets) if (set) chain.find(decodeHeadIds(set.bytes()))
      this.#takeCosignatures(held)
      this.#noteSetBack(own.at(-1), base, isOwn)
      this.#forgive(base)
    })
    this.#lost.clear()
    for (const { witness, checkpoint } of held) {
      if (!line.some(({ hash }) => hash === checkpoint.hash) && !known.has(checkpoint.hash)) {
        this.#lost.set(witness.host, checkpoint.hash)
      }
    }
  }

  #takeCosignatures(held: readonly { witness: Witness; checkpoint: Checkpoint; cosignature: Buffer }[]): void {
    const { chain } = this.#parts.catalog
    for (const { n, hash, quorum } of chain.links()) {
      for (const one of held) {
        if (one.checkpoint.hash === hash) chain.keepCosignature(n, one.witness.host, one.cosignature)
      }
      if (!quorum && this.#witnesses.isQuorum(chain.cosignatures(n).keys())) chain.noteQuorum(n)
    }
  }

  #noteSetBack(tip: Checkpoint | undefined, base: Checkpoint, isOwn: boolean): void {
    const { home, catalog } = this.#parts
    const missing = catalog.chain.missing().length
    if (isOwn && missing === 0) return
    const from = tip ? `checkpoint ${tip.sequence} of term ${tip.term}` : 'no checkpoint'
    const lost = missing > 0 ? `; ${formatCount(missing, 'snapshot')} are not known here` : ''
    const what = `This coordinator stood at ${from}, its witnesses at ${base.sequence} of term ${base.term}${lost}`
    this.#parts.say(what)
    catalog.registry.record('alarm', home.host, what)
  }

  /** A recovery has begun a new term: what it did not find is listed by name from then on. */
  #forgive(base: Checkpoint): void {
    const { home, catalog } = this.#parts
    if (base.term >= home.membership().term) return
    const missing = Buffer.from(JSON.stringify(catalog.chain.missing().map(({ snapshot }) => snapshot)))
    catalog.registry.setDocument(NAMED_ONLY, home.fleet, home.membership().term, missing)
  }

  #unforgiven(): HeadId[] {
    const { home, catalog } = this.#parts
    const kept = catalog.registry.document(NAMED_ONLY, home.fleet)
    const forgiven = new Set(kept ? (JSON.parse(kept.bytes.toString()) as Hex[]) : [])
    return catalog.chain.missing().filter(({ snapshot }) => !forgiven.has(snapshot))
  }

  // Saying.

  #tip(): Checkpoint | undefined {
    const { home, catalog } = this.#parts
    const tip = catalog.chain.tip()
    return tip && openCheckpoint(tip.bytes, home.fleet, home.rootKey)
  }

  /** Is there anything to sign, or to have signed? */
  #isDue(): boolean {
    if (this.#witnesses.named.length === 0) return false
    const { home, catalog } = this.#parts
    if (!catalog.chain.tip()?.quorum) return true
    const tip = this.#tip()
    const isSaid = tip?.membership === toHex(hash(home.membership().bytes)) && tip.policy === this.#policy()
    return !isSaid || this.#waits()
  }

  /** BLAKE3 of the one in force. */
  #policy(): Hex | null {
    return policyInForce(this.#parts)?.hash ?? null
  }

  /** Are there heads that no quorum has signed, and somebody who should? */
  #waits(): boolean {
    if (this.#witnesses.named.length === 0) return false
    const { chain } = this.#parts.catalog
    return chain.unlisted().length > 0 || chain.heads(chain.cosigned()?.n ?? 0).length > 0
  }

  #trouble(): ImagerError | undefined {
    // Peers that do not watch it are asked who belongs to the fleet, and no more.
    if (this.#phase.kind === 'asking' && this.#witnesses.named.length === 0) return undefined
    return this.#phase.kind === 'replaced' ? replaced(this.#parts.home) : troubleOf(this.#phase, this.#outlook())
  }

  #outlook(): Outlook {
    const peer = this.#witnesses.all()[0]?.addresses[0] ?? 'HOST:7421'
    const recover = `\`imager recover --words-file words.txt --peer ${peer} --state ${this.#parts.home.state}\``
    return { named: this.#witnesses.named, recover }
  }
}
