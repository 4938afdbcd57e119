import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { toHex } from '../../src/base/ids.js'
import { OFFERS_PER_MINUTE } from '../../src/base/limits.js'
import { appoint } from '../../src/keys/admins.js'
import {
  type Checkpoint,
  type CheckpointBody,
  openCheckpoint,
  openCosignature,
  signCheckpoint,
} from '../../src/keys/checkpoint.js'
import { encodeHeadId, HEAD_ID_BYTES, type HeadId, HeadSet } from '../../src/keys/head-set.js'
import { openMembership } from '../../src/keys/membership.js'
import { signOrder } from '../../src/keys/orders.js'
import { statementKind } from '../../src/keys/statement.js'
import { hash, Secret, type SecretHandle } from '../../src/native.js'
import type { Offer } from '../../src/peers/offer.js'
import type { Orders } from '../../src/peers/orders.js'
import { Witness } from '../../src/peers/witness.js'
import { WitnessClient } from '../../src/peers/witness-client.js'
import { delegate, fleet, hostOf, makeFleet, sealingOf, signPlain, type TestFleet } from '../keys/fleet.js'
import { lacksMounts, testWhere } from '../machine.js'
import { folder, startPeer } from './peer.js'

/** As a peer's store has them. */
function ordersOf(statements: readonly Buffer[]): Orders {
  const named = (kind: string) => statements.filter((bytes) => statementKind(bytes) === kind)
  return {
    documents: async (kind) => named(kind).map((_, at) => String(at)),
    document: async (kind, name) => named(kind)[Number(name)],
  }
}

const ids = (count: number) => randomBytes(count * HEAD_ID_BYTES)
const none = { count: 0, root: HeadSet.empty.root }

/** A chain as its coordinator signs it. */
class Line {
  heads = HeadSet.empty
  last: Checkpoint | undefined

  constructor(
    readonly members: TestFleet,
    readonly term = 1,
  ) {}

  branch(): Line {
    const other = new Line(this.members, this.term)
    return Object.assign(other, { heads: this.heads, last: this.last })
  }

  sign(added: Buffer = Buffer.alloc(0), over: Partial<CheckpointBody> = {}): Buffer {
    const { root, coordinator, rootKey } = this.members
    this.heads = this.heads.with(added)
    const bytes = signCheckpoint(
      {
        ...{ fleet, term: this.term, sequence: (this.last?.sequence ?? 0) + 1, previous: this.last?.hash ?? null },
        ...{ membership: '11'.repeat(32), removals: none, policy: null, time: randomBytes(4).readUInt32LE() },
        heads: { count: this.heads.size, root: this.heads.root },
        delegation: delegate(root, hostOf(coordinator), 'coordinator', this.term),
        ...over,
      },
      coordinator,
    )
    this.last = openCheckpoint(bytes, fleet, rootKey)
    return bytes
  }
}

const offer = (links: Buffer[], added: Buffer = Buffer.alloc(0), over: Partial<Offer> = {}): Offer => ({
  ...{ base: 'own', links, proof: null, added, removed: Buffer.alloc(0), forgets: [], entries: [] },
  ...over,
})

async function open(
  path: string,
  members: TestFleet,
  secret: SecretHandle = members.peer,
  orders: Buffer[] = [],
): Promise<Witness> {
  const trust = { fleet, rootKey: members.rootKey, membership: () => members.membership, watchMembership: () => {} }
  return Witness.open({ folder: path, trust, secret, clock: { now: () => 1 }, store: ordersOf(orders) })
}

const refusal = async (witness: Witness, given: Offer) => {
  const answer = await witness.offer(given)
  return 'refused' in answer ? answer.refused : 'signed'
}

test('what a witness signed outlives it: the next start refuses another one at that place', async (t) => {
  const [members, path] = [makeFleet(), folder(t)]
  const line = new Line(members)
  const witness = await open(path, members)
  t.is(witness.held, undefined)
  const [first, added] = [line.sign(), ids(3)]
  await witness.offer(offer([first]))
  const branch = line.branch()
  const second = line.sign(added)
  const answer = await witness.offer(offer([second], added))
  t.true(
    'cosignature' in answer && openCosignature(answer.cosignature, line.last as Checkpoint) === hostOf(members.peer),
  )

  const again = await open(path, members)
  t.deepEqual(again.held?.checkpoint, second)
  t.deepEqual(HeadSet.empty.with(again.heads()).root, line.heads.root)
  t.deepEqual(await again.offer(offer([second], added)), answer, 'asked again it gives the same answer')
  t.is(await refusal(again, offer([branch.sign(added)], added)), 'old')
  t.is(await refusal(again, offer([first])), 'old')
  t.is(await refusal(again, offer([line.sign()])), 'signed')
})

test('what was cut short between the heads and the checkpoint was never signed', async (t) => {
  const [members, path] = [makeFleet(), folder(t)]
  const line = new Line(members)
  const added = ids(5)
  const witness = await open(path, members)
  await witness.offer(offer([line.sign(added)], added))
  const before = { log: readFileSync(join(path, 'witness/log')), at: line.branch() }
  const more = ids(4)
  await witness.offer(offer([line.sign(more)], more))
  const after = readFileSync(join(path, 'witness/log'))
  // All of its heads, and the checkpoint itself but for its last byte.
  writeFileSync(join(path, 'witness/log'), after.subarray(0, -1))
  t.true(after.length > before.log.length + more.length)
  const again = await open(path, members)
  t.is(HeadSet.empty.with(again.heads()).root, before.at.heads.root)
  const other = ids(1)
  t.is(await refusal(again, offer([before.at.sign(other)], other)), 'signed')
  t.is(HeadSet.empty.with((await open(path, members)).heads()).root, before.at.heads.root)
})

test('a witness whose heads rotted asks for all of them; one whose checkpoint rotted begins anew', async (t) => {
  const [members, path] = [makeFleet(), folder(t)]
  const line = new Line(members)
  const added = ids(5)
  await (await open(path, members)).offer(offer([line.sign(added)], added))
  const log = join(path, 'witness/log')
  const flip = (at: number) => {
    const bytes = readFileSync(log)
    bytes[at] = (bytes[at] as number) ^ 1
    writeFileSync(log, bytes)
  }
  flip(20)
  const lost = await open(path, members)
  t.is(lost.heads().length, 0)
  t.truthy(lost.held)
  const next = line.sign()
  t.is(await refusal(lost, offer([next])), 'base')
  t.is(await refusal(lost, offer([next], line.heads.bytes(), { base: 'empty' })), 'signed')
  t.is(HeadSet.empty.with(lost.heads()).root, line.heads.root)
  t.is(HeadSet.empty.with((await open(path, members)).heads()).root, line.heads.root)
  flip(readFileSync(log).length - 20)
  const anew = await open(path, members)
  t.is(anew.held, undefined)
  t.is(await refusal(anew, offer([line.sign()], line.heads.bytes(), { base: 'empty' })), 'signed')
})

test('what a coordinator leaves of each snapshot is kept with it, however many there are', async (t) => {
  const [members, path] = [makeFleet(), folder(t)]
  const line = new Line(members)
  let witness = await open(path, members)
  const kept = new Map<string, Buffer>()
  for (let round = 0; round < 5; round++) {
    const id = { appliance: hostOf(members.appliance), snapshot: randomBytes(16).toString('hex') }
    const [added, sealed] = [encodeHeadId(id), randomBytes(round * 700_000)]
    kept.set(id.snapshot, sealed)
    await witness.offer(offer([line.sign(added)], added, { entries: [{ ...id, sealed }] }))
    if (round % 2 === 1) witness = await open(path, members)
  }
  for (const again of [witness, await open(path, members)]) {
    for (const [snapshot, sealed] of kept) {
      const entry = await again.entry({ appliance: hostOf(members.appliance), snapshot })
      t.true((entry ?? Buffer.alloc(0)).equals(sealed))
    }
  }
  t.is(HeadSet.empty.with((await open(path, members)).heads()).root, line.heads.root)
})

testWhere(lacksMounts())('a disk that fills in the middle of a record: not signed, and what was stays', async (t) => {
  const [members, root] = [makeFleet(), folder(t)]
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', root])
  t.teardown(() => execFileSync('umount', [root]))
  const line = new Line(members)
  const added = ids(5)
  await (await open(root, members)).offer(offer([line.sign(added)], added))
  const log = join(root, 'witness/log')
  const sound = readFileSync(log)
  for (const rots of [false, true]) {
    const bytes = Buffer.from(sound)
    if (rots) bytes[20] = (bytes[20] as number) ^ 1
    writeFileSync(log, bytes)
    const branch = line.branch()
    const more = ids(2000)
    writeFileSync(join(root, 'other'), Buffer.alloc(180 << 10))
    const witness = await open(root, members)
    const given = rots ? Buffer.concat([line.heads.bytes(), more]) : more
    const next = branch.sign(more)
    const whole = offer([next], given, rots ? { base: 'empty' } : {})
    await t.throwsAsync(witness.offer(whole), { code: 'IO', message: /ENOSPC/ })
    const after = await open(root, members)
    t.deepEqual(after.held?.checkpoint, line.last?.bytes, 'a start finds what it signed last')
    rmSync(join(root, 'other'))
    t.is(await refusal(after, whole), 'signed')
    t.is(HeadSet.empty.with((await open(root, members)).heads()).root, branch.heads.root)
  }
})

test('a log that is cut anywhere is one of a moment before', async (t) => {
  const [members, path] = [makeFleet(), folder(t)]
  const line = new Line(members)
  const witness = await open(path, members)
  const moments: { size: number; hash: string | undefined }[] = [{ size: 0, hash: undefined }]
  for (let round = 0; round < 4; round++) {
    const added = ids(round)
    await witness.offer(offer([line.sign(added)], added))
    moments.push({ size: readFileSync(join(path, 'witness/log')).length, hash: line.last?.hash })
  }
  const whole = readFileSync(join(path, 'witness/log'))
  for (let size = 0; size <= whole.length; size += 97) {
    writeFileSync(join(path, 'witness/log'), whole.subarray(0, size))
    const { held } = await open(path, members)
    const expected = moments.findLast((moment) => moment.size <= size)?.hash
    t.is(held && openCheckpoint(held.checkpoint, fleet, members.rootKey).hash, expected)
  }
})

test('a list that lost heads is refused with what is held; a removal is, too', async (t) => {
  const [members, path] = [makeFleet(), folder(t)]
  const line = new Line(members)
  const added = ids(10)
  const witness = await open(path, members)
  await witness.offer(offer([line.sign(added)], added))
  const held = line.last?.bytes
  line.heads = HeadSet.empty.with(added.subarray(HEAD_ID_BYTES))
  const shrunk = line.sign()
  const answer = await witness.offer(offer([shrunk], line.heads.bytes(), { base: 'empty' }))
  t.true('refused' in answer && answer.refused === 'shrank')
  t.deepEqual('refused' in answer && answer.held?.checkpoint, held)
  const removed = added.subarray(0, HEAD_ID_BYTES)
  const gone = { count: 1, root: HeadSet.empty.with(removed).root }
  const said = line.sign(Buffer.alloc(0), {
    sequence: 2,
    removals: gone,
    previous: openCheckpoint(held as Buffer, fleet, members.rootKey).hash,
  })
  t.is(await refusal(witness, offer([said], Buffer.alloc(0), { removed, forgets: [Buffer.from('forget')] })), 'removal')
})

test('what an admin forgot goes, unless one holds it; neither the coordinator nor the appliance says so', async (t) => {
  const [members, path, anna] = [makeFleet(), folder(t), Secret.random()]
  const delegation = appoint(hostOf(anna), { fleet, term: 1 }, members.root).toString('base64')
  const admins = [{ delegation, sealing: sealingOf(anna), name: 'Anna' }]
  const bytes = signPlain({ ...members.body, sequence: 2, admins }, members.coordinator)
  const now = { ...members, membership: openMembership(bytes, fleet, members.rootKey) }
  const line = new Line(members)
  const appliance = hostOf(members.appliance)
  const heads = ['5a', '5b', '5c'].map((digits) => ({ appliance, snapshot: digits.repeat(16) }))
  const [gone, , kept] = heads as [HeadId, HeadId, HeadId]
  const all = Buffer.concat(heads.map(encodeHeadId))
  const witness = await open(path, now)
  await witness.offer(offer([line.sign(all)], all))
  const removed = encodeHeadId(gone)
  const before = line.branch()
  const shrink = () => {
    Object.assign(line, { heads: before.heads.minus(removed), last: before.last })
    const removals = { count: 1, root: HeadSet.empty.with(removed).root }
    return line.sign(Buffer.alloc(0), { removals })
  }
  const forget = (by: SecretHandle, snapshots = [gone.snapshot], term = 1) =>
    signOrder('forget', { fleet, term, time: 5, appliance, snapshots }, by)
  const tries = (...forgets: Buffer[]) => refusal(witness, offer([shrink()], Buffer.alloc(0), { removed, forgets }))
  for (const by of [members.coordinator, members.appliance, members.peer, Secret.random()]) {
    t.is(await tries(forget(by)), 'removal')
  }
  t.is(await tries(), 'removal')
  t.is(await tries(forget(anna, [kept.snapshot])), 'removal')
  t.is(await tries(forget(anna, [gone.snapshot], 2)), 'removal')
  const dismissed = await open(path, members)
  const given = offer([shrink()], Buffer.alloc(0), { removed, forgets: [forget(anna)] })
  t.is(await refusal(dismissed, given), 'removal', 'for whom she is no admin')

  const hold = signOrder('hold', { fleet, term: 1, time: 6, appliance, snapshots: null }, anna)
  const release = (by: SecretHandle) => signOrder('release', { fleet, term: 1, time: 7, hold: toHex(hash(hold)) }, by)
  const holding = (...orders: Buffer[]) => open(path, now, members.peer, orders)
  t.is(await refusal(await holding(hold), given), 'held')
  t.is(await refusal(await holding(hold, release(members.coordinator)), given), 'held')
  const forged = signOrder('hold', { fleet, term: 1, time: 6, appliance, snapshots: null }, members.coordinator)
  const freed = await holding(hold, release(anna), forged)
  t.is(await refusal(freed, given), 'signed')
  for (const again of [freed, await open(path, now)]) {
    t.deepEqual(again.heads(), all.subarray(HEAD_ID_BYTES))
    t.is(await again.entry(gone), undefined)
  }
  const back = line.branch()
  back.heads = before.heads
  t.is(await refusal(await open(path, now), offer([back.sign()], all, { base: 'empty' })), 'revived')
})

test('a checkpoint of another fleet, of nobody, or in a flood is refused', async (t) => {
  const [members, path] = [makeFleet(), folder(t)]
  const line = new Line(members)
  const witness = await open(path, members)
  await t.throwsAsync(witness.offer(offer([new Line(makeFleet()).sign()])), { code: 'FORGED' })
  await t.throwsAsync(witness.offer(offer([Buffer.from('no statement')])), { code: 'CORRUPT' })
  const first = line.sign()
  for (let sent = 2; sent < OFFERS_PER_MINUTE; sent++) await witness.offer(offer([first]))
  await t.throwsAsync(witness.offer(offer([first])), { code: 'HOST_REFUSED', message: /too many/ })
})

test('over the network: the cosignature, 409 with what is held, heads and entries for readers only', async (t: ExecutionContext) => {
  const peer = await startPeer(t)
  const { fleet: members } = peer
  const line = new Line(members)
  const connect = (who: SecretHandle) => new WitnessClient(peer.host, 'pc-1', fleet, peer.client(who).connection)
  const [coordinator, appliance] = [connect(members.coordinator), connect(members.appliance)]
  t.is(await coordinator.fetchHeld({}), undefined)
  const id = { appliance: hostOf(members.appliance), snapshot: '5c'.repeat(16) }
  const added = encodeHeadId(id)
  const sealed = randomBytes(100)
  const branch = line.branch()
  const first = line.sign(added)
  const answer = await coordinator.offer(offer([first], added, { entries: [{ ...id, sealed }] }), {})
  t.true('cosignature' in answer && openCosignature(answer.cosignature, line.last as Checkpoint) === peer.host)
  const refused = await coordinator.offer(offer([branch.sign()]), {})
  t.true('refused' in refused && refused.refused === 'old')
  t.deepEqual('refused' in refused && refused.held?.checkpoint, first)
  await t.throwsAsync(appliance.offer(offer([first]), {}), { code: 'NOT_ALLOWED' })
  for (const reader of [coordinator, appliance]) {
    t.deepEqual((await reader.fetchHeld({}))?.checkpoint, first)
    t.deepEqual(await reader.fetchHeads({}), added)
    t.deepEqual(await reader.fetchEntry(id, {}), sealed)
    t.is(await reader.fetchEntry({ ...id, snapshot: '5d'.repeat(16) }, {}), undefined)
  }
  await t.throwsAsync(connect(members.peer).fetchHeads({}), { code: 'NOT_ALLOWED' })
  const other = new WitnessClient(peer.host, 'pc-1', 'ff'.repeat(16), peer.client(members.coordinator).connection)
  await t.throwsAsync(other.fetchHeld({}), { code: 'PROTOCOL' })
  const name = '/v1/checkpoints/x/entries/..%2f..%2fidentity.key/00'.replace('x', fleet)
  await t.throwsAsync(peer.client(members.coordinator).connection.request('GET', name, { maxBytes: 10 }), {
    code: 'PROTOCOL',
  })
})
