/**
 * Who belongs to the fleet, where they listen and what they may do. Believed only when signed by the root, or by a host
 * that the root delegated as enroller *in the membership's own term*: so a host that a recovery replaced can sign nothing
 * that counts as newer. Ordered by (term, sequence) (docs/formats/membership.md).
 */
import * as v from 'valibot'
import { ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import type { SecretHandle } from '../native.js'
import { type Delegation, type Duty, openDelegation } from './delegation.js'
import { Address, Base64, Count, Id, Key, Name, Role, Term } from './fields.js'
import { openStatement, signStatement } from './statement.js'

const Host = v.strictObject({
  host: Key,
  /** X25519: keys for this host are sealed to it. */
  sealing: Key,
  name: Name,
  role: Role,
  /** Hosts that fail together share a domain: a site, a switch, a room. */
  domain: Name,
  addresses: v.pipe(v.array(Address), v.maxLength(16)),
})
const MembershipBody = v.strictObject({
  fleet: Id,
  sequence: Count,
  term: Term,
  delegations: v.pipe(v.array(Base64(1024)), v.maxLength(256)),
  hosts: v.pipe(v.array(Host), v.maxLength(10_000)),
})
export type MembershipHost = v.InferOutput<typeof Host>
export type MembershipBody = v.InferOutput<typeof MembershipBody>

/** Made by `openMembership` only, so that one in hand is a verified one. */
export class Membership {
  readonly #byHost: ReadonlyMap<Hex, MembershipHost>

  constructor(
    readonly bytes: Buffer,
    readonly body: MembershipBody,
    readonly delegations: readonly Delegation[],
    /** The host with the coordinator delegation of the highest term. */
    readonly coordinator: Hex,
  ) {
    this.#byHost = new Map(body.hosts.map((host) => [host.host, host]))
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

  get hosts(): readonly MembershipHost[] {
    return this.body.hosts
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
    if (!other) return true
    return this.term !== other.term ? this.term > other.term : this.sequence > other.sequence
  }
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

export function signMembership(body: MembershipBody, signer: SecretHandle): Buffer {
  return signStatement('membership', body, signer)
}

/** Throws CORRUPT, UNSUPPORTED or FORGED; a host listed twice is CORRUPT. */
export function openMembership(bytes: Uint8Array, fleet: Hex, rootKey: Hex): Membership {
  const { body, signer } = openStatement('membership', MembershipBody, bytes)
  if (body.fleet !== fleet) throw new ImagerError('FORGED', { what: 'A membership belongs to another fleet' })
  const delegations = body.delegations.map((text) => openDelegation(Buffer.from(text, 'base64'), fleet, rootKey))
  const enrolls = (one: Delegation) => one.host === signer && one.duty === 'enroller' && one.term === body.term
  if (signer !== rootKey && !delegations.some(enrolls)) {
    throw new ImagerError('FORGED', { what: 'A membership is signed by a host that may not admit hosts' })
  }
  if (new Set(body.hosts.map((host) => host.host)).size !== body.hosts.length) {
    throw new ImagerError('CORRUPT', { what: 'A membership lists a host twice' })
  }
  return new Membership(Buffer.from(bytes), body, delegations, coordinatorOf(delegations))
}

function coordinatorOf(delegations: readonly Delegation[]): Hex {
  let highest: Delegation | undefined
  for (const one of delegations) {
    if (one.duty === 'coordinator' && one.term > (highest?.term ?? 0)) highest = one
  }
  if (!highest) throw new ImagerError('CORRUPT', { what: 'A membership names no coordinator' })
  return highest.host
}
