/**
 * Who belongs to the fleet, and what they may do. It takes two: the coordinator signs the membership, and each
 * host in it is there by the word of an enroller (admission.ts), both of the membership's own term; or the root, alone. So a host
 * that a recovery replaced can sign nothing that counts as newer. Ordered by (term, handovers, sequence); the root signs the first
 * of each term, and that has sequence 1 (docs/formats/membership.md).
 */
import * as v from 'valibot'
import { ImagerError } from '../base/errors.js'
import { type Hex, toHex } from '../base/ids.js'
import { hash, type SecretHandle } from '../native.js'
import {
  type Admin,
  type Admins,
  adminOf,
  ListedAdmin,
  MOST_ADMINS,
  MOST_DISMISSALS,
  type NamedAdmin,
  openAdmins,
  openDismissal,
  sealAdmin,
} from './admins.js'
import { Admitted, type Admitters, admit, hostOf, type OpenedRemoval, openAdmission, openRemoval } from './admission.js'
import { type Delegation, type Duty, openDelegation, signDelegation } from './delegation.js'
import { Base64, Count, Id, isServed, Key, type Role, Term } from './fields.js'
import { goesOn, Handed, type Handover, handDown, isNewer, MOST_HANDOVERS, openHandovers } from './handover.js'
import {
  type Label,
  LabelKey,
  type NameReader,
  type ReadsNames,
  SealedLabel,
  SealedTo,
  WORDS,
  withoutLabel,
} from './labels.js'
import { Line, openReplacement } from './replacement.js'
import { openStatement, signStatement } from './statement.js'

const Listed = v.strictObject({
  ...Admitted.entries,
  /** Name and failure domain (labels.ts). */
  label: SealedLabel,
})
const MembershipBody = v.strictObject({
  fleet: Id,
  sequence: v.pipe(Count, v.minValue(1)),
  term: Term,
  /** Each says something else: who repeats one has said it once. */
  delegations: v.pipe(v.array(Base64(1024)), v.maxLength(256)),
  /** In the order in which they came. */
  hosts: v.pipe(v.array(Listed), v.maxLength(2000)),
  /** Of this term. They stay, so that no admission that ended comes back. */
  removals: v.pipe(v.array(Base64(1024)), v.maxLength(2000)),
  /** The key of the labels, for each that needs names. */
  names: v.pipe(v.array(SealedTo), v.maxLength(2000)),
  /** Peers that watch the coordinator. */
  witnesses: v.exactOptional(v.pipe(v.array(Key), v.maxLength(7))),
  /** Of this term, in order: to whom the coordinator's place went. */
  handovers: v.exactOptional(v.pipe(v.array(Handed), v.maxLength(MOST_HANDOVERS))),
  /** Of all terms: whose place a server took. */
  replacements: v.exactOptional(v.pipe(v.array(Base64(1024)), v.maxLength(500))),
  admins: v.exactOptional(v.pipe(v.array(ListedAdmin), v.maxLength(MOST_ADMINS))),
  /** Of this term. They stay, so that no admin who was dismissed comes back. */
  dismissals: v.exactOptional(v.pipe(v.array(Base64(1024)), v.maxLength(MOST_DISMISSALS))),
})
export type MembershipBody = v.InferOutput<typeof MembershipBody>
/** Before its names are sealed. */
export type ListedHost = Admitted & Label
export interface MembershipDraft extends Omit<MembershipBody, 'hosts' | 'names' | 'admins'> {
  hosts: ListedHost[]
  admins?: NamedAdmin[]
}
export interface MembershipHost extends Label {
  readonly host: Hex
  /** X25519: keys for this host are sealed to it. */
  readonly sealing: Hex
  readonly role: Role
}

/** The root makes so many. */
export const MOST_ENROLLERS = 3

/** A delegation, and the statement that says so, in base64: of an enroller's who left, the one that made him; of another's none. */
export interface SignedDelegation extends Delegation {
  readonly text: string
}

export interface MembershipParts {
  readonly hosts: readonly MembershipHost[]
  /** What lets each of them in. */
  readonly admitted: ReadonlyMap<Hex, Admitted>
  /** Whose word that is: of an enroller, an admin or the root. */
  readonly admittedBy: ReadonlyMap<Hex, Hex>
  readonly removals: readonly OpenedRemoval[]
  /** BLAKE3 of admissions that are over. */
  readonly removed: ReadonlySet<Hex>
  /** Who took whose place. */
  readonly line: Line
  readonly admins: readonly Admin[]
  /** BLAKE3 of delegations of admins that are over. */
  readonly dismissed: ReadonlySet<Hex>
  /** Each once. */
  readonly delegations: readonly SignedDelegation[]
  readonly handovers: readonly Handover[]
  /** To whom that duty went last in the membership's term. */
  readonly coordinator: Hex
  /** The root, or the coordinator. */
  readonly signer: Hex
}

/** Made by `openMembership` only, so that one in hand is a verified one. */
export class Membership {
  readonly #byHost: ReadonlyMap<Hex, MembershipHost>

  constructor(
    readonly bytes: Buffer,
    readonly body: MembershipBody,
    readonly parts: MembershipParts,
  ) {
    this.#byHost = new Map(parts.hosts.map((host) => [host.host, host]))
  }

  get hosts(): readonly MembershipHost[] {
    return this.parts.hosts
  }

  get delegations(): readonly SignedDelegation[] {
    return this.parts.delegations
  }

  get coordinator(): Hex {
    return this.parts.coordinator
  }

  get handovers(): readonly Handover[] {
    return this.parts.handovers
  }

  get handed(): number {
    return this.handovers.length
  }

  get line(): Line {
    return this.parts.line
  }

  get signer(): Hex {
    return this.parts.signer
  }

  get fleet(): Hex {
    return this.body.fleet
  }

  get sequence(): number {
    return this.body.sequence
  }

  get term(): number {
    return this.body.term
  }

  get enrollers(): readonly Hex[] {
    return this.delegations
      .filter(({ duty, term }) => duty === 'enroller' && term === this.term)
      .map(({ host }) => host)
  }

  /** To be signed again, with a change; of who can read names only. */
  draft(): MembershipDraft {
    const { names: _, admins: listed, ...body } = this.body
    const hosts = this.hosts.flatMap(({ host, name, domain }) => {
      const admitted = this.parts.admitted.get(host)
      return admitted ? [{ ...admitted, name, domain }] : []
    })
    const admins = this.admins.map(({ delegation, sealing, name }) => ({ delegation, sealing, name }))
    return { ...body, hosts, ...(listed ? { admins } : {}) }
  }

  /** Persons whose word counts. */
  get admins(): readonly Admin[] {
    return this.parts.admins
  }

  /** Whose word is an admin's. */
  adminsBy(rootKey: Hex): Admins {
    const { fleet, term, admins } = this
    return { fleet, term, isAdmin: (signer) => signer === rootKey || admins.some(({ key }) => key === signer) }
  }

  /** Whose word lets hosts in. */
  admitters(rootKey: Hex): Admitters {
    const { fleet, term, enrollers } = this
    const { isAdmin } = this.adminsBy(rootKey)
    return { fleet, term, mayAdmit: (signer) => isAdmin(signer) || enrollers.includes(signer) }
  }

  get witnesses(): readonly Hex[] {
    return this.body.witnesses ?? []
  }

  find(host: Hex): MembershipHost | undefined {
    return this.#byHost.get(host)
  }

  role(host: Hex): Role | undefined {
    return this.#byHost.get(host)?.role
  }

  /** Did the root give this duty to the host for the present term, or for an earlier one that is still known? */
  delegated(host: Hex, duty: Duty, term: number = this.term): boolean {
    return this.delegations.some((one) => one.host === host && one.duty === duty && one.term === term)
  }

  newerThan(other: Membership | undefined): boolean {
    return isNewer(this, other)
  }
}

/**
 * What follows on a membership: by whom it is signed, `openMembership` knows; this knows what may be missing in it. A host goes only
 * by an enroller's or an admin's word, an admin by another admin's, and what these say is not taken back. Even with it, more than half of the peers do not go at once: a
 * coordinator in foreign hands could hide the peers from each other, and them from a recovery. The root may all. Throws
 * FORGED, MEMBERSHIP_SHRINKS. Pure.
 */
export function requireFollows(held: Membership, offered: Membership, rootKey: Hex): void {
  const forged = (what: string) => new ImagerError('FORGED', { what: `A membership ${what}` })
  if (offered.signer === rootKey) return
  const isLeftOut = (former: Hex) => !offered.line.isFormer(former)
  if (held.line.former.some(isLeftOut)) throw forged('leaves out who took the place of a host')
  if (offered.term === held.term) {
    if (!goesOn(offered.handovers, held.handovers)) throw forged('leaves out to whom the coordinator gave its place')
    const hasLeft = (host: Hex) => offered.handovers.some(({ from }) => from === host)
    if ([...held.parts.removed].some((one) => !offered.parts.removed.has(one))) throw forged('takes back a removal')
    const isGone = ({ host }: MembershipHost) =>
      !offered.find(host) &&
      !offered.parts.removed.has(admissionOf(held, host)) &&
      !offered.line.isFormer(host) &&
      !hasLeft(host)
    if (held.hosts.some(isGone)) throw forged('leaves out a host that no enroller removed')
    const { dismissed, admins } = offered.parts
    if ([...held.parts.dismissed].some((one) => !dismissed.has(one))) throw forged('takes back a dismissal')
    const isKept = ({ id }: Admin) => dismissed.has(id) || admins.some((one) => one.id === id)
    if (!held.admins.every(isKept)) throw forged('leaves out an admin whom no admin dismissed')
  }
  const peers = held.hosts.filter(({ role }) => role === 'peer')
  const gone = peers.filter(({ host }) => offered.role(host) !== 'peer')
  if (!isMost(gone.length, peers.length)) return
  throw new ImagerError('MEMBERSHIP_SHRINKS', { gone: gone.length, peers: peers.length })
}

/** BLAKE3 of what lets the host in; empty: nothing does. */
export function admissionOf(membership: Membership, host: Hex): Hex {
  const admitted = membership.parts.admitted.get(host)
  return admitted ? toHex(hash(Buffer.from(admitted.admission, 'base64'))) : ''
}

/** More than half of them, and more than one. Pure. */
export function isMost(part: number, all: number): boolean {
  return part > 1 && 2 * part > all
}

const NAME_LENGTH = 64

/** The name, or `name-2`, `name-3`, ...: cloned PCs come with one name. Pure. */
export function uniqueName(name: string, taken: readonly string[]): string {
  for (let number = 2, one = name; ; number++) {
    if (!taken.some((other) => sameName(other, one))) return one
    const ending = `-${number}`
    one = `${name.slice(0, NAME_LENGTH - ending.length)}${ending}`
  }
}

/** Host names know no case. */
export function sameName(a: string, b: string): boolean {
  return a.toLowerCase() === b.toLowerCase()
}

/**
 * By its name, or the beginning of its key, which alone tells apart hosts that share a name from before names were unique.
 * Throws NO_SUCH_HOST. Pure.
 */
export function findHost<H extends Pick<MembershipHost, 'host' | 'name'>>(hosts: readonly H[], wanted: string): H {
  const named = hosts.filter(({ name }) => name === wanted)
  const isPrefix = /^[0-9a-f]{4,64}$/.test(wanted)
  const found = named.length > 0 ? named : hosts.filter(({ host }) => isPrefix && host.startsWith(wanted))
  if (found.length > 1) {
    const keys = found.map(({ host }) => host.slice(0, 16))
    throw new ImagerError('NO_SUCH_HOST', { host: `${wanted} alone: say which by its key, ${keys.join(' or ')}` })
  }
  if (!found[0]) throw new ImagerError('NO_SUCH_HOST', { host: wanted })
  return found[0]
}

/** The names in it are for these readers. */
export function signMembership(draft: MembershipDraft, signer: SecretHandle, readers: readonly NameReader[]): Buffer {
  const key = LabelKey.make()
  const hosts = draft.hosts.map(({ name, domain, ...admitted }) => {
    return { ...admitted, label: key.seal(hostOf(admitted), { name, domain }) }
  })
  const { admins: named, ...rest } = draft
  const admins = named?.map((one) => sealAdmin(one, adminOf(one.delegation), key))
  const body = { ...rest, hosts, names: key.sealTo(readers, draft.fleet), ...(admins ? { admins } : {}) }
  return signStatement('membership', body, signer)
}

/** Servers, admins and their hosts, coordinator and enrollers, who deal with hosts by name; and the recovery words. */
export function readersOf(
  hosts: readonly MembershipHost[],
  enrollers: readonly Hex[],
  rootSealing: Hex,
  admins: readonly Pick<Admin, 'key' | 'sealing'>[] = [],
): NameReader[] {
  const named = hosts.filter(({ host, role }) => isServed(role) || enrollers.includes(host))
  const persons = admins.filter(({ key }) => !named.some(({ host }) => host === key))
  return [
    { reader: WORDS, sealing: rootSealing },
    ...named.map(({ host, sealing }) => ({ reader: host, sealing })),
    ...persons.map(({ key, sealing }) => ({ reader: key, sealing })),
  ]
}

/**
 * Throws CORRUPT, UNSUPPORTED or FORGED; a host listed twice is CORRUPT. Without `as`, or where it is not for that reader, each
 * host is called by its key.
 */
export function openMembership(bytes: Uint8Array, fleet: Hex, rootKey: Hex, as?: ReadsNames): Membership {
  const { body, signer } = openStatement('membership', MembershipBody, bytes)
  if (body.fleet !== fleet) throw new ImagerError('FORGED', { what: 'A membership belongs to another fleet' })
  const { term } = body
  const given = openEach(body.delegations, fleet, rootKey)
  const corrupt = (what: string) => new ImagerError('CORRUPT', { what: `A membership ${what}` })
  if (given.some((one) => one.term > term)) throw corrupt('is of an earlier term than what it delegates')
  const [first, second] = given.filter((one) => one.duty === 'coordinator' && one.term === term)
  if (!first) throw corrupt('names no coordinator of its term')
  if (second) throw corrupt('names two coordinators of its term')
  const handovers = openHandovers(body.handovers ?? [], { fleet, term, rootKey, first: first.host })
  const coordinator = handovers.at(-1)?.to ?? first.host
  if (signer !== rootKey && signer !== coordinator) {
    throw new ImagerError('FORGED', { what: 'A membership is not signed by the coordinator that it names' })
  }
  const delegations = distinct(handDown(given, term, handovers))
  const enrolling = delegations.filter((one) => one.duty === 'enroller' && one.term === term)
  const enrollers = new Set(enrolling.map(({ host }) => host))
  if (enrollers.size > MOST_ENROLLERS) throw corrupt('names too many enrollers')
  const labels = as && LabelKey.open(body.names, fleet, as)
  const admins = openAdmins(body.admins ?? [], { fleet, term, rootKey }, labels)
  const persons = new Set([rootKey, ...admins.map(({ key }) => key)])
  const asAdmin = { fleet, term, isAdmin: (signer: Hex) => persons.has(signer) }
  const dismissals = (body.dismissals ?? []).map((text) => openDismissal(Buffer.from(text, 'base64'), asAdmin))
  const dismissed = new Set(dismissals.map(({ delegation }) => delegation))
  if (admins.some(({ id }) => dismissed.has(id))) {
    throw new ImagerError('FORGED', { what: 'A membership lists an admin who was dismissed' })
  }
  const by = { fleet, term, mayAdmit: (signer: Hex) => persons.has(signer) || enrollers.has(signer) }
  const removals = [...new Set(body.removals)].map((text) => openRemoval(Buffer.from(text, 'base64'), by))
  const removed = new Set(removals.map(({ admission }) => admission))
  const opened = body.hosts.map((one) => openAdmission(one, by))
  if (opened.some(({ admission }) => removed.has(admission))) {
    throw new ImagerError('FORGED', { what: 'A membership lists a host that was removed' })
  }
  const line = new Line((body.replacements ?? []).map((text) => openReplacement(text, asAdmin)))
  if (opened.some(({ host }) => line.isFormer(host))) {
    throw new ImagerError('FORGED', { what: 'A membership lists a host whose place another took' })
  }
  const tokens = opened.flatMap(({ token }) => token ?? [])
  if (new Set(tokens).size !== tokens.length) throw corrupt('lists two hosts by one token')
  const hosts = opened.map(({ host, sealing, role }, at) => {
    const { name, domain } = labels?.open(host, body.hosts[at]?.label ?? '') ?? withoutLabel(host)
    // Who was handed the duty was let in as something else.
    return { host, sealing, name, role: host === coordinator ? ('coordinator' as const) : role, domain }
  })
  if (new Set(hosts.map(({ host }) => host)).size !== hosts.length) throw corrupt('lists a host twice')
  if (!areWitnesses(hosts, body.witnesses)) throw corrupt('names witnesses that cannot be')
  const admitted = new Map(opened.map(({ host }, at) => [host, admittedOf(body.hosts[at] as Admitted)]))
  const admittedBy = new Map(opened.map((one) => [one.host, one.by]))
  const parts = { hosts, admitted, admittedBy, removals, removed, line, admins, dismissed, delegations }
  return new Membership(Buffer.from(bytes), body, { ...parts, handovers, coordinator, signer })
}

function admittedOf({ admission, voucher }: Admitted): Admitted {
  return { admission, ...(voucher === undefined ? {} : { voucher }) }
}

/** A membership holds 256 delegations; each term leaves a holder behind. */
const HOLDERS_KEPT = 200

/**
 * What says who held the shared keys, the latest first: what they sealed to recovery stays believed. Of who got them by a handover, which
 * ends with its term, the root says it.
 */
export function formerHolders({ fleet, delegations }: Membership, root: SecretHandle): string[] {
  const holders = delegations.filter(({ duty }) => duty === 'holder').sort((a, b) => b.term - a.term)
  return holders.slice(0, HOLDERS_KEPT).map(({ text, term, duty, host }) => {
    return text || signDelegation({ fleet, term, duty, host }, root).toString('base64')
  })
}

/** As the root has them, which begins a term: each let in by itself. */
export function admitAll(hosts: readonly MembershipHost[], fleet: Hex, term: number, root: SecretHandle): ListedHost[] {
  return hosts.map(({ host, sealing, role, name, domain }) => {
    return { ...admit({ fleet, term, host, sealing, role }, root), name, domain }
  })
}

/** Each once, however often it is repeated: so their count says nothing, and there is nothing to fill up. */
function openEach(texts: readonly string[], fleet: Hex, rootKey: Hex): SignedDelegation[] {
  const opened = [...new Set(texts)].map((text) => {
    return { ...openDelegation(Buffer.from(text, 'base64'), fleet, rootKey), text }
  })
  return distinct(opened)
}

/** One for each duty, host and term. Pure. */
export function distinct<D extends Delegation>(delegations: readonly D[]): D[] {
  return [...new Map(delegations.map((one) => [`${one.duty} ${one.host} ${one.term}`, one])).values()]
}

function areWitnesses(hosts: readonly MembershipHost[], witnesses: readonly Hex[] = []): boolean {
  const peers = new Set(hosts.filter(({ role }) => role === 'peer').map(({ host }) => host))
  return (
    [0, 3, 5, 7].includes(witnesses.length) &&
    new Set(witnesses).size === witnesses.length &&
    witnesses.every((host) => peers.has(host))
  )
}

/**
 * Who shall watch the coordinator: 7, 5 or 3 peers, as many as there are, or nobody; a fleet that grows has more. Those who do it
 * already stay; besides them who has been a member for longest, given first, and where that can be each of another failure domain. Pure.
 */
export function chooseWitnesses(
  hosts: readonly Pick<MembershipHost, 'host' | 'role' | 'domain'>[],
  before: readonly Hex[] = [],
): Hex[] {
  const peers = hosts.filter(({ role }) => role === 'peer')
  const staying = peers.filter(({ host }) => before.includes(host))
  const count = [7, 5, 3].find((one) => one <= peers.length) ?? 0
  if (staying.length === before.length && before.length >= count) return [...before]
  const others = peers.filter((one) => !staying.includes(one))
  const domains = new Set(staying.map(({ domain }) => domain))
  const apart = others.filter(({ domain }) => !domains.has(domain) && domains.add(domain))
  const rest = others.filter((one) => !apart.includes(one))
  return [...staying, ...apart, ...rest].slice(0, count).map(({ host }) => host)
}
