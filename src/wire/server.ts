/**
 * HTTP/1.1 over TLS 1.3 between members of a fleet. A caller is the Ed25519 key of its certificate, which TLS has proved;
 * `admit` decides on that key before the HTTP parser sees a byte, and again on each request, so that who was expelled is
 * out at once. A body is never read before the handler asks for it, and never beyond the route's cap.
 */
import { constants, randomInt } from 'node:crypto'
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http'
import { createServer, type Server } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { hasCode, ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import {
  CONNECT_TIMEOUT_MS,
  CONNECTIONS,
  CONNECTIONS_PER_HOST,
  IDLE_TIMEOUT_MS,
  KEEP_ALIVE_MS,
  LINGER_MS,
  REQUEST_TIMEOUT_MS,
  TRANSFER_TIMEOUT_MS,
} from '../base/limits.js'
import { certificateHost, type TlsIdentity } from '../keys/certificate.js'
import type { DataQuestion } from '../native.js'
import { parseAddress, parseRange } from './address.js'
import { type Arriving, BodyRoom } from './body-room.js'
import { DataDoor } from './data-server.js'
import { encodeRefusal, notMember } from './refusal.js'
import { type Match, type Pattern, Router } from './router.js'
import { CIPHERS, exportSecret, SOCKET_BUFFER_BYTES } from './tls.js'
import { atFirstByte, Unproved } from './unproved.js'

/** Below the ports that systems give to outgoing connections: one that is kept must be free after a restart too. */
const [FIRST_PORT, LAST_PORT] = [10_000, 32_767]
const PORT_TRIES = 100
const drawPort = () => randomInt(FIRST_PORT, LAST_PORT + 1)

export interface Request {
  /** The caller. */
  readonly host: Hex
  readonly params: Readonly<Record<string, string>>
  readonly query: URLSearchParams
  readonly headers: IncomingHttpHeaders
  /** End exclusive; undefined where the caller wants all. */
  readonly range: readonly [start: number, end: number] | undefined
  /** Of the body, as announced; TLS and HTTP hold the caller to it. */
  readonly lengthBytes: number
  /** Throws PROTOCOL over the route's `maxBytes`, before any of it is read. */
  body(): Promise<Buffer>
  /** 32 bytes that only the two ends of this TLS connection know. */
  exporter(): Buffer
}

export interface Answer {
  readonly status?: number
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: Uint8Array
}

export interface Route extends Pattern {
  /** Strangers may call it: any host that has a certificate. */
  readonly open?: boolean
  readonly maxBytes: number
  handle(request: Request): Promise<Answer> | Answer
}

export interface ServeOptions {
  readonly tls: TlsIdentity
  /** `host:port`; port 0 takes a free one. */
  readonly listen: string
  readonly routes: readonly Route[]
  admit(host: Hex): boolean
  /** What one that is not admitted is told, where that is more than that it is no member. */
  tell?(host: Hex): ImagerError | undefined
  /** Data connections are served too, and bring questions for this. */
  handleData?(question: DataQuestion): Promise<void>
  /** Hears of errors that are our own bugs. */
  report?(error: unknown, path: string): void
  readonly idleTimeoutMs?: number
  /** Draws one where port 0 is given. */
  readonly drawPort?: () => number
}

export interface Served {
  /** Where it listens, with the port that was taken. */
  readonly address: string
  close(): Promise<void>
}

export interface ServedData extends Served {
  /** From now on these hosts, and no others, are sent what they fetch over data connections without `handleData`. */
  letRead(folder: string, readers: readonly Hex[]): void
  /** Ends the connections of whoever was admitted, and does not stay: what they are sending is cut. */
  dropExpelled(stays: (host: Hex) => boolean): void
}

export async function serve(options: ServeOptions): Promise<ServedData> {
  const { host, port } = parseAddress(options.listen)
  const callers = new WeakMap<object, Hex>()
  const server = createServer({
    key: options.tls.key,
    cert: options.tls.cert,
    requestCert: true,
    rejectUnauthorized: false,
    minVersion: 'TLSv1.3',
    ciphers: CIPHERS,
    honorCipherOrder: true,
    // A resumed session would carry a certificate that nobody proved again.
    secureOptions: constants.SSL_OP_NO_TICKET,
    handshakeTimeout: 2 * CONNECT_TIMEOUT_MS,
    headersTimeout: REQUEST_TIMEOUT_MS,
    requestTimeout: TRANSFER_TIMEOUT_MS,
    keepAliveTimeout: KEEP_ALIVE_MS,
    connectionsCheckingInterval: 2_000,
    noDelay: true,
    keepAlive: true,
    highWaterMark: SOCKET_BUFFER_BYTES,
  })
  server.maxConnections = CONNECTIONS
  const unproved = new Unproved()
  const members = new Map<TLSSocket, Hex>()
  guard(server, { callers, members, unproved }, options)
  const door = openDoor(options)
  greet(server, unproved, door)
  const router = new Router(options.routes)
  const room = new BodyRoom()
  const answer = (request: IncomingMessage, response: ServerResponse, expects: boolean) =>
    void new Exchange(options, router, room, callers.get(request.socket), request, response, expects).run()
  server.on('request', (request, response) => answer(request, response, false))
  server.on('checkContinue', (request, response) => answer(request, response, true))
  await listen(server, host, port, options.drawPort ?? drawPort)
  const bound = server.address() as AddressInfo
  const shown = bound.family === 'IPv6' ? `[${bound.address}]` : bound.address
  return {
    address: `${shown}:${bound.port}`,
    letRead: (folder, readers) => door?.letRead(folder, readers),
    dropExpelled(stays) {
      for (const [socket, host] of members) if (!stays(host)) socket.destroy()
    },
    close: () => close(server, door),
  }
}

function openDoor({ handleData: handle, ...options }: ServeOptions): DataDoor | undefined {
  return handle && new DataDoor({ ...options, handle })
}

/** Who has said something is greeted by Node's own listeners. Data connections leave before TLS is begun here. */
function greet(server: Server, unproved: Unproved, door: DataDoor | undefined): void {
  const greeters = server.listeners('connection')
  server.removeAllListeners('connection')
  server.on('connection', (socket: Socket) => {
    unproved.enter(socket)
    atFirstByte(socket, (head) => {
      if (door?.takes(socket, head)) return
      socket.unshift(head)
      for (const greeter of greeters) greeter.call(server, socket)
    })
  })
}

interface Guarded {
  readonly callers: WeakMap<object, Hex>
  /** Of those that were members when they came. */
  readonly members: Map<TLSSocket, Hex>
  readonly unproved: Unproved
}

/** Takes the place of Node's own listener, which hands the socket to the HTTP parser, and calls it for the admitted only. */
function guard(server: Server, { callers, members, unproved }: Guarded, options: ServeOptions): void {
  const parsers = server.listeners('secureConnection')
  server.removeAllListeners('secureConnection')
  const strangersWelcome = options.routes.some((route) => route.open)
  const shares = new Map<Hex, number>()
  server.on('secureConnection', (socket: TLSSocket) => {
    const caller = callerOf(socket)
    const isMember = caller !== undefined && options.admit(caller)
    if (!caller || !(strangersWelcome || isMember)) return refuse(socket, notMember())
    if (isMember) {
      const count = (shares.get(caller) ?? 0) + 1
      if (count > CONNECTIONS_PER_HOST) return refuse(socket, tooMany())
      shares.set(caller, count)
      members.set(socket, caller)
      socket.once('close', () => {
        members.delete(socket)
        shares.set(caller, (shares.get(caller) ?? 1) - 1)
      })
      unproved.proved(socket)
    }
    callers.set(socket, caller)
    for (const parse of parsers) parse.call(server, socket)
  })
}

function callerOf(socket: TLSSocket): Hex | undefined {
  const certificate = socket.getPeerX509Certificate()
  if (!certificate) return undefined
  try {
    return certificateHost(certificate.raw)
  } catch {
    return undefined
  }
}

function tooMany(): ImagerError {
  return new ImagerError('HOST_REFUSED', { host: 'It', why: `it has ${CONNECTIONS_PER_HOST} connections of this host` })
}

/** A few bytes, so that its user learns why; nothing that it sends is looked at. */
function refuse(socket: TLSSocket, why: ImagerError): void {
  const { body } = encodeRefusal(why)
  socket.on('error', () => {})
  const lines = ['HTTP/1.1 403 Forbidden', `content-length: ${body.length}`, 'connection: close', '', '']
  socket.end(Buffer.concat([Buffer.from(lines.join('\r\n')), body]))
  setTimeout(() => socket.destroy(), LINGER_MS).unref()
}

/** One request and its answer. */
class Exchange {
  #bodyAsked = false
  #release = () => {}

  constructor(
    readonly options: ServeOptions,
    readonly router: Router<Route>,
    readonly room: BodyRoom,
    readonly host: Hex | undefined,
    readonly request: IncomingMessage,
    readonly response: ServerResponse,
    readonly expects: boolean,
  ) {}

  async run(): Promise<void> {
    this.request.on('error', () => {})
    this.response.on('error', () => {})
    try {
      const match = this.router.find(this.request.method ?? '', this.request.url ?? '')
      if (!this.host || !(match.route.open || this.options.admit(this.host)))
        throw (this.host && this.options.tell?.(this.host)) || notMember()
      this.#send(await match.route.handle(this.#view(this.host, match)))
    } catch (error) {
      if (!(error instanceof ImagerError)) this.options.report?.(error, this.request.url ?? '')
      this.#send(encodeRefusal(error))
    } finally {
      this.#release()
    }
  }

  #view(host: Hex, { route, params, query }: Match<Route>): Request {
    const { headers, socket } = this.request
    return {
      host,
      params,
      query,
      headers,
      range: parseRange(headers.range),
      lengthBytes: Number(headers['content-length'] ?? 0),
      body: () => this.#body(host, route.maxBytes),
      exporter: () => exportSecret(socket as TLSSocket),
    }
  }

  async #body(host: Hex, maxBytes: number): Promise<Buffer> {
    const { headers } = this.request
    if (headers['transfer-encoding']) throw new ImagerError('PROTOCOL', { what: 'a body without a length' })
    const lengthBytes = Number(headers['content-length'] ?? 0)
    if (lengthBytes > maxBytes) {
      throw new ImagerError('PROTOCOL', {
        what: `a body of ${lengthBytes} bytes, where at most ${maxBytes} are allowed`,
      })
    }
    const arriving = { bytes: lengthBytes, arrived: 0, cut: () => void this.request.destroy() }
    this.#release = await this.room.claim(host, arriving)
    if (this.request.destroyed) throw new ImagerError('PROTOCOL', { what: 'a caller that did not wait' })
    this.#bodyAsked = true
    if (this.expects) this.response.writeContinue()
    return readBody(this.request, arriving, this.options.idleTimeoutMs ?? IDLE_TIMEOUT_MS)
  }

  #send({ status = 200, headers = {}, body = new Uint8Array() }: Answer): void {
    const { request, response } = this
    if (response.headersSent || response.destroyed) return
    // What is left of an unread body would be taken for the next request.
    const unread =
      this.expects && !this.#bodyAsked ? Number(request.headers['content-length'] ?? 0) > 0 : !request.complete
    if (unread) response.shouldKeepAlive = false
    response.writeHead(status, status === 204 ? headers : { ...headers, 'content-length': body.length })
    const timer = setTimeout(() => request.socket.destroy(), TRANSFER_TIMEOUT_MS)
    response.once('close', () => clearTimeout(timer))
    response.end(body)
  }
}

function readBody(request: IncomingMessage, arriving: Arriving, idleTimeoutMs: number): Promise<Buffer> {
  const { bytes } = arriving
  const body = Buffer.allocUnsafe(bytes)
  return new Promise((resolve, reject) => {
    const cut = () =>
      reject(new ImagerError('PROTOCOL', { what: `a body cut at ${arriving.arrived} of ${bytes} bytes` }))
    request.on('data', (chunk: Buffer) => {
      chunk.copy(body, arriving.arrived)
      arriving.arrived += chunk.length
    })
    request.once('end', () => {
      request.setTimeout(0)
      if (arriving.arrived === bytes) resolve(body)
      else cut()
    })
    request.once('close', cut)
    request.setTimeout(idleTimeoutMs, () => request.destroy())
  })
}

/** A port that is drawn is listened on at once, so that nobody else gets it between the look and the use. */
async function listen(server: Server, host: string, port: number, draw: () => number): Promise<void> {
  for (let tries = 1; ; tries++) {
    try {
      await listenOn(server, host, port || draw())
      break
    } catch (error) {
      if (port !== 0 || tries === PORT_TRIES || !hasCode(error, 'ADDRESS_IN_USE')) throw error
    }
  }
  server.on('error', () => {})
}

async function listenOn(server: Server, host: string, port: number): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const settle = (done: () => void) => {
      server.removeListener('listening', heard)
      server.removeListener('error', failed)
      done()
    }
    const heard = () => settle(resolve)
    const failed = (cause: NodeJS.ErrnoException) => settle(() => reject(cannotListen(`${host}:${port}`, cause)))
    server.once('listening', heard).once('error', failed)
    server.listen(port, host)
  })
}

function cannotListen(address: string, cause: NodeJS.ErrnoException): ImagerError {
  if (cause.code === 'EADDRINUSE') return new ImagerError('ADDRESS_IN_USE', { address }, { cause })
  return new ImagerError('SYSTEM', { what: `Cannot listen on ${address}: ${cause.message}` }, { cause })
}

/** Lets what is under way end for a moment, then cuts it. */
async function close(server: Server, door: DataDoor | undefined): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()))
  server.closeIdleConnections()
  const timer = setTimeout(() => server.closeAllConnections(), LINGER_MS)
  await Promise.all([closed, door?.close()])
  clearTimeout(timer)
}
