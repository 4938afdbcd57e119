/**
 * What an enroller makes in its own state folder, and an admin with his key wherever he is: a token with the voucher for it, and
 * removals; and what ends an admin.
 */
import { randomBytes } from 'node:crypto'
import { ImagerError } from '../base/errors.js'
import { type Hex, toHex } from '../base/ids.js'
import type { SecretHandle } from '../native.js'
import { type Admin, signDismissal } from './admins.js'
import { admit, signRemoval, signVoucher } from './admission.js'
import type { Home } from './home.js'
import { admissionOf, type Membership } from './membership.js'
import { type JoinRole, type Token, TokenKey } from './token.js'

export interface Inviting {
  readonly role: JoinRole
  /** Where joining hosts reach the coordinator. */
  readonly address: string
  /** Milliseconds since 1970, by this host's clock. */
  readonly expires: number
}

/** Throws NOT_ALLOWED where this host is no enroller, NOT_ADMIN where the key is no admin's; the coordinator takes the voucher. */
export function makeToken(
  home: Home,
  { role, address, expires }: Inviting,
  admin?: SecretHandle,
): { token: Token; voucher: Buffer } {
  const { fleet, rootKey, rootSealing } = home
  const { term, coordinator } = home.membership()
  const signer = requireAdmitter(home, home.membership(), 'Tokens are made', admin)
  const secret = randomBytes(32)
  const key = toHex(new TokenKey(secret).signingKey())
  const voucher = signVoucher({ fleet, term, token: key, role, expires }, signer)
  const token = { fleet, rootKey, rootSealing, coordinator: { key: coordinator, address }, role, secret, expires, term }
  return { token, voucher }
}

/** Throws NOT_ALLOWED where this host is no enroller, NOT_ADMIN where the key is no admin's. */
export function makeRemoval(home: Home, membership: Membership, host: Hex, admin?: SecretHandle): Buffer {
  const { fleet } = home
  const { term } = membership
  const signer = requireAdmitter(home, membership, 'Hosts are removed', admin)
  return signRemoval({ fleet, term, host, admission: admissionOf(membership, host) }, signer)
}

/** What ends an admin, and what he had said of hosts, said again by who ends him: these stay, and stay removed. In base64. */
export interface DismissalParts {
  readonly dismissal: string
  readonly admissions: string[]
  readonly removals: string[]
  readonly replacements: string[]
}

/** `by`: the root, or another admin. Pure. */
export function makeDismissal(membership: Membership, { key, id }: Admin, by: SecretHandle): DismissalParts {
  const { fleet, term, hosts, parts } = membership
  const dismissal = signDismissal({ fleet, term, admin: key, delegation: id }, by).toString('base64')
  const own = hosts.filter(({ host }) => parts.admittedBy.get(host) === key)
  const admissions = own.map(({ host, sealing, role }) => admit({ fleet, term, host, sealing, role }, by).admission)
  const removals = parts.removals
    .filter(({ signer }) => signer === key)
    .map(({ host, admission }) => signRemoval({ fleet, term, host, admission }, by).toString('base64'))
  const replacements = membership.line.saidAgain(key, by)
  return { dismissal, admissions, removals, replacements }
}

/** Throws NOT_ADMIN. */
export function requireAdmin(membership: Membership, key: SecretHandle): Admin {
  const own = toHex(key.signingKey())
  const admin = membership.admins.find((one) => one.key === own)
  if (admin) return admin
  throw new ImagerError('NOT_ADMIN', { what: `The key ${own.slice(0, 16)}... is no admin's of this fleet` })
}

function requireAdmitter(home: Home, membership: Membership, what: string, admin?: SecretHandle): SecretHandle {
  if (admin) requireAdmin(membership, admin)
  if (admin) return admin
  if (membership.delegated(home.host, 'enroller')) return home.secret
  const names = membership.enrollers.map((host) => membership.find(host)?.name ?? host.slice(0, 16))
  throw new ImagerError('NOT_ALLOWED', { what: `${what} on ${names.join(' or ')}, the enroller`, role: 'enroller' })
}
