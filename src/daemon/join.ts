/**
 * Becoming a member: the token pins the coordinator, a proof bound to the TLS session spends it, and what comes back is
 * believed only because the root's key in the token leads to it. An appliance makes its manifest key here, and its keybag
 * goes to the coordinator, which hands it to every peer. A join that was cut short is repeated with the same token.
 */
import { ImagerError } from '../base/errors.js'
import { toHex } from '../base/ids.js'
import { MESSAGE_BYTES } from '../base/limits.js'
import { CALLS } from '../coordinator/calls.js'
import { type TlsIdentity, tlsIdentity } from '../keys/certificate.js'
import { createHome, type Home, prepareIdentity } from '../keys/home.js'
import { makeKey } from '../keys/keybag.js'
import { decodeToken, joinProof, type Token, tokenId } from '../keys/token.js'
import { decodeMessage, encodeMessage } from '../wire/message.js'
import { advertised } from './address.js'
import { deliverKeybag } from './keybag.js'
import { CoordinatorLink } from './link.js'

export interface JoinOptions {
  token: string
  state: string
  name: string
  domain: string
  /** Where a peer's daemon will listen; null takes the default of a peer, and nothing for the others. */
  listen: string | null
}

const PEER_LISTEN = '0.0.0.0:7421'

export async function joinFleet(options: JoinOptions): Promise<Home> {
  const token = decodeToken(options.token)
  const identity = prepareIdentity(options.state)
  const tls = tlsIdentity(identity)
  const listen = token.role === 'peer' ? (options.listen ?? PEER_LISTEN) : null
  const addresses = listen === null || listen.endsWith(':0') ? [] : [advertised(listen)]
  const { name, domain } = options
  const request = { name, domain, sealing: toHex(identity.sealingKey()), addresses }
  const link = new CoordinatorLink(tls, [token.coordinator.address], token.coordinator.key)
  try {
    const { keys, membership } = await ask(link, token, tls, request)
    const own = token.role === 'appliance' ? makeKey('manifest', token.fleet, token.rootSealing, identity) : []
    const home = createHome({
      state: options.state,
      fleet: token.fleet,
      rootKey: token.rootKey,
      rootSealing: token.rootSealing,
      role: token.role,
      name,
      coordinator: token.coordinator,
      listen,
      membership,
      keys: [...keys, ...own],
    })
    await deliverKeybag(home, link)
    return home
  } finally {
    link.close()
  }
}

async function ask(
  link: CoordinatorLink,
  { secret }: Token,
  tls: TlsIdentity,
  request: { name: string; domain: string; sealing: string; addresses: string[] },
): Promise<{ keys: Buffer[]; membership: Buffer }> {
  const reply = await link.request('POST', '/v1/join', {
    maxBytes: MESSAGE_BYTES,
    body(exporter) {
      const proof = joinProof(secret, exporter, tls.host).toString('base64')
      return encodeMessage({ ...request, token: tokenId(secret), proof })
    },
  })
  const { body, attachment } = decodeMessage(CALLS.join.answer, reply.body)
  if (attachment.length === 0) throw new ImagerError('PROTOCOL', { what: 'the coordinator sent no membership' })
  return { keys: body.keys.map((key) => Buffer.from(key, 'base64')), membership: attachment }
}
