/** What an enroller makes in its own state folder: a token with the voucher for it, and removals. */
import { randomBytes } from 'node:crypto'
import { ImagerError } from '../base/errors.js'
import { type Hex, toHex } from '../base/ids.js'
import { signRemoval, signVoucher } from './admission.js'
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

/** Throws NOT_ALLOWED where this host is no enroller; the coordinator takes the voucher. */
export function makeToken(home: Home, { role, address, expires }: Inviting): { token: Token; voucher: Buffer } {
  const { fleet, rootKey, rootSealing } = home
  const { term, coordinator } = home.membership()
  requireEnroller(home, home.membership(), 'Tokens are made')
  const secret = randomBytes(32)
  const key = toHex(new TokenKey(secret).signingKey())
  const voucher = signVoucher({ fleet, term, token: key, role, expires }, home.secret)
  const token = { fleet, rootKey, rootSealing, coordinator: { key: coordinator, address }, role, secret, expires, term }
  return { token, voucher }
}

/** Throws NOT_ALLOWED where this host is no enroller. */
export function makeRemoval(home: Home, membership: Membership, host: Hex): Buffer {
  const { fleet } = home
  const { term } = membership
  requireEnroller(home, membership, 'Hosts are removed')
  return signRemoval({ fleet, term, host, admission: admissionOf(membership, host) }, home.secret)
}

function requireEnroller(home: Home, membership: Membership, what: string): void {
  if (membership.delegated(home.host, 'enroller')) return
  const names = membership.enrollers.map((host) => membership.find(host)?.name ?? host.slice(0, 16))
  throw new ImagerError('NOT_ALLOWED', { what: `${what} on ${names.join(' or ')}, the enroller`, role: 'enroller' })
}
