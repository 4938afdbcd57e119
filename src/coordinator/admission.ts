/**
 * How a host becomes a member, gets another name, and is one no more: a token that an enroller vouched for, an admission that its
 * key signed, a newly signed membership, and for an appliance its keys. Where another host is the enroller, this one can neither
 * make a token nor remove anybody. Token, member and membership change in one transaction; the copy in the state
 * folder follows, and is caught up at the next start if that was cut short.
 */
import { hasCode, ImagerError } from '../base/errors.js'
import { type Hex, toHex } from '../base/ids.js'
import type { LocalCatalog } from '../catalog/local.js'
import { adminOf, MOST_ADMINS, type NamedAdmin, openAppointment, openDismissal } from '../keys/admins.js'
import { type Admitted, type Admitters, type OpenedAdmission, openAdmission, openVoucher } from '../keys/admission.js'
import { makeRemoval, makeToken } from '../keys/enroller.js'
import { deriveTrailerKey, sealEntry } from '../keys/entry.js'
import type { Role } from '../keys/fields.js'
import { isNewer, type Place } from '../keys/handover.js'
import type { Home } from '../keys/home.js'
import {
  chooseWitnesses,
  findHost,
  type Membership,
  openMembership,
  readersOf,
  requireFollows,
  sameName,
  signMembership,
  uniqueName,
} from '../keys/membership.js'
import { openReplacement, type SignedReplacement } from '../keys/replacement.js'
import { encodeToken, isJoinRole, type JoinRole, tokenId } from '../keys/token.js'
import { hash } from '../native.js'
import type { Answer, Request } from './calls.js'
import type { DomainKey } from './domain-key.js'

export interface AdmissionParts {
  home: Home
  catalog: LocalCatalog
  domainKey: DomainKey
  /** Where joining hosts reach this coordinator. */
  address(): string
  /** A newer membership is in force: tell whoever must know. */
  onMembership(bytes: Buffer): void
}

interface Change {
  readonly joined?: { readonly host: Hex; readonly admitted: Admitted }
  readonly removal?: Buffer
  readonly replacement?: SignedReplacement | undefined
  readonly appointed?: NamedAdmin
  readonly dismissed?: Dismissed
}

interface Dismissed {
  readonly id: Hex
  readonly dismissal: string
  /** By host: what lets it in instead of his word. */
  readonly anew: ReadonlyMap<Hex, Admitted>
  /** All that are of this term, none of them his. */
  readonly removals: readonly string[]
  /** The same of all terms. */
  readonly replacements: readonly string[]
}

const MEMBERSHIP = 'membership'
const STEP = 'membership-step'

export class Admission {
  readonly #parts: AdmissionParts
  #hasAgreed = false

  constructor(parts: AdmissionParts) {
    this.#parts = parts
    this.catchUp()
  }

  /**
   * Brings state folder and catalog to the newer of their two memberships, once. While nothing can be written, nothing is done.
   */
  catchUp(): void {
    try {
      if (!this.#hasAgreed) this.#agree()
      this.#hasAgreed = true
    } catch (error) {
      if (!hasCode(error, 'COORDINATOR_READ_ONLY', 'STATE_DAMAGED')) throw error
    }
  }

  /** A newer membership is in the state folder: it was found with others, as this coordinator was set back. */
  adopt(): void {
    this.#hasAgreed = false
    this.catchUp()
  }

  #agree(): void {
    const { home, catalog } = this.#parts
    const kept = catalog.registry.document(MEMBERSHIP, home.fleet)
    if (kept) home.saveMembership(kept.bytes)
    const now = home.membership()
    catalog.write(() => {
      catalog.members.admitOnly(now.hosts)
      catalog.registry.setDocument(MEMBERSHIP, home.fleet, now.sequence, now.bytes)
      if (now.signer === home.rootKey) this.#keepStep(now)
    })
  }

  /**
   * The oldest kept one above what a host knows, else the newest. Who was away while many left, one after another, follows step by
   * step: at once it would refuse.
   */
  after(known?: Place): Buffer {
    const { home } = this.#parts
    if (!known) return home.membership().bytes
    return (this.steps().find((one) => isNewer(one, known)) ?? home.membership()).bytes
  }

  /** A term that the root began. Throws FORGED where it did not, HOST_REFUSED where a member is missing in it. */
  beginTerm(bytes: Buffer): void {
    const { home, catalog } = this.#parts
    const offered = home.openMembership(bytes)
    if (offered.signer !== home.rootKey)
      throw new ImagerError('FORGED', { what: 'The root did not sign that membership' })
    const refuse = (why: string) => new ImagerError('HOST_REFUSED', { host: 'The coordinator', why })
    if (offered.coordinator !== home.host) throw refuse('that membership names another coordinator')
    if (!offered.newerThan(this.#newest())) throw refuse('it knows a newer membership')
    if (catalog.members.members().some(({ host }) => !offered.find(host))) throw refuse('a host joined meanwhile')
    catalog.write(() => {
      catalog.members.admitOnly(offered.hosts)
      catalog.registry.setDocument(MEMBERSHIP, home.fleet, offered.sequence, bytes)
      const names = offered.enrollers.map((host) => catalog.members.name(host))
      catalog.registry.record(
        'fleet',
        home.host,
        `The root began term ${offered.term}: ${names.join(', ')} let hosts in`,
      )
      this.#keepStep(offered)
    })
    this.#publish(bytes)
  }

  /** In order. */
  steps(): Membership[] {
    const { home, catalog } = this.#parts
    return stepsOf(home, catalog)
  }

  #keepStep({ bytes, sequence }: Membership): void {
    this.#parts.catalog.registry.setDocument(STEP, toHex(hash(bytes)), sequence, bytes)
  }

  /** A token of this host's own. Throws NOT_ALLOWED where another host is the enroller. */
  invite(role: JoinRole): Answer<'invite'> {
    const { home, catalog } = this.#parts
    const expires = catalog.registry.tokenExpiry()
    const { token, voucher } = makeToken(home, { role, address: this.#parts.address(), expires })
    return { token: encodeToken(token), expires: this.vouch(voucher) }
  }

  /** Takes what an enroller says of a token that it made; gives until when. Throws FORGED. */
  vouch(voucher: Buffer): number {
    const { home, catalog } = this.#parts
    const { token, role, expires } = openVoucher(voucher, home.membership().admitters(home.rootKey))
    if (!isJoinRole(role)) throw new ImagerError('FORGED', { what: `Nobody joins as ${role}` })
    catalog.registry.addToken(tokenId(Buffer.from(token, 'hex')), voucher, role, expires)
    return expires
  }

  /** Throws WRONG_KEY; what exactly was wrong with a token is not told to a stranger beyond that. */
  join(host: Hex, request: Request<'join'>, admission: Buffer): Answer<'join'> {
    const { home, catalog, domainKey } = this.#parts
    const token = catalog.registry.token(request.token)
    if (!token) throw new ImagerError('WRONG_KEY', { what: 'This join token is unknown here, or has expired' })
    if (host === home.host) throw new ImagerError('WRONG_KEY', { what: 'The coordinator cannot join its own fleet' })
    const [text, voucher] = [admission.toString('base64'), token.voucher.toString('base64')]
    const { sealing, role } = this.#openJoin(host, { admission: text, voucher })
    const { domain, addresses } = request
    const place = this.#place(host, role, request.replacement)
    const others = catalog.members.members().filter((one) => one.host !== host && one.host !== place?.former)
    const name = uniqueName(
      request.name,
      others.map((one) => one.name),
    )
    const asked = name === request.name ? '' : `; it asked for ${request.name}, which is taken`
    const keys = role === 'appliance' ? this.#applianceKeys(host, sealing) : []
    const signed = catalog.registry.redeem(request.token, host, () => {
      catalog.members.admit({ host, sealing, name, role, domain, addresses })
      catalog.registry.record('join', host, `${name} joined as ${role}${asked}`)
      if (place) this.#inherit(place)
      return this.#sign({ joined: { host, admitted: { admission: text, voucher } }, replacement: place })
    })
    this.#publish(signed)
    if (place) domainKey.changeIfDue()
    return { name, keys: keys.map((key) => key.toString('base64')) }
  }

  /** Whose place it takes; undefined: nobody's, or it has it already. */
  #place(host: Hex, role: Role, text: string | undefined): SignedReplacement | undefined {
    if (text === undefined) return undefined
    const { home, catalog } = this.#parts
    const place = openReplacement(text, this.#newest().adminsBy(home.rootKey))
    const wrong = (what: string) => new ImagerError('FORGED', { what: `A replacement ${what}` })
    if (place.heir !== host) throw wrong('is for another host')
    const { line } = this.#newest()
    if (line.isFormer(place.former) && line.heirOf(place.former) === host) return undefined
    if (role !== 'appliance' || catalog.members.role(place.former) !== 'appliance') throw wrong('is not of two servers')
    return place
  }

  /** No member from now on, and what it stored is its heir's. */
  #inherit({ former, heir }: SignedReplacement): void {
    const { catalog } = this.#parts
    const name = catalog.members.formerName(former)
    catalog.inherit(former, heir)
    catalog.registry.dropTokensOf(former)
    catalog.registry.deliveries.forget(former)
    catalog.registry.record(
      'fleet',
      heir,
      `${catalog.members.name(heir)} took the place of ${name}: its backups go on there`,
    )
  }

  #openJoin(host: Hex, admitted: Admitted): OpenedAdmission {
    const { home } = this.#parts
    try {
      const opened = openAdmission(admitted, home.membership().admitters(home.rootKey))
      if (opened.host === host) return opened
    } catch (cause) {
      if (!hasCode(cause, 'FORGED', 'CORRUPT', 'UNSUPPORTED')) throw cause
      throw new ImagerError('WRONG_KEY', { what: 'The proof of this join token is wrong' }, { cause })
    }
    throw new ImagerError('WRONG_KEY', { what: 'The proof of this join token is wrong: it is of another host' })
  }

  /**
   * Signs a membership without the host; its shards count as missing. `removal`: what another host says, which is enroller. Throws
   * NO_SUCH_HOST, USAGE for the coordinator itself, NOT_ALLOWED without an enroller's word, and unless forced WOULD_LOSE where a
   * snapshot needs the host.
   */
  remove(wanted: string, force: boolean, given?: Buffer): Answer<'remove'> {
    const { home, catalog, domainKey } = this.#parts
    const { host, name, role } = findHost(catalog.members.members(), wanted)
    if (role === 'coordinator') {
      const what = 'A coordinator is not removed: `imager recover` puts another in its place'
      throw new ImagerError('USAGE', { what, verb: 'remove' })
    }
    this.#requireNoEnroller(host, name)
    const removal = given ?? makeRemoval(home, this.#newest(), host)
    const { snapshotsBelowTarget, signed } = catalog.write(() => {
      const effect = catalog.removeHost(host, home.host, force)
      catalog.registry.dropTokensOf(host)
      catalog.registry.deliveries.forget(host)
      catalog.registry.record('removal', host, `${name} was removed; it was a member as ${role}`)
      return { ...effect, signed: this.#sign({ removal }) }
    })
    this.#publish(signed)
    domainKey.changeIfDue()
    return { host: name, key: host, snapshotsBelowTarget }
  }

  /** Its word would go on counting: only the root takes it back, by a new term. */
  #requireNoEnroller(host: Hex, name: string): void {
    if (!this.#newest().delegated(host, 'enroller')) return
    const move = '`imager duties move enroller HOST --words-file FILE`'
    const what = `${name} is an enroller, and would go on letting hosts in: give that duty to another host first, ${move}`
    throw new ImagerError('USAGE', { what, verb: 'remove' })
  }

  /** A person's key becomes an admin's by the root's word. Throws FORGED, NAME_TAKEN, USAGE. */
  appoint({ name, sealing }: Request<'appoint'>, delegation: Buffer): Answer<'appoint'> {
    const { home, catalog } = this.#parts
    const { fleet, rootKey } = home
    const { term, admins, parts } = this.#newest()
    const { key, id } = openAppointment(delegation, { fleet, term, rootKey })
    const wrong = (what: string) => new ImagerError('USAGE', { what, verb: 'admin add' })
    if (parts.dismissed.has(id)) throw wrong('That key was an admin of this term, and is for good none: make another')
    const before = admins.find((one) => one.key === key)
    if (before?.name === name) return { name, key }
    if (before) throw wrong(`That key is the admin ${before.name} already: name another file with --admin-key`)
    if (admins.some((one) => sameName(one.name, name))) throw new ImagerError('NAME_TAKEN', { name })
    if (admins.length >= MOST_ADMINS) throw wrong(`A fleet has at most ${MOST_ADMINS} admins`)
    const signed = catalog.write(() => {
      catalog.registry.record('fleet', home.host, `${name} is an admin now (key ${key.slice(0, 16)}...)`)
      return this.#sign({ appointed: { delegation: delegation.toString('base64'), sealing, name } })
    })
    this.#publish(signed)
    return { name, key }
  }

  /** Throws FORGED where neither the root nor another admin says so, or not all is said again that he had said. */
  dismiss({ admissions, removals, replacements }: Request<'dismiss'>, dismissal: Buffer): Answer<'dismiss'> {
    const { home, catalog } = this.#parts
    const before = this.#newest()
    const by = before.admitters(home.rootKey)
    const { delegation: id } = openDismissal(dismissal, before.adminsBy(home.rootKey))
    const admin = before.admins.find((one) => one.id === id)
    if (!admin) throw new ImagerError('NOT_ADMIN', { what: 'Who is to be dismissed is no admin' })
    const anew = new Map(admissions.map((admission) => [admittedAgain(before, { admission }, by), { admission }]))
    const others = [...new Set(before.body.removals)].filter((_, at) => before.parts.removals[at]?.signer !== admin.key)
    const isHis = (text: string) => openReplacement(text, before.adminsBy(home.rootKey)).signer === admin.key
    const all = {
      ...{ id, dismissal: dismissal.toString('base64'), anew, removals: [...others, ...removals] },
      replacements: [...before.line.texts.filter((text) => !isHis(text)), ...replacements],
    }
    const signed = catalog.write(() => {
      catalog.registry.record(
        'fleet',
        home.host,
        `${admin.name} is no admin any more (key ${admin.key.slice(0, 16)}...)`,
      )
      return this.#sign({ dismissed: all })
    })
    this.#publish(signed)
    const letIn = [...anew.keys()].map((host) => catalog.members.name(host))
    return { name: admin.name, key: admin.key, letIn }
  }

  /** Throws NO_SUCH_HOST, NAME_TAKEN. */
  rename(wanted: string, name: string): Answer<'rename'> {
    const { catalog } = this.#parts
    const members = catalog.members.members()
    const { host, name: before } = findHost(members, wanted)
    if (members.some((one) => one.host !== host && sameName(one.name, name))) {
      throw new ImagerError('NAME_TAKEN', { name })
    }
    const signed = catalog.write(() => {
      catalog.members.rename(host, name)
      catalog.registry.record('rename', host, `${before} is called ${name} now`)
      return this.#sign()
    })
    this.#publish(signed)
    return { host: before, name, key: host }
  }

  /**
   * Signs the members of now under the next sequence number: those whom an enroller let in. Only in a transaction, so that no two
   * have the same one.
   */
  #sign({ joined, removal, replacement, appointed, dismissed }: Change = {}): Buffer {
    const { home, catalog } = this.#parts
    const before = this.#newest()
    const sequence = before.sequence + 1
    const members = catalog.members.inOrder()
    const admitted = new Map(before.parts.admitted)
    if (joined) admitted.set(joined.host, joined.admitted)
    for (const [host, by] of dismissed?.anew ?? []) admitted.set(host, by)
    const hosts = members.flatMap(({ host, name, domain }) => {
      const by = admitted.get(host)
      return by ? { ...by, name, domain } : []
    })
    const said = dismissed?.removals ?? before.body.removals
    const removals = [...said, ...(removal ? [removal.toString('base64')] : [])]
    const witnesses = chooseWitnesses(members, before.witnesses)
    const named = members.filter(({ host }) => admitted.has(host))
    const persons = [...before.admins.filter(({ id }) => id !== dismissed?.id), ...(appointed ? [appointed] : [])]
    const reading = persons.map(({ delegation, sealing }) => ({ key: adminOf(delegation), sealing }))
    const readers = readersOf(named, before.enrollers, home.rootSealing, reading)
    const admins = persons.map(({ delegation, sealing, name }) => ({ delegation, sealing, name }))
    const dismissals = [...(before.body.dismissals ?? []), ...(dismissed ? [dismissed.dismissal] : [])]
    const texts = [...(dismissed?.replacements ?? before.line.texts), ...(replacement ? [replacement.text] : [])]
    const places = texts.length > 0 ? { replacements: texts } : {}
    const draft = { ...before.draft(), sequence, hosts, removals, witnesses, admins, dismissals, ...places }
    const bytes = signMembership(draft, home.secret, readers)
    const signed = home.openMembership(bytes)
    requireFollows(before, signed, home.rootKey)
    catalog.registry.setDocument(MEMBERSHIP, home.fleet, sequence, bytes)
    if (before.hosts.some(({ host }) => !signed.find(host))) this.#keepStep(signed)
    return bytes
  }

  /** The catalog's is newer where the one in the state folder was not written any more. */
  #newest(): Membership {
    const { home, catalog } = this.#parts
    const kept = catalog.registry.document(MEMBERSHIP, home.fleet)
    const own = home.membership()
    const other = kept && home.openMembership(kept.bytes)
    return other?.newerThan(own) ? other : own
  }

  #publish(bytes: Buffer): void {
    this.#parts.home.saveMembership(bytes)
    this.#parts.onMembership(bytes)
  }

  /**
   * Keys of an appliance, sealed to it: the newest domain key D, and of the catalog key C only C_a, which is derived for it.
   */
  #applianceKeys(host: Hex, sealing: Hex): Buffer[] {
    const { home, domainKey } = this.#parts
    const domain = domainKey.sealTo(host, sealing)
    const { catalogKey, fleet } = home
    if (!catalogKey)
      throw new ImagerError('NOT_ALLOWED', { what: 'This coordinator has no catalog key', role: 'holder' })
    const { term } = home.membership()
    const to = { fleet, term, purpose: 'trailer' as const, owner: home.host, reader: host, readerSealing: sealing }
    return [domain, sealEntry(deriveTrailerKey(catalogKey, host), to, home.secret)]
  }
}

/** Whose admission it is, said again of the same member. Throws FORGED. */
function admittedAgain(before: Membership, admitted: Admitted, by: Admitters): Hex {
  const { host, sealing, role } = openAdmission(admitted, by)
  const known = before.find(host)
  if (known?.sealing === sealing && known.role === role) return host
  throw new ImagerError('FORGED', { what: 'An admission that is said again is of another host' })
}

/** The memberships without somebody who was in the one before, and the first of the term: in order. */
export function stepsOf(home: Home, catalog: LocalCatalog): Membership[] {
  const kept = catalog.registry.documents(STEP)
  const opened = kept.map(({ bytes }) => openMembership(bytes, home.fleet, home.rootKey))
  return opened.sort((a, b) => (isNewer(a, b) ? 1 : -1))
}
