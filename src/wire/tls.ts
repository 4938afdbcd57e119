/** What both ends of a connection have in common. */
import type { TLSSocket } from 'node:tls'
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
