/** A fleet with one real peer on loopback: its store in a temporary folder, its TLS, and hosts that call it. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ExecutionContext } from 'ava'
import { type ErrorCode, hasCode } from '../../src/base/errors.js'
import { type TlsIdentity, tlsIdentity } from '../../src/keys/certificate.js'
import { type Grant, signGrant } from '../../src/keys/grant.js'
import { openMembership } from '../../src/keys/membership.js'
import { DataClient, hash, shardId as nameShard, Secret, type SecretHandle } from '../../src/native.js'
import { PeerClient } from '../../src/peers/client.js'
import { DataTransport } from '../../src/peers/data-transport.js'
import { HttpsTransport } from '../../src/peers/https-transport.js'
import { type Callable, Peers } from '../../src/peers/pool.js'
import { servePeer } from '../../src/peers/server.js'
import { ShardStore, type StoreOptions } from '../../src/peers/store.js'
import { Witness } from '../../src/peers/witness.js'
import { runName } from '../../src/stripes/names.js'
import { Connection } from '../../src/wire/client.js'
import { DataLink } from '../../src/wire/data-client.js'
import type { ShardTransport } from '../../src/wire/shard-transport.js'
import { fleet, hostOf, makeFleet, type TestFleet } from '../keys/fleet.js'

const BODY_OFFSET = 4096
const SLICE_BYTES = 64 * 1024

/** The appliance that wrote all shards of these tests, in one run; the same in each process. */
const writer = Secret.fromWords(`${'abandon '.repeat(23)}art`).derive('imager v1 test writer')
export const RUN = { writer: hostOf(writer), run: '0123456789abcdef' }
const numbers = new Map<string, number>()

/** The only shard of the stripe of that number. */
export function shardId(number: number): string {
  const id = nameShard(runName(RUN.writer, RUN.run), number, 0)
  numbers.set(id, number)
  return id
}

/** Which one it is, of those that were named. */
export const numberOfShard = (shard: string) => numbers.get(shard)

/** A sound shard file (native/src/formats/shard.rs), of a stripe that has this body alone, around any body of at least one byte. */
export function makeShard(shard: string, body: Buffer, inFleet = fleet): Buffer {
  return makeShards(numbers.get(shard) ?? 0, [body], inFleet)[0] as Buffer
}

/** The id of a shard of the stripe of that number. */
export const idOf = (number: number, index: number) => nameShard(runName(RUN.writer, RUN.run), number, index)

/** The shard files of a stripe, around bodies of one length; the last `m` of them are called parity, whatever they are. */
export function makeShards(number: number, bodies: readonly Buffer[], inFleet = fleet, m = 0): Buffer[] {
  const lengthBytes = bodies[0]?.length ?? 0
  const heads = bodies.map((body, index) => {
    const fixed = Buffer.alloc(16)
    fixed.write('IMSH', 0)
    fixed.writeUInt16LE(1, 4)
    fixed.writeUInt32LE(lengthBytes, 8)
    fixed.writeUInt8(index, 12)
    const slices: Buffer[] = []
    for (let at = 0; at < body.length; at += SLICE_BYTES) slices.push(hash(body.subarray(at, at + SLICE_BYTES)))
    const table = Buffer.concat(slices)
    return { fixed, root: hash(Buffer.concat([fixed, table])), table }
  })
  const shape = Buffer.alloc(10)
  shape.writeUInt32LE(number, 0)
  shape.writeUInt8(bodies.length - m, 4)
  shape.writeUInt8(m, 5)
  shape.writeUInt32LE(lengthBytes * (bodies.length - m), 6)
  const name = [Buffer.from(inFleet, 'hex'), runName(RUN.writer, RUN.run), shape, Buffer.alloc(32, 7)]
  const descriptor = Buffer.concat([...name, ...heads.map(({ root }) => root)])
  const signature = writer.sign(Buffer.concat([Buffer.from('imager v1 stripe\0'), descriptor]))
  return heads.map(({ fixed, root, table }, index) => {
    const header = Buffer.concat([fixed, root, table, descriptor, signature])
    return Buffer.concat([header, Buffer.alloc(BODY_OFFSET - header.length), bodies[index] as Buffer])
  })
}

export function folder(t: ExecutionContext): string {
  const path = mkdtempSync(join(tmpdir(), 'imager-peer-'))
  t.teardown(() => rmSync(path, { recursive: true, force: true }))
  return path
}

export const openStore = (path: string, options: Partial<StoreOptions> = {}) =>
  ShardStore.open({ folder: path, keepFree: 0, name: 'pc-1', ...options })

export interface TestPeer {
  fleet: TestFleet
  host: string
  address: string
  store: ShardStore
  folder: string
  adopted: Buffer[]
  now: { value: number }
  /** How often its JavaScript has looked at who is a member. */
  looked: { times: number }
  client(who: SecretHandle): PeerClient
  grant(shard: string, lengthBytes: number, change?: Partial<Grant>, signer?: SecretHandle): string
  send(shard: string, bytes: Buffer): Promise<Buffer>
}

/** How the bodies of shards travel. */
export const WAYS = ['data connections', 'HTTPS'] as const
export type Way = (typeof WAYS)[number]

export interface Called {
  tls: TlsIdentity
  addresses: readonly string[]
  host: string
  name?: string
}

export function openTransport(
  way: Way,
  { tls, name = 'pc-1', ...at }: Called,
): { shards: ShardTransport; close(): void } {
  if (way === 'HTTPS') {
    const connection = new Connection({ tls, name, ...at })
    return { shards: new HttpsTransport(name, connection), close: () => connection.close() }
  }
  const client = new DataClient(tls.key, tls.cert)
  return { shards: new DataTransport(new DataLink({ client, name, ...at })), close: () => client.close() }
}

export async function startPeer(
  t: ExecutionContext,
  options: Partial<StoreOptions> = {},
  way: Way = 'data connections',
): Promise<TestPeer> {
  const members = makeFleet()
  const path = options.folder ?? folder(t)
  const store = await openStore(path, options)
  const tls = tlsIdentity(members.peer)
  const now = { value: 1_000_000 }
  const adopted: Buffer[] = []
  let membership = members.membership
  const watchers: (() => void)[] = []
  const looked = { times: 0 }
  const trust = {
    fleet,
    rootKey: members.rootKey,
    membership: () => {
      looked.times++
      return membership
    },
    watchMembership: (changed: () => void) => void watchers.push(changed),
  }
  const clock = { now: () => now.value }
  const witness = await Witness.open({ folder: path, trust, secret: members.peer, clock, store })
  const known: Callable[] = []
  const others = new Peers(tls, () => known, clock)
  t.teardown(() => others.close())
  const served = await servePeer({
    tls,
    listen: '127.0.0.1:0',
    host: tls.host,
    secret: members.peer,
    trust,
    store,
    clock,
    witness,
    others,
    adopt: (bytes) => {
      adopted.push(bytes)
      membership = openMembership(bytes, fleet, members.rootKey)
      for (const changed of watchers) changed()
    },
  })
  t.teardown(() => served.close())
  const client = (who: SecretHandle) => {
    const called = { tls: tlsIdentity(who), addresses: [served.address], host: tls.host, name: 'pc-1' }
    const connection = new Connection(called)
    const { shards, close } = openTransport(way, called)
    t.teardown(() => {
      connection.close()
      close()
    })
    return new PeerClient(tls.host, 'pc-1', connection, shards)
  }
  const grant: TestPeer['grant'] = (shard, lengthBytes, change = {}, signer = members.coordinator) => {
    const body: Grant = {
      fleet,
      term: 1,
      operation: 'put',
      lease: '1e'.repeat(16),
      ...RUN,
      number: numbers.get(shard) ?? 0,
      index: 0,
      lengthBytes,
      host: tls.host,
      bearer: hostOf(members.appliance),
      ...change,
    }
    return signGrant(body, signer).toString('base64')
  }
  const appliance = client(members.appliance)
  const send = (shard: string, bytes: Buffer) => appliance.sendShard(shard, bytes, grant(shard, bytes.length))
  return {
    fleet: members,
    host: tls.host,
    address: served.address,
    store,
    folder: path,
    adopted,
    now,
    looked,
    client,
    grant,
    send,
  }
}

/** As the appliance of a fleet has it. */
export function transportTo(
  t: ExecutionContext,
  way: Way,
  { fleet, address, host }: TestPeer,
  addresses: readonly string[] = [address],
): ShardTransport {
  const { shards, close } = openTransport(way, { tls: tlsIdentity(fleet.appliance), addresses, host })
  t.teardown(close)
  return shards
}

/** `codes`: separated by blanks. */
export async function throwsOneOf(
  t: ExecutionContext,
  codes: string,
  work: Promise<unknown>,
  which: string,
): Promise<void> {
  const error = await t.throwsAsync(work)
  t.true(hasCode(error, ...(codes.split(' ') as ErrorCode[])), `${which}: ${error}`)
}
