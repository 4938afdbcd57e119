/**
 * Where a host listens, said by itself. It stands in no membership: an address that changes needs neither coordinator nor enroller,
 * and nobody else can send the fleet to a wrong one (docs/formats/address.md).
 */
import { BlockList, isIP } from 'node:net'
import * as v from 'valibot'
import { ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import type { SecretHandle } from '../native.js'
import { Address, Count, Id, Key } from './fields.js'
import { openStatement, signStatement } from './statement.js'

const AddressBody = v.strictObject({
  fleet: Id,
  host: Key,
  /** Milliseconds since 1970 by the host's clock, or one more than the last. */
  sequence: v.pipe(Count, v.minValue(1)),
  addresses: v.pipe(v.array(Address), v.maxLength(16)),
})
export type AddressBody = v.InferOutput<typeof AddressBody>

/** What no host is reached at: unspecified, link-local, multicast, and what is kept free. */
const NOWHERE = new BlockList()
NOWHERE.addSubnet('0.0.0.0', 8, 'ipv4')
NOWHERE.addSubnet('169.254.0.0', 16, 'ipv4')
NOWHERE.addSubnet('224.0.0.0', 3, 'ipv4')
NOWHERE.addAddress('::', 'ipv6')
NOWHERE.addSubnet('fe80::', 10, 'ipv6')
NOWHERE.addSubnet('ff00::', 8, 'ipv6')
const HIGHEST_PORT = 65_535

export function signAddress(body: AddressBody, identity: SecretHandle): Buffer {
  return signStatement('address', body, identity)
}

/** Throws FORGED where the host itself did not sign it, CORRUPT for an address at which nobody can be. */
export function openAddress(bytes: Uint8Array, fleet: Hex): AddressBody {
  const { body, signer } = openStatement('address', AddressBody, bytes)
  if (body.fleet !== fleet) throw new ImagerError('FORGED', { what: 'An address belongs to another fleet' })
  if (signer !== body.host) throw new ImagerError('FORGED', { what: 'An address is not signed by its host' })
  const wrong = body.addresses.find((one) => !isPlausible(one))
  if (wrong === undefined) return body
  throw new ImagerError('CORRUPT', { what: `An address is of a place where no host can be: ${wrong}` })
}

/** Can a host be reached there, as far as the text tells? A name may lead anywhere. Pure. */
export function isPlausible(address: string): boolean {
  const [, text = '', digits] = /^(.*):(\d+)$/.exec(address) ?? []
  const port = Number(digits)
  if (!(port >= 1 && port <= HIGHEST_PORT)) return false
  const host = text.replace(/^\[|\]$/g, '').replace(/%.*$/, '')
  const family = isIP(host)
  return family === 0 ? text === host : !NOWHERE.check(host, family === 4 ? 'ipv4' : 'ipv6')
}
