/** Where others reach what listens here. */
import { createServer } from 'node:net'
import { networkInterfaces } from 'node:os'
import { ImagerError } from '../base/errors.js'

/** For "every interface" that is this computer's first address on a network, else what it says. */
export function advertised(listen: string): string {
  const [, host, port] = /^(.*):(\d+)$/.exec(listen) ?? []
  if (host !== '0.0.0.0' && host !== '[::]') return listen
  const all = Object.values(networkInterfaces()).flatMap((one) => one ?? [])
  const first = all.find((one) => !one.internal && one.family === 'IPv4')
  return `${first?.address ?? '127.0.0.1'}:${port}`
}

/** A port that nothing listens on now. A coordinator's must be known before it starts: tokens name it. */
export async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((done, fail) => {
    server.once('error', fail)
    server.listen(0, '127.0.0.1', done)
  })
  const address = server.address()
  await new Promise((done) => server.close(done))
  if (address === null || typeof address === 'string') throw new ImagerError('SYSTEM', { what: 'No free port' })
  return address.port
}
