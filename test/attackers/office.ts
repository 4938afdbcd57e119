/**
 * The coordinator of a lab in foreign hands: its identity, its state folder and its address, and the project's own code but for
 * what is told to lie. `serveBytes` answers in its place with whatever bytes it likes.
 */
import { createServer, type TLSSocket } from 'node:tls'
import type { ExecutionContext } from 'ava'
import { systemClock } from '../../src/base/clock.js'
import { LocalCatalog } from '../../src/catalog/local.js'
import { serveCoordinator } from '../../src/coordinator/server.js'
import { Watch } from '../../src/coordinator/watch.js'
import { type Home, openHome } from '../../src/keys/home.js'
import { parseAddress } from '../../src/wire/address.js'
import type { TestLab } from '../e2e/lab.js'

/** Takes the place of a method; is given what it would have done. */
type Lie = (honest: (...given: never[]) => unknown, ...given: never[]) => unknown
export type Lies = Partial<Record<keyof LocalCatalog | 'cosigned', Lie>>

export interface Office {
  readonly home: Home
  /** As it is, whatever is told of it. */
  readonly catalog: LocalCatalog
  /** By method: what is not in here is answered as it should be. */
  lies: Lies
  close(): Promise<void>
}

/** A thing that does what it did, but for the methods that a lie stands in for. */
function lying<T extends object>(thing: T, lies: () => Lies): T {
  return new Proxy(thing, {
    get(target, name) {
      const value = Reflect.get(target, name, target) as unknown
      if (typeof value !== 'function') return value
      const honest = value.bind(target) as (...given: never[]) => unknown
      const lie = lies()[name as keyof Lies]
      return lie ? (...given: never[]) => lie(honest, ...given) : honest
    },
  })
}

/** Its daemon has ended. */
export async function openOffice(t: ExecutionContext, { lab }: TestLab): Promise<Office> {
  const { state, address } = lab.coordinator
  const home = openHome(state)
  const catalog = LocalCatalog.openFor(state)
  const watch = new Watch({
    ...{ home, catalog, clock: systemClock, onMembership() {}, wake() {}, say: (what: string) => t.log(what) },
    restore: async () => {},
  })
  const office: Office = { home, catalog, lies: {}, close: () => closing() }
  const told = lying(watch, () => office.lies)
  const served = await serveCoordinator({
    ...{ home, catalog: lying(catalog, () => office.lies), listen: address, watch: told },
  })
  let closed: Promise<void> | undefined
  const closing = () => {
    closed ??= (async () => {
      await Promise.all([served.close(), watch.close()])
      catalog.close()
    })()
    return closed
  }
  t.teardown(closing)
  await watch.round()
  t.true(watch.isCurrent)
  return office
}

/** Answers each request, once its head was read, by what `answer` writes. */
export async function serveBytes(
  { home }: Pick<Office, 'home'>,
  address: string,
  answer: (socket: TLSSocket, path: string) => void,
): Promise<{ close(): Promise<void> }> {
  const sockets = new Set<TLSSocket>()
  const { key, cert } = home.tls
  const server = createServer({ key, cert, requestCert: true, rejectUnauthorized: false, minVersion: 'TLSv1.3' })
  server.on('secureConnection', (socket) => {
    sockets.add(socket)
    socket.on('error', () => {})
    socket.on('data', (head: Buffer) => {
      const path = /^POST (\/v1\/\w+) /.exec(head.toString('latin1'))?.[1]
      if (path !== undefined) answer(socket, path)
    })
  })
  const { host, port } = parseAddress(address)
  await new Promise<void>((resolve) => server.listen(port, host, resolve))
  return {
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        for (const socket of sockets) socket.destroy()
      }),
  }
}
