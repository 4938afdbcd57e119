/** A server on loopback with a few routes, and hosts with real certificates. */
import { once } from 'node:events'
import type { AddressInfo, Server, Socket } from 'node:net'
import { connect, type TLSSocket } from 'node:tls'
import type { ExecutionContext } from 'ava'
import { ImagerError } from '../../src/base/errors.js'
import { type TlsIdentity, tlsIdentity } from '../../src/keys/certificate.js'
import { Secret } from '../../src/native.js'
import { parseAddress } from '../../src/wire/address.js'
import { Connection, type ConnectionOptions } from '../../src/wire/client.js'
import { type Request, type Route, type ServeOptions, serve } from '../../src/wire/server.js'

export const identity = () => tlsIdentity(Secret.random())

export interface Loopback {
  server: TlsIdentity
  member: TlsIdentity
  members: Set<string>
  address: string
  /** Path of every request that reached a handler. */
  handled: string[]
  connection(options?: Partial<ConnectionOptions>): Connection
  close(): Promise<void>
}

export async function loopback(
  t: ExecutionContext,
  extra: Partial<Route>[] = [],
  options: Partial<ServeOptions> = {},
): Promise<Loopback> {
  const [server, member] = [identity(), identity()]
  const members = new Set([member.host])
  const handled: string[] = []
  const note = (route: Route) => (request: Request) => {
    handled.push(request.headers.expect ? 'expect' : 'plain')
    return route.handle(request)
  }
  const routes: Route[] = [
    { method: 'PUT', path: '/echo', maxBytes: 8 << 20, handle: async (request) => ({ body: await request.body() }) },
    { method: 'POST', path: '/echo', maxBytes: 1000, handle: async (request) => ({ body: await request.body() }) },
    {
      method: 'GET',
      path: '/who/:name',
      maxBytes: 0,
      handle: ({ host, params, query, range }) => {
        return { body: Buffer.from(JSON.stringify({ host, params, query: Object.fromEntries(query), range })) }
      },
    },
    {
      method: 'GET',
      path: '/full',
      maxBytes: 0,
      handle: () => {
        throw new ImagerError('HOST_FULL', { host: 'pc-1', why: 'so\u001b[2Jfull' })
      },
    },
    {
      method: 'PUT',
      path: '/refuse',
      maxBytes: 8 << 20,
      handle: () => {
        throw new ImagerError('NOT_ALLOWED', { what: 'no', role: 'appliance' })
      },
    },
    {
      method: 'GET',
      path: '/bug',
      maxBytes: 0,
      handle: () => {
        throw new TypeError('a secret of ours')
      },
    },
    { method: 'GET', path: '/never', maxBytes: 0, handle: () => new Promise(() => {}) },
    ...(extra as Route[]),
  ]
  const served = await serve({
    tls: server,
    listen: '127.0.0.1:0',
    admit: (host) => members.has(host),
    ...options,
    routes: routes.map((route) => ({ ...route, handle: note(route) })),
  })
  t.teardown(() => served.close())
  const connections: Connection[] = []
  t.teardown(() => {
    for (const connection of connections) connection.close()
  })
  return {
    server,
    member,
    members,
    address: served.address,
    handled,
    connection: (given = {}) => {
      const made = new Connection({
        tls: member,
        addresses: [served.address],
        host: server.host,
        name: 'pc-1',
        ...given,
      })
      connections.push(made)
      return made
    },
    close: () => served.close(),
  }
}

/** Where a server listens until the test ends, with all who have called it. */
export async function listening(t: ExecutionContext, server: Server): Promise<string> {
  const sockets = new Set<Socket>()
  server.on('connection', (socket: Socket) => sockets.add(socket))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return `127.0.0.1:${(server.address() as AddressInfo).port}`
}

/** A bare TLS socket, connected; collects what it is sent. */
export async function bare(
  t: ExecutionContext,
  address: string,
  options: object = {},
): Promise<{ socket: TLSSocket; received: () => string; closed: Promise<void> }> {
  const socket = connect({ ...parseAddress(address), rejectUnauthorized: false, ...options })
  t.teardown(() => socket.destroy())
  let text = ''
  socket.on('data', (chunk: Buffer) => {
    text += chunk.toString('latin1')
  })
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()))
  await new Promise<void>((resolve, reject) => {
    socket.once('secureConnect', resolve)
    socket.once('error', reject)
  })
  socket.on('error', () => {})
  return { socket, received: () => text, closed }
}
