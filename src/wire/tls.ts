/** What both ends of a connection have in common, and how a client gets one. */

import { closeSync, openSync } from 'node:fs'
import { connect, type SecureContext, type TLSSocket, type ConnectionOptions as TlsOptions } from 'node:tls'
import { ImagerError, reason } from '../base/errors.js'
import { isLimit } from '../base/system.js'
import { KiB } from '../base/units.js'

/** AES-128 first: 128 bits are what the curves give too, and it is the quickest where the processor knows AES. */
export const CIPHERS = 'TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256'
/** A few TLS records at a time: smaller ones cost a turn of the event loop each. */
export const SOCKET_BUFFER_BYTES = 256 * KiB

const EXPORTER_LABEL = 'EXPORTER-imager-v1'

/** RFC 8446, section 7.5: equal at both ends of this connection and of no other. */
export function exportSecret(socket: TLSSocket): Buffer {
  return socket.exportKeyingMaterial(32, EXPORTER_LABEL, Buffer.alloc(0))
}

/**
 * A socket on which the handshake is done. Whose key answered is for the caller to look at: a host is its key, and no
 * authority is asked. Throws what Node says where nothing answers, or not by `limitMs`, or not before `stop`; EXHAUSTED where that is this
 * computer's own fault.
 */
export async function dialTls(
  address: { host: string; port: number },
  secureContext: SecureContext,
  limitMs: number,
  stop?: AbortSignal,
): Promise<TLSSocket> {
  const options: TlsOptions & { highWaterMark: number; noDelay: boolean } = {
    ...address,
    secureContext,
    minVersion: 'TLSv1.3',
    rejectUnauthorized: false,
    highWaterMark: SOCKET_BUFFER_BYTES,
    noDelay: true,
  }
  const socket = connect(options)
  const timer = setTimeout(() => socket.destroy(new Error(`no connection within ${limitMs / 1000} s`)), limitMs)
  const end = () => socket.destroy(stop?.reason as Error)
  stop?.addEventListener('abort', end, { once: true })
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once('secureConnect', resolve)
      socket.once('error', reject)
      socket.once('close', () => reject(new Error('it closed the connection')))
    })
    socket.removeAllListeners('close')
    return socket
  } catch (error) {
    hangUp(socket)
    throw ownLack(error, `connecting to ${address.host}:${address.port}`) ?? error
  } finally {
    clearTimeout(timer)
    stop?.removeEventListener('abort', end)
  }
}

/** Ends a socket on which nobody waits any more, whatever it still says. */
export function hangUp(socket: TLSSocket): void {
  socket.on('error', () => {})
  socket.destroy()
}

/** EXHAUSTED, where it is that. A resolver that gets no descriptor says that it found nothing: so one is tried for. */
function ownLack(error: unknown, doing: string): ImagerError | undefined {
  if (isLimit(error)) return new ImagerError('EXHAUSTED', { what: `${doing}: ${reason(error)}` }, { cause: error })
  if ((error as NodeJS.ErrnoException).syscall !== 'getaddrinfo') return undefined
  try {
    closeSync(openSync('/dev/null', 'r'))
    return undefined
  } catch (cause) {
    return ownLack(cause, doing)
  }
}
