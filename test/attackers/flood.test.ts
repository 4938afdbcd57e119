/**
 * Crowds against the daemons of a lab: connections, bodies that come a byte at a time, calls that are refused, joins. What it costs
 * them in memory, and how long whoever is honest waits meanwhile, is measured and said.
 */
import { readFileSync, statSync } from 'node:fs'
import { connect as connectTcp, type Socket } from 'node:net'
import { join } from 'node:path'
import { connect as connectTls, type TLSSocket } from 'node:tls'
import test, { type ExecutionContext } from 'ava'
import { KiB, MiB } from '../../src/base/units.js'
import { tlsIdentity } from '../../src/keys/certificate.js'
import { openHome } from '../../src/keys/home.js'
import { TokenKey } from '../../src/keys/token.js'
import { Secret, type SecretHandle } from '../../src/native.js'
import { parseAddress } from '../../src/wire/address.js'
import { TestLab } from '../e2e/lab.js'
import { attacking } from './attacks.js'
import { coordinatorOf, Hands, joinAs, outcomeOf, peerOf, type Target } from './hands.js'

/** More than 32 MiB each have in all 256 MiB of bodies. */
const THIEVES = 9
/** Below the 15 s after which an honest call is given up. */
const SERVED_MS = 14_000

/** Connections that the test ends with, and bytes that go on dripping meanwhile. */
class Crowd {
  readonly #sockets: Socket[] = []
  readonly #dripping = setInterval(() => {
    for (const socket of this.#sockets) if (socket.writable && !socket.connecting) socket.write('x')
  }, 500)

  constructor(t: ExecutionContext) {
    t.teardown(() => this.end())
  }

  silent({ address }: Target, first: string): void {
    const { host, port } = parseAddress(address)
    const socket = connectTcp(port, host)
    socket.on('error', () => {})
    if (first !== '') socket.write(first, 'latin1')
    this.#silent.push(socket)
  }

  readonly #silent: Socket[] = []

  /** Headers, and from then on a byte now and then. */
  async dawdle({ address }: Target, secret: SecretHandle, request: string, bytes: number): Promise<TLSSocket> {
    const { key, cert } = tlsIdentity(secret)
    const socket = connectTls({ ...parseAddress(address), key, cert, rejectUnauthorized: false, minVersion: 'TLSv1.3' })
    socket.on('error', () => {})
    socket.resume()
    await new Promise((resolve) => socket.once('secureConnect', resolve).once('close', resolve))
    socket.write(`${request} HTTP/1.1\r\nhost: x\r\ncontent-length: ${bytes}\r\n\r\n{`)
    this.#sockets.push(socket)
    return socket
  }

  end(): void {
    clearInterval(this.#dripping)
    for (const socket of [...this.#sockets, ...this.#silent]) socket.destroy()
  }
}

const residentBytes = (pid: number): number =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) * KiB

test('crowds that say nothing, dawdle, or ask for what is refused: the honest are served meanwhile, and memory stays bounded', async (t) => {
  const tried = attacking(t)
  const lab = await TestLab.up(t, 2)
  const { coordinator, appliance, peers } = lab.lab
  const [office, peer] = [coordinatorOf(lab), peerOf(lab, 0)]
  const disk = lab.makeDisk('disk.img', 8)
  await lab.snapshot(t, disk)
  const thieves: SecretHandle[] = []
  for (let at = 0; at < THIEVES; at++) thieves.push(openHome(await joinAs(lab, 'appliance', `thief-${at}`)).secret)
  const pids = { coordinator: coordinator.pid, peer: peers[0]?.pid ?? 0 }
  const before = { coordinator: residentBytes(pids.coordinator), peer: residentBytes(pids.peer) }
  const honest = openHome(appliance.state).secret

  /** A question, and a large body, each over a connection of its own. */
  const measure = async (what: string) => {
    const hands = new Hands(t, honest)
    const time = async (ask: () => Promise<unknown>, answers: RegExp) => {
      const began = performance.now()
      t.regex(await outcomeOf(ask()), answers, what)
      return performance.now() - began
    }
    const [small, large, held] = await Promise.all([
      time(() => hands.catalog(office).snapshots(), /^taken$/),
      time(() => hands.catalog(office).lookup('ab'.repeat(16), Buffer.alloc(65_536 * 32), 1), /^LEASE_ENDED$/),
      time(() => hands.peer(peer).fetchState(), /^taken$/),
    ])
    const grown = (['coordinator', 'peer'] as const).map((who) => residentBytes(pids[who]) - before[who])
    t.log(
      `${what}: a question ${ms(small)}, 2 MiB ${ms(large)}, a peer ${ms(held)}; coordinator ${mib(grown[0])}, peer ${mib(grown[1])} more`,
    )
    for (const took of [small, large, held]) t.true(took < SERVED_MS, `${what}: ${took} ms`)
    for (const more of grown) t.true(more < 320 * MiB, `${what}: ${more} bytes`)
  }
  await measure('nobody else')

  // Strangers: connections of one address, more than may be open, and bodies of joins.
  const strangers = new Crowd(t)
  for (let at = 0; at < 400; at++)
    for (const one of [office, peer]) strangers.silent(one, at % 2 === 0 ? '' : '\x16\x03\x01')
  await measure('800 connections of one address')
  tried('flood-connections')
  const someone = Secret.random()
  await Promise.all(Array.from({ length: 60 }, () => strangers.dawdle(office, someone, 'POST /v1/join', 16 * KiB)))
  await measure('and 60 joins, a byte at a time')
  strangers.end()
  tried('slow-joins')

  // Members: the largest bodies there are, half sent.
  const dawdlers = new Crowd(t)
  await Promise.all(
    thieves.flatMap((secret) =>
      Array.from({ length: 3 }, () => dawdlers.dawdle(office, secret, 'POST /v1/finish', 16 * MiB)),
    ),
  )
  await measure(`${3 * THIEVES} finishes of 16 MiB, a byte at a time`)
  tried('half-finishes')
  const bitmap = `PUT /v1/documents/bitmap/${'ab'.repeat(48)}`
  await Promise.all(Array.from({ length: 8 }, () => dawdlers.dawdle(peer, thieves[0] as SecretHandle, bitmap, 8 * MiB)))
  await lab.snapshot(t, disk)
  tried('slow-bitmaps')
  dawdlers.end()

  // What is refused, and leaves an event each time.
  const catalogBytes = () => statSync(join(coordinator.state, 'catalog', 'catalog.db')).size
  const size = catalogBytes()
  const [key, thief] = [new TokenKey(Buffer.alloc(32, 7)), new Hands(t, thieves[0] as SecretHandle)]
  const joining = { name: 'x', domain: 'x', addresses: ['127.0.0.1:7421'], key, admission: Buffer.alloc(100) }
  const [calls, joins] = [thief.catalog(office), new Hands(t, Secret.random()).catalog(office)]
  let going = true
  let refused = 0
  const flood = async (ask: () => Promise<unknown>) => {
    while (going) {
      t.not(await outcomeOf(ask()), 'taken')
      refused++
    }
  }
  const floods = [...Array(8).keys()].flatMap(() => [flood(() => calls.events()), flood(() => joins.join(joining))])
  await new Promise((resolve) => setTimeout(resolve, 1_000))
  await measure('refusals and joins without end')
  going = false
  await Promise.all(floods)
  t.log(`${refused} were refused; the catalog grew by ${mib(catalogBytes() - size)}`)
  t.true(catalogBytes() - size < 4 * MiB)
  tried('flood-refusals', 'flood-joins')
  await lab.restoreLatest(t, disk)
})

const ms = (took: number): string => `${Math.round(took)} ms`
const mib = (bytes = 0): string => `${(bytes / MiB).toFixed(1)} MiB`
