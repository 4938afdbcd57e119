/**
 * Whose key answers at an address, for the one case where it is not known beforehand: a recovery, which has an address
 * and the words only. Nothing is sent; the caller pins the key from now on, and believes what comes by its signatures.
 */
import { createSecureContext } from 'node:tls'
import { hasCode, ImagerError, reason } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import { CONNECT_TIMEOUT_MS } from '../base/limits.js'
import { certificateHost, type TlsIdentity } from '../keys/certificate.js'
import { parseAddress } from './address.js'
import { CIPHERS, dialTls, hangUp } from './tls.js'

/** Throws HOST_UNREACHABLE where nothing that speaks our TLS answers in time. */
export async function meetHost({ key, cert }: TlsIdentity, address: string): Promise<Hex> {
  const context = createSecureContext({ key, cert, minVersion: 'TLSv1.3', ciphers: CIPHERS })
  const at = parseAddress(address)
  try {
    const socket = await dialTls(at, context, CONNECT_TIMEOUT_MS)
    const certificate = socket.getPeerX509Certificate()
    hangUp(socket)
    if (certificate) return certificateHost(certificate.raw)
    throw new Error('it shows no key')
  } catch (cause) {
    if (hasCode(cause, 'EXHAUSTED')) throw cause
    const why = hasCode(cause, 'FORGED') ? 'what answers there is no host of imager' : reason(cause)
    throw new ImagerError('HOST_UNREACHABLE', { host: 'The host', address, why }, { cause })
  }
}
