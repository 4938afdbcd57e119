/**
 * Becoming a member: the token pins the coordinator, its key signs this host's admission, and what comes back is
 * believed only because the root's key in the token leads to it. An appliance makes its manifest key here, and seals it, and the
 * keys that it was given, to the recovery words; these entries go to the coordinator, which hands them to every peer. A name that is taken comes back as another. A join that was cut short is repeated with the same token.
 */
import { type Clock, systemClock } from '../base/clock.js'
import { toHex } from '../base/ids.js'
import { RemoteCatalog } from '../coordinator/client.js'
import { signAdmission } from '../keys/admission.js'
import { tlsIdentity } from '../keys/certificate.js'
import { type Maker, makeKey, mayDeliver, openEntry, sealToRecovery } from '../keys/entry.js'
import { createHome, type Home, prepareIdentity } from '../keys/home.js'
import { type Membership, openMembership } from '../keys/membership.js'
import { decodeToken, type Token, TokenKey } from '../keys/token.js'
import { advertised } from './address.js'
import { deliverKeys } from './deliver-keys.js'
import { CoordinatorLink } from './link.js'
import { type Replacing, takePlace } from './replace.js'

export interface JoinOptions {
  token: string
  state: string
  /** Undefined: that of whose place it takes. */
  name: string | undefined
  /** What fails with it; undefined: nothing. */
  domain?: string | undefined
  /** Where a peer's daemon will listen; null takes the default of a peer, and nothing for the others. */
  listen: string | null
  /** Of a server: whose place it takes. */
  replaces?: Replacing | undefined
}

const PEER_LISTEN = '0.0.0.0:7421'

export async function joinFleet(options: JoinOptions, clock: Clock = systemClock): Promise<Home> {
  const token = decodeToken(options.token)
  const identity = prepareIdentity(options.state)
  const tls = tlsIdentity(identity)
  const listen = token.role === 'peer' ? (options.listen ?? PEER_LISTEN) : null
  const addresses = listen === null || listen.endsWith(':0') ? [] : [advertised(listen)]
  const { domain = tls.host, replaces } = options
  const { fleet, term, role } = token
  const key = new TokenKey(token.secret)
  const admission = signAdmission({ fleet, term, host: tls.host, sealing: toHex(identity.sealingKey()), role }, key)
  const heir = { host: tls.host, sealing: toHex(identity.sealingKey()) }
  const place = replaces && (await takePlace(token, replaces, heir, clock))
  const name = options.name ?? place?.name ?? tls.host.slice(0, 8)
  const link = new CoordinatorLink(tls, [token.coordinator.address], token.coordinator.key)
  try {
    const { replacement } = place ?? {}
    const request = { name, domain, addresses, key, admission, ...(replacement && { replacement }) }
    const { keys, membership, name: given } = await new RemoteCatalog(link).join(request)
    const members = openMembership(membership, token.fleet, token.rootKey)
    const maker = { fleet: token.fleet, term: members.term, rootSealing: token.rootSealing, identity }
    const own = token.role === 'appliance' ? ownKeys(keys, members, token, maker) : []
    const home = createHome({
      state: options.state,
      fleet: token.fleet,
      rootKey: token.rootKey,
      rootSealing: token.rootSealing,
      role: token.role,
      name: given,
      coordinator: token.coordinator,
      listen,
      membership,
      keys: [...keys, ...own, ...(place?.keys ?? [])],
    })
    await deliverKeys(home, link)
    return home
  } finally {
    link.close()
  }
}

/**
 * A new manifest key, and what it was given sealed to the words once more, by itself: so its snapshots rest on no entry that
 * another host signed, whatever becomes of the coordinator.
 */
function ownKeys(given: readonly Buffer[], members: Membership, { rootKey }: Token, maker: Maker): Buffer[] {
  const { fleet, identity } = maker
  const reader = toHex(identity.signingKey())
  const accept: Parameters<typeof openEntry>[1]['accept'] = (signer, entry) =>
    mayDeliver(signer, entry, members, rootKey)
  const used = given.map((bytes) => openEntry(bytes, { fleet, reader, secret: identity, accept }))
  return [
    ...makeKey('manifest', maker),
    ...used.map(({ key, entry }) => sealToRecovery(entry.purpose, key, maker, entry.rotation)),
  ]
}
