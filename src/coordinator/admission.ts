/**
 * How a host becomes a member, gets another name, and is one no more: an invite token, a join that proves it over this very
 * TLS session, a newly signed membership, and for an appliance its keys. Token, member and membership change in one transaction; the copy in the state
 * folder follows, and is caught up at the next start if that was cut short.
 */
import { randomBytes } from 'node:crypto'
import { hasCode, ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import type { LocalCatalog } from '../catalog/local.js'
import { deriveTrailerKey, type KeyPurpose, sealEntry } from '../keys/entry.js'
import type { Home } from '../keys/home.js'
import { findHost, openMembership, sameName, signMembership, uniqueName } from '../keys/membership.js'
import { checkJoinProof, encodeToken, type JoinRole, tokenId } from '../keys/token.js'
import type { SecretHandle } from '../native.js'
import type { Answer, Request } from './calls.js'

export interface AdmissionParts {
  home: Home
  catalog: LocalCatalog
  /** Where joining hosts reach this coordinator. */
  address(): string
  /** While it is not known whether a newer membership exists, none is signed by itself. */
  maySign?(): boolean
  /** A newer membership is in force: tell whoever must know. */
  onMembership(bytes: Buffer): void
}

const MEMBERSHIP = 'membership'

export class Admission {
  readonly #parts: AdmissionParts
  #hasAgreed = false

  constructor(parts: AdmissionParts) {
    this.#parts = parts
    this.catchUp()
  }

  /**
   * Brings state folder and catalog to the newer of their two memberships, once, and that to the addresses that were
   * reported last. While nothing can be written, nothing is done.
   */
  catchUp(): void {
    try {
      if (!this.#hasAgreed) this.#agree()
      this.#hasAgreed = true
      this.#renew()
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
    const { bytes, sequence, hosts } = home.membership()
    catalog.write(() => {
      catalog.members.admitOnly(hosts)
      catalog.registry.setDocument(MEMBERSHIP, home.fleet, sequence, bytes)
    })
  }

  invite(role: JoinRole): Answer<'invite'> {
    const { home, catalog } = this.#parts
    const secret = randomBytes(32)
    const expires = catalog.registry.addToken(tokenId(secret), secret, role)
    const { fleet, rootKey, rootSealing } = home
    const coordinator = { key: home.host, address: this.#parts.address() }
    return { token: encodeToken({ fleet, rootKey, rootSealing, coordinator, role, secret, expires }), expires }
  }

  /** Throws WRONG_KEY; what exactly was wrong with a token is not told to a stranger beyond that. */
  join(host: Hex, exporter: Buffer, request: Request<'join'>): Answer<'join'> {
    const { home, catalog } = this.#parts
    const token = catalog.registry.token(request.token)
    if (!token) throw new ImagerError('WRONG_KEY', { what: 'This join token is unknown here, or has expired' })
    if (!checkJoinProof(Buffer.from(request.proof, 'base64'), token.secret, exporter, host)) {
      throw new ImagerError('WRONG_KEY', { what: 'The proof of this join token is wrong' })
    }
    if (host === home.host) throw new ImagerError('WRONG_KEY', { what: 'The coordinator cannot join its own fleet' })
    const { sealing, domain, addresses } = request
    const others = catalog.members.members().filter((one) => one.host !== host)
    const name = uniqueName(
      request.name,
      others.map((one) => one.name),
    )
    const asked = name === request.name ? '' : `; it asked for ${request.name}, which is taken`
    const keys = token.role === 'appliance' ? this.#applianceKeys(host, sealing) : []
    const signed = catalog.registry.redeem(request.token, host, () => {
      catalog.members.admit({ host, sealing, name, role: token.role, domain, addresses })
      catalog.registry.record('join', host, `${name} joined as ${token.role}${asked}`)
      return this.#sign()
    })
    this.#publish(signed)
    return { keys: keys.map((key) => key.toString('base64')) }
  }

  /**
   * Signs a membership without the host; its shards count as missing. Throws NO_SUCH_HOST, USAGE for the coordinator itself,
   * and unless forced WOULD_LOSE where a snapshot needs the host.
   */
  remove(wanted: string, force: boolean): Answer<'remove'> {
    const { home, catalog } = this.#parts
    const { host, name, role } = findHost(catalog.members.members(), wanted)
    if (role === 'coordinator') {
      const what = 'A coordinator is not removed: `imager recover` puts another in its place'
      throw new ImagerError('USAGE', { what, verb: 'remove' })
    }
    const { snapshotsBelowTarget, signed } = catalog.write(() => {
      const effect = catalog.removeHost(host, home.host, force)
      catalog.registry.dropTokensOf(host)
      catalog.registry.deliveries.forget(host)
      catalog.registry.record('removal', host, `${name} was removed; it was a member as ${role}`)
      return { ...effect, signed: this.#sign() }
    })
    this.#publish(signed)
    return { host: name, key: host, snapshotsBelowTarget }
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

  /** Signs and publishes a new membership, where a member's addresses changed. */
  #renew(): void {
    const { home, catalog } = this.#parts
    if (this.#parts.maySign?.() === false) return
    const signed = new Map(home.membership().hosts.map(({ host, addresses }) => [host, addresses]))
    if (catalog.members.members().every(({ host, addresses }) => isSame(addresses, signed.get(host)))) return
    this.#publish(this.#parts.catalog.write(() => this.#sign()))
  }

  /**
   * Signs the members of now under the next sequence number. Only in a transaction, so that no two have the same one.
   */
  #sign(): Buffer {
    const { home, catalog } = this.#parts
    const now = home.membership()
    const sequence = Math.max(now.sequence, catalog.registry.document(MEMBERSHIP, home.fleet)?.sequence ?? 0) + 1
    const hosts = catalog.members.members()
    const bytes = signMembership({ ...now.body, sequence, hosts }, home.secret)
    openMembership(bytes, home.fleet, home.rootKey)
    catalog.registry.setDocument(MEMBERSHIP, home.fleet, sequence, bytes)
    return bytes
  }

  #publish(bytes: Buffer): void {
    this.#parts.home.saveMembership(bytes)
    this.#parts.onMembership(bytes)
  }

  /**
   * Keys of an appliance, sealed to it: the domain key D, and of the catalog key C only C_a, which is derived for it.
   */
  #applianceKeys(host: Hex, sealing: Hex): Buffer[] {
    const { home } = this.#parts
    const { domainKey, catalogKey } = home
    if (!domainKey || !catalogKey || !home.membership().delegated(home.host, 'holder')) {
      throw new ImagerError('NOT_ALLOWED', { what: "This coordinator does not hold the fleet's keys", role: 'holder' })
    }
    const { term } = home.membership()
    const seal = (purpose: KeyPurpose, key: SecretHandle) =>
      sealEntry(
        key,
        { fleet: home.fleet, term, purpose, owner: home.host, reader: host, readerSealing: sealing },
        home.secret,
      )
    return [seal('domain', domainKey), seal('trailer', deriveTrailerKey(catalogKey, host))]
  }
}

function isSame(a: readonly string[], b: readonly string[] = []): boolean {
  return a.length === b.length && a.every((one, at) => one === b[at])
}
