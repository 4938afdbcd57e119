/**
 * One host's way to another: a few keep-alive TLS sockets, each pinned to that host's key before a byte of a request is
 * sent. Every request ends by its deadline, waiting for a socket included; answers are capped before memory is taken.
 */
import type { ClientRequest, IncomingHttpHeaders, IncomingMessage } from 'node:http'
import { Agent, request as httpsRequest } from 'node:https'
import { Readable } from 'node:stream'
import { createSecureContext, type SecureContext, type TLSSocket } from 'node:tls'
import { hasCode, ImagerError, reason } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import {
  CONNECT_TIMEOUT_MS,
  ERROR_BYTES,
  EXPECT_BYTES,
  FREE_SOCKET_MS,
  IDLE_TIMEOUT_MS,
  PIECE_BYTES,
  REQUEST_TIMEOUT_MS,
  SOCKETS_PER_HOST,
} from '../base/limits.js'
import { Slots } from '../base/queue.js'
import { certificateHost, type TlsIdentity } from '../keys/certificate.js'
import { formatRange, parseAddress } from './address.js'
import { bounded } from './bounded.js'
import { decodeRefusal } from './refusal.js'
import type { Pattern } from './router.js'
import { CIPHERS, dialTls, exportSecret, hangUp } from './tls.js'

export interface ConnectionOptions {
  readonly tls: TlsIdentity
  /** Tried in turn, the last one that worked first. */
  readonly addresses: readonly string[]
  /** Whose key must answer. */
  readonly host: Hex
  /** What people call it. */
  readonly name?: string
  /** Hears at which of the addresses the host proved itself, each time that it did. */
  readonly onReached?: (address: string) => void
  readonly connectTimeoutMs?: number
  readonly idleTimeoutMs?: number
}

export interface RequestOptions {
  readonly headers?: Readonly<Record<string, string>>
  /** A function makes it from the TLS connection's exporter, for proofs that are bound to the connection. */
  readonly body?: Uint8Array | ((exporter: Buffer) => Uint8Array)
  /** End exclusive. */
  readonly range?: readonly [start: number, end: number]
  readonly timeoutMs?: number
  /** Without a byte of an answer for this long it is given up. By default only the answer's body is watched so. */
  readonly idleMs?: number
  readonly signal?: AbortSignal | undefined
  /** Of the answer's body. */
  readonly maxBytes: number
  /** Statuses from 400 on that are an answer too, of at most ERROR_BYTES. */
  readonly accept?: readonly number[]
}

export interface Reply {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly body: Buffer
}

/** The part of a connection that clients need. */
export interface Requester {
  request(method: Pattern['method'], path: string, options: RequestOptions): Promise<Reply>
}

export class Connection implements Requester {
  readonly #options: ConnectionOptions
  /** Made when it is needed: most peers are only ever called over data connections. */
  #context: SecureContext | undefined
  readonly #agent: PinnedAgent
  readonly #slots = new Slots(SOCKETS_PER_HOST)
  #addresses: readonly string[]
  #dials = new AbortController()
  /** On the monotonic clock, when something came last. */
  #heard: number | undefined

  constructor(options: ConnectionOptions) {
    this.#options = options
    this.#addresses = options.addresses
    this.#agent = new PinnedAgent(() => this.#dial())
  }

  /**
   * Throws what the other side threw, HOST_UNREACHABLE where it does not answer in time, HOST_LIED where another host
   * answers, PROTOCOL where the answer is no answer, INTERRUPTED by the signal.
   */
  async request(method: Pattern['method'], path: string, options: RequestOptions): Promise<Reply> {
    const { timeoutMs = REQUEST_TIMEOUT_MS, signal } = options
    const late = () => this.#unreachable(`no answer within ${timeoutMs / 1000} s`)
    const reply = await bounded({ timeoutMs, signal, late }, (stop) =>
      this.#slots.run(() => this.#attempt(method, path, options, stop)),
    )
    if (reply.status < 400 || options.accept?.includes(reply.status)) return reply
    throw decodeRefusal(this.#name, reply.status, reply.body)
  }

  /** What is being dialled would hold a command up that has said all it had to say. */
  close(): void {
    this.#agent.destroy()
    this.#dials.abort(new Error('it is not waited for any more'))
    this.#dials = new AbortController()
  }

  /** For how long nothing has come; undefined where nothing ever did. */
  silentMs(): number | undefined {
    return this.#heard === undefined ? undefined : performance.now() - this.#heard
  }

  get #name(): string {
    return this.#options.name ?? this.#options.host
  }

  /** The other side may close a kept socket at the very moment it is used again: once more, on a new one. */
  async #attempt(method: Pattern['method'], path: string, options: RequestOptions, stop: AbortSignal): Promise<Reply> {
    try {
      return await this.#exchange(method, path, options, stop)
    } catch (error) {
      if (!(error instanceof StaleSocket)) throw error
      if (method === 'POST') throw this.#unreachable(reason(error.cause), error.cause)
    }
    this.#agent.dropFree()
    return this.#exchange(method, path, options, stop)
  }

  #exchange(method: Pattern['method'], path: string, options: RequestOptions, stop: AbortSignal): Promise<Reply> {
    return new Promise((resolve, reject) => {
      if (stop.aborted) return reject(stop.reason)
      const request = httpsRequest({ agent: this.#agent, method, path, headers: headersOf(options) })
      let response: IncomingMessage | undefined
      const { idleMs } = options
      const silent = idleMs && setTimeout(() => fail(this.#unreachable(`no answer within ${idleMs / 1000} s`)), idleMs)
      const settle = (done: () => void) => {
        clearTimeout(silent)
        stop.removeEventListener('abort', abort)
        // A half of an exchange left on a socket would be taken for the next one.
        if (!request.writableFinished || !response?.complete) request.destroy()
        done()
      }
      const fail = (error: unknown) => settle(() => reject(error))
      const abort = () => fail(stop.reason)
      stop.addEventListener('abort', abort, { once: true })
      request.on('error', (cause) => {
        if (request.reusedSocket && !response) fail(new StaleSocket('stale', { cause }))
        else fail(cause instanceof ImagerError ? cause : this.#unreachable(reason(cause), cause))
      })
      request.once('socket', (socket) => send(request, socket as TLSSocket, options, fail))
      request.once('response', (arrived) => {
        response = arrived
        clearTimeout(silent)
        this.#receive(arrived, options).then((reply) => settle(() => resolve(reply)), fail)
      })
    })
  }

  async #receive(response: IncomingMessage, { maxBytes, idleMs }: RequestOptions): Promise<Reply> {
    this.#heard = performance.now()
    const { statusCode: status = 0, headers } = response
    const length = status === 204 ? '0' : headers['content-length']
    const cap = status >= 400 ? ERROR_BYTES : maxBytes
    if (!length) throw new ImagerError('PROTOCOL', { what: `an answer of ${this.#name} has no length` })
    const lengthBytes = Number(length)
    if (!(lengthBytes <= cap)) {
      throw new ImagerError('PROTOCOL', {
        what: `${this.#name} answers with ${length} bytes, at most ${cap} are expected`,
      })
    }
    const body = Buffer.allocUnsafe(lengthBytes)
    let filled = 0
    await new Promise<void>((resolve, reject) => {
      const cut = (why: string) => reject(this.#unreachable(`${why} after ${filled} of ${lengthBytes} bytes`))
      response.on('data', (chunk: Buffer) => {
        this.#heard = performance.now()
        chunk.copy(body, filled)
        filled += chunk.length
      })
      // A status that has no body by HTTP's rules ends at once, whatever length it tells.
      response.once('end', () => (filled === lengthBytes ? resolve() : cut('it ended')))
      response.once('error', () => cut('the connection was cut'))
      response.once('close', () => cut('the connection was cut'))
      response.setTimeout(idleMs ?? this.#options.idleTimeoutMs ?? IDLE_TIMEOUT_MS, () => cut('it fell silent'))
    })
    return { status, headers, body }
  }

  /** A socket whose other end has proved to be the host. */
  async #dial(): Promise<TLSSocket> {
    let failure: unknown
    for (const address of this.#addresses) {
      try {
        const socket = await this.#dialOne(address)
        this.#options.onReached?.(address)
        this.#addresses = [address, ...this.#addresses.filter((one) => one !== address)]
        return socket
      } catch (error) {
        // That somebody else answers there is worth more to know than that nobody answers elsewhere.
        if (!hasCode(failure, 'HOST_LIED')) failure = error
      }
    }
    throw failure ?? this.#unreachable('it has no address')
  }

  async #dialOne(address: string): Promise<TLSSocket> {
    const { key, cert } = this.#options.tls
    this.#context ??= createSecureContext({ key, cert, ca: [], minVersion: 'TLSv1.3', ciphers: CIPHERS })
    const limitMs = this.#options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS
    const socket = await dialTls(parseAddress(address), this.#context, limitMs, this.#dials.signal).catch(
      (error: unknown) => {
        throw error instanceof ImagerError ? error : this.#unreachable(reason(error), error, address)
      },
    )
    try {
      this.#checkPin(socket, address)
      return socket
    } catch (error) {
      hangUp(socket)
      throw error
    }
  }

  #checkPin(socket: TLSSocket, address: string): void {
    let actual: Hex | undefined
    try {
      const certificate = socket.getPeerX509Certificate()
      actual = certificate && certificateHost(certificate.raw)
    } catch {
      actual = undefined
    }
    if (actual === this.#options.host) return
    const what = `at ${address} another host answers, ${actual?.slice(0, 16) ?? 'one without a key'}; nothing was sent to it`
    throw new ImagerError('HOST_LIED', { host: this.#name, what, address })
  }

  #unreachable(why: string, cause?: unknown, address = this.#addresses[0] ?? 'no address'): ImagerError {
    return new ImagerError('HOST_UNREACHABLE', { host: this.#name, address, why }, { cause })
  }
}

/** The socket was kept from an earlier request, and died before any answer. */
class StaleSocket extends Error {}

/** Node hands a request its socket only once `dial` is done, so nothing is written to an unproved one. */
class PinnedAgent extends Agent {
  readonly #dial: () => Promise<TLSSocket>

  constructor(dial: () => Promise<TLSSocket>) {
    super({ keepAlive: true, maxFreeSockets: SOCKETS_PER_HOST, maxCachedSessions: 0, timeout: FREE_SOCKET_MS })
    this.#dial = dial
  }

  override createConnection(...[, done]: Parameters<Agent['createConnection']>): undefined {
    void this.#deliver(done)
  }

  async #deliver(done: Parameters<Agent['createConnection']>[1]): Promise<void> {
    let socket: TLSSocket
    try {
      socket = await this.#dial()
    } catch (error) {
      // Node takes an error alone, whatever its types say.
      done?.(error as Error, undefined as unknown as TLSSocket)
      return
    }
    done?.(null, socket)
  }

  dropFree(): void {
    for (const sockets of Object.values(this.freeSockets)) for (const socket of sockets ?? []) socket.destroy()
  }
}

/** TLS seals all that it is given at once: a whole shard given would be in memory twice. */
function* piecesOf(body: Uint8Array): Generator<Uint8Array> {
  for (let at = 0; at < body.length; at += PIECE_BYTES) yield body.subarray(at, at + PIECE_BYTES)
}

function headersOf({ headers, body, range }: RequestOptions): Record<string, string> {
  const all: Record<string, string> = { ...headers }
  if (range) all.range = formatRange(range)
  if (body instanceof Uint8Array) all['content-length'] = String(body.length)
  if (body instanceof Uint8Array && body.length > EXPECT_BYTES) all.expect = '100-continue'
  return all
}

function send(request: ClientRequest, socket: TLSSocket, { body }: RequestOptions, fail: (e: unknown) => void): void {
  if (body === undefined) {
    request.end()
    return
  }
  if (body instanceof Uint8Array && body.length > EXPECT_BYTES) {
    request.once('continue', () => Readable.from(piecesOf(body), { objectMode: false }).pipe(request))
    request.flushHeaders()
    return
  }
  try {
    const bytes = body instanceof Uint8Array ? body : body(exportSecret(socket))
    request.setHeader('content-length', bytes.length)
    request.end(bytes)
  } catch (error) {
    fail(error)
  }
}
