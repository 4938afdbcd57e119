/** A shard that was lost is made anew from k others, by a peer, between peers. */
import { randomBytes } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import test, { type ExecutionContext } from 'ava'
import { hasCode } from '../../src/base/errors.js'
import { tlsIdentity } from '../../src/keys/certificate.js'
import { openMembership } from '../../src/keys/membership.js'
import { type Repair, signRepair } from '../../src/keys/repair.js'
import { Body, recoverBody, Secret, type SecretHandle } from '../../src/native.js'
import { PeerClient } from '../../src/peers/client.js'
import { type Callable, Peers } from '../../src/peers/pool.js'
import { servePeer } from '../../src/peers/server.js'
import type { ShardStore } from '../../src/peers/store.js'
import { Witness } from '../../src/peers/witness.js'
import { openReceipt } from '../../src/stripes/receipt.js'
import { Connection } from '../../src/wire/client.js'
import { fleet, makeFleet, member, signPlain } from '../keys/fleet.js'
import { folder, idOf, makeShards, openStore, RUN } from './peer.js'

const STRIPE = 5
const LENGTH = 200_000

interface Host {
  readonly host: string
  readonly store: ShardStore
  readonly secret: SecretHandle
}

/** Four peers, with shards 0 to 2 of a 2+2 stripe on the first three. */
async function setUp(t: ExecutionContext, tamper = (bodies: Buffer[]) => bodies) {
  const members = makeFleet()
  const secrets = [1, 2, 3, 4].map(() => Secret.random())
  const hosts = [...members.body.hosts, ...secrets.map((secret, at) => member(secret, `pc-${at + 2}`, 'peer'))]
  const membership = openMembership(signPlain({ ...members.body, hosts }, members.coordinator), fleet, members.rootKey)
  const trust = { fleet, rootKey: members.rootKey, membership: () => membership, watchMembership: () => {} }
  const clock = { now: () => 1_000_000 }
  const called: Callable[] = []
  const peers: Host[] = []
  for (const [at, secret] of secrets.entries()) {
    const path = folder(t)
    const [store, tls] = [await openStore(path), tlsIdentity(secret)]
    const others = new Peers(tls, () => called, clock)
    const served = await servePeer({
      ...{ tls, listen: '127.0.0.1:0', host: tls.host, secret, trust, store, clock, others, adopt: () => {} },
      witness: await Witness.open({ folder: path, trust, secret, clock, store }),
    })
    t.teardown(() => served.close().then(() => others.close()))
    called.push({ host: tls.host, name: `pc-${at + 2}`, addresses: [served.address] })
    peers.push({ host: tls.host, store, secret })
  }
  const data = [randomBytes(LENGTH), randomBytes(LENGTH)]
  const parity = await Promise.all(
    [2, 3].map((wanted) => recoverBody(2, 2, [...data.map((body) => new Body(body)), null, null], wanted)),
  )
  const files = makeShards(STRIPE, tamper([...data, ...parity.map((body) => body.take())]), fleet, 2)
  for (const index of [0, 1, 2]) await peers[index]?.store.put(idOf(STRIPE, index), files[index] as Buffer)
  const asCaller = (secret: SecretHandle, at: number) => {
    const { host, name, addresses } = called[at] as Callable
    const connection = new Connection({ tls: tlsIdentity(secret), addresses, host })
    t.teardown(() => connection.close())
    return new PeerClient(host, name, connection)
  }
  const leave = (host: string, change: Partial<Repair> = {}, signer = members.coordinator) => {
    const shard = { ...RUN, number: STRIPE, index: 3, lengthBytes: LENGTH + 4096, host }
    return signRepair({ fleet, term: 1, ...shard, ...change }, signer).toString('base64')
  }
  return { members, peers: peers as [Host, Host, Host, Host], files, asCaller, leave }
}

const sourcesOf = (peers: readonly Host[], indexes: readonly number[]) =>
  indexes.map((index) => ({ host: (peers[index] as Host).host, index }))

test('a peer makes a lost shard from k others, of which one is damaged and one is gone, and signs that it holds it', async (t) => {
  const { members, peers, files, asCaller, leave } = await setUp(t)
  const [first, , , last] = peers
  const file = first.store.shardPath(idOf(STRIPE, 0))
  const damaged = Buffer.from(files[0] as Buffer)
  damaged[50_000] = (damaged[50_000] as number) ^ 1
  writeFileSync(file, damaged)
  const question = { leave: leave(last.host), k: 2, sources: sourcesOf(peers, [0, 1, 2]) }
  const receipt = await asCaller(members.coordinator, 3).repair(question)
  t.deepEqual(await last.store.read(idOf(STRIPE, 3)), files[3], 'byte for byte as its writer made it')
  const root = (files[3] as Buffer).toString('hex', 16, 48)
  t.like(openReceipt(receipt, { fleet, shard: idOf(STRIPE, 3), root, host: last.host }), { index: 3 })

  // Too few are left: nothing is kept, and it is said whose is missing or bad.
  const fifth = { ...question, leave: leave(first.host), sources: sourcesOf(peers, [0, 1]) }
  const failed = await t.throwsAsync(asCaller(members.coordinator, 0).repair(fifth))
  t.true(hasCode(failed, 'SHARD_CORRUPT'), String(failed))
  t.false(await first.store.holds(idOf(STRIPE, 3)))
})

test('compromised peer: only the coordinator has a shard made, and only for a leave of its own does a peer read of others', async (t) => {
  const { members, peers, asCaller, leave } = await setUp(t)
  const [first, second, , last] = peers
  const question = { leave: leave(last.host), k: 2, sources: sourcesOf(peers, [0, 1, 2]) }
  for (const [who, secret] of [
    ['a peer', second.secret],
    ['an appliance', members.appliance],
  ] as const) {
    await t.throwsAsync(asCaller(secret, 3).repair(question), { code: 'NOT_ALLOWED' }, who)
  }
  const forged: [string, string][] = [
    ['signed by a peer', leave(last.host, {}, second.secret)],
    ['for another peer', leave(first.host)],
    ['of an earlier term', leave(last.host, { term: 0 })],
    ['of another fleet', leave(last.host, { fleet: 'ff'.repeat(16) })],
  ]
  for (const [what, bad] of forged) {
    await t.throwsAsync(asCaller(members.coordinator, 3).repair({ ...question, leave: bad }), undefined, what)
    await t.throwsAsync(asCaller(last.secret, 0).fetchForRepair(idOf(STRIPE, 0), bad), undefined, what)
  }
  t.false(await last.store.holds(idOf(STRIPE, 3)))
  await t.throwsAsync(asCaller(last.secret, 0).fetchBody(idOf(STRIPE, 0)), { code: 'NOT_ALLOWED' }, 'without one')
  const other = leave(last.host, { number: STRIPE + 1 })
  await t.throwsAsync(
    asCaller(last.secret, 0).fetchForRepair(idOf(STRIPE, 0), other),
    { code: 'NOT_ALLOWED' },
    'other stripe',
  )
  t.is((await asCaller(last.secret, 0).fetchForRepair(idOf(STRIPE, 0), leave(last.host))).length, LENGTH + 4096)
})

test('compromised appliance: of a stripe whose parity is none, nothing is made, and its writer is known by it', async (t) => {
  const junk = (bodies: Buffer[]) => [...bodies.slice(0, 3), randomBytes(LENGTH)]
  const { members, peers, asCaller, leave } = await setUp(t, junk)
  const question = { leave: leave(peers[3].host), k: 2, sources: sourcesOf(peers, [0, 1, 2]) }
  const failed = await t.throwsAsync(asCaller(members.coordinator, 3).repair(question))
  t.true(hasCode(failed, 'FORGED'), String(failed))
  t.regex(String(failed?.message), /parity is not of its data/)
  t.false(await peers[3].store.holds(idOf(STRIPE, 3)))
})
