/** A host that serves no shards: it says what a test makes it say, in the language of the way in which it is asked. */
import { createServer } from 'node:net'
import { createServer as createTls, type TLSSocket } from 'node:tls'
import type { ExecutionContext } from 'ava'
import type { TlsIdentity } from '../../src/keys/certificate.js'
import { DATA_PREAMBLE } from '../../src/native.js'
import { identity, listening } from '../wire/loopback.js'
import type { Way } from './peer.js'

const PREAMBLE = 'imager/1'

interface Language {
  /** Bytes of a shard, announced to be `length` of them. */
  give(bytes: Buffer, length?: number): Buffer
  refuse(error: string): Buffer
}

/** Of a data connection: kind, length, bytes (docs/protocol.md). */
export function frame(kind: 'go' | 'done' | 'refused', bytes: Buffer = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(5)
  head.writeUInt8({ go: 1, done: 2, refused: 3 }[kind])
  head.writeUInt32LE(bytes.length, 1)
  return Buffer.concat([head, bytes])
}

export function go(length: number): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(BigInt(length))
  return frame('go', bytes)
}

function http(status: string, bytes: Buffer, length = bytes.length): Buffer {
  return Buffer.concat([Buffer.from(`HTTP/1.1 ${status}\r\ncontent-length: ${length}\r\n\r\n`), bytes])
}

export const LANGUAGES: Readonly<Record<Way, Language>> = {
  'data connections': {
    give: (bytes, length = bytes.length) => Buffer.concat([go(length), bytes, frame('done')]),
    refuse: (error) => frame('refused', Buffer.from(error)),
  },
  HTTPS: {
    give: (bytes, length) => http('206 Partial Content', bytes, length),
    refuse: (error) => http('500 No', Buffer.from(error)),
  },
}

export interface Rogue {
  readonly tls: TlsIdentity
  readonly address: string
  /** What came once TLS stood, of all connections. */
  heard(): Buffer
  /** Returns when every connection that came has ended. */
  left(): Promise<void>
}

/** `behave` hears of each connection when the first bytes of a question have come. */
export async function startRogue(t: ExecutionContext, behave: (socket: TLSSocket) => void): Promise<Rogue> {
  const tls = identity()
  const heard: Buffer[] = []
  const ends: Promise<unknown>[] = []
  const greeter = createTls(
    { key: tls.key, cert: tls.cert, requestCert: true, rejectUnauthorized: false, ALPNProtocols: ['imager-data/1'] },
    (socket) => {
      socket.on('error', () => {})
      socket.on('data', (bytes) => heard.push(bytes))
      socket.once('data', () => behave(socket))
    },
  )
  greeter.on('tlsClientError', () => {})
  const server = createServer((socket) => {
    ends.push(new Promise((resolve) => socket.once('close', resolve)))
    socket.on('error', () => {})
    socket.once('readable', () => {
      const head = (socket.read() as Buffer | null) ?? Buffer.alloc(0)
      const rest = head[0] === DATA_PREAMBLE ? head.subarray(PREAMBLE.length) : head
      if (rest.length > 0) socket.unshift(rest)
      greeter.emit('connection', socket)
    })
  })
  const address = await listening(t, server)
  return { tls, address, heard: () => Buffer.concat(heard), left: async () => void (await Promise.all(ends)) }
}
