/** Where others reach what listens here. */
import { randomInt } from 'node:crypto'
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

/** Below the ports that systems give to outgoing connections, which could take a free one before it is listened on. */
const [FIRST_PORT, LAST_PORT] = [10_000, 32_767]
const TRIES = 100

/** A port that nothing listens on now. A coordinator's must be known before it starts: tokens name it. */
export async function freePort(): Promise<number> {
  for (let tries = 0; tries < TRIES; tries++) {
    const port = randomInt(FIRST_PORT, LAST_PORT + 1)
    if (await isFree(port)) return port
  }
  throw new ImagerError('SYSTEM', { what: 'No free port' })
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer()
  const listening = await new Promise<boolean>((done) => {
    server.once('error', () => done(false))
    server.listen(port, '127.0.0.1', () => done(true))
  })
  if (listening) await new Promise((done) => server.close(done))
  return listening
}
