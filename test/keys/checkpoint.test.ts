import { readFileSync } from 'node:fs'
import test from 'ava'
import {
  type CheckpointBody,
  cosignersOf,
  decodeCosigned,
  encodeCosigned,
  hasQuorum,
  openCheckpoint,
  openCosignature,
  quorumOf,
  signCheckpoint,
  signCosignature,
  witnessesOf,
} from '../../src/keys/checkpoint.js'
import { isNewer } from '../../src/keys/handover.js'
import { Secret } from '../../src/native.js'
import * as golden from '../golden/checkpoint.js'
import { delegate, fleet, hostOf, makeFleet, member, otherFleet } from './fleet.js'

const file = (name: string) => readFileSync(new URL(`../../../fixtures/golden/${name}-v1.bin`, import.meta.url))
const members = makeFleet()
const { root, rootKey, coordinator } = members
const none = { count: 0, root: '00'.repeat(32) }

function body(over: Partial<CheckpointBody> = {}): CheckpointBody {
  return {
    ...{ fleet, term: 1, sequence: 1, previous: null, membership: '11'.repeat(32), heads: none, removals: none },
    ...{ policy: null, time: 1, delegation: delegate(root, hostOf(coordinator), 'coordinator') },
    ...over,
  }
}

test('golden: checkpoint, cosignature, root of the heads', (t) => {
  t.deepEqual(golden.checkpoint(), file('checkpoint'))
  t.deepEqual(golden.cosignature(), file('cosignature'))
  const checkpoint = openCheckpoint(file('checkpoint'), fleet, golden.rootKey)
  t.like(checkpoint, golden.body)
  t.is(openCosignature(file('cosignature'), checkpoint), golden.witness)
  t.is(golden.heads.root, '57002330b339da360bef5bcad018ca89bbd3a30e100aeb8ddfacbc5c3e857f00')
})

test('only the coordinator of its own term signs one, and only for its fleet', (t) => {
  t.is(openCheckpoint(signCheckpoint(body(), coordinator), fleet, rootKey).sequence, 1)
  const refused = (over: Partial<CheckpointBody>, signer = coordinator) =>
    t.throws(() => openCheckpoint(signCheckpoint(body(over), signer), fleet, rootKey), { code: 'FORGED' })
  refused({}, members.peer)
  refused({ term: 2 })
  refused({ fleet: otherFleet })
  refused({ delegation: delegate(root, hostOf(coordinator), 'enroller') })
  refused({ delegation: delegate(Secret.random(), hostOf(coordinator), 'coordinator') })
  refused({ delegation: delegate(root, hostOf(members.peer), 'coordinator') })
  t.throws(() => openCheckpoint(signCheckpoint(body({ sequence: 0 }), coordinator), fleet, rootKey), {
    code: 'CORRUPT',
  })
})

test('a quorum is the majority of those who are named, each counted once, over this very checkpoint', (t) => {
  const checkpoint = openCheckpoint(signCheckpoint(body(), coordinator), fleet, rootKey)
  const other = openCheckpoint(signCheckpoint(body({ time: 2 }), coordinator), fleet, rootKey)
  const [a, b, c, stranger] = [Secret.random(), Secret.random(), Secret.random(), Secret.random()] as const
  const witnesses = [a, b, c].map(hostOf)
  const sign = (who: typeof a, of = checkpoint) => signCosignature(of, 1, who)
  t.false(hasQuorum(checkpoint, [sign(a), sign(a), sign(stranger), sign(b, other), Buffer.alloc(10)], witnesses))
  t.true(hasQuorum(checkpoint, [sign(a), sign(b)], witnesses))
  t.deepEqual([...cosignersOf(checkpoint, [sign(c), sign(b, other)], witnesses)], [hostOf(c)])
  t.deepEqual([0, 1, 3, 5, 7].map(quorumOf), [0, 1, 2, 3, 4])
  // A crowd of cosignatures is not verified without end.
  t.false(hasQuorum(checkpoint, [...Array.from({ length: 16 }, () => sign(stranger)), sign(a), sign(b)], witnesses))
})

test('witnesses are those whom the membership names', (t) => {
  const peers = Array.from({ length: 4 }, (_, at) => member(Secret.random(), `pc-${at}`, 'peer'))
  const find = (host: string) => peers.find((one) => one.host === host)
  const named = peers.slice(1)
  t.deepEqual(witnessesOf({ witnesses: named.map(({ host }) => host), find }), named)
  t.deepEqual(witnessesOf({ witnesses: [], find }), [])
})

test('a later term is newer than every sequence of an earlier one', (t) => {
  const place = (term: number, handed: number, sequence: number) => ({ term, handed, sequence })
  t.true(isNewer(place(2, 0, 1), place(1, 3, 9)))
  t.false(isNewer(place(1, 0, 9), place(2, 0, 1)))
  t.true(isNewer(place(1, 1, 1), place(1, 0, 9)), 'whom the place was handed to goes before, whatever the other signs')
  t.false(isNewer(place(1, 0, 9), place(1, 1, 1)))
  t.false(isNewer(place(1, 0, 9), place(1, 0, 9)))
  t.true(isNewer(place(1, 0, 1), undefined))
})

test('a checkpoint with its cosignatures comes back as it went; what does not fit is CORRUPT', (t) => {
  const cosigned = { checkpoint: golden.checkpoint(), cosignatures: [golden.cosignature(), golden.cosignature()] }
  const bytes = encodeCosigned(cosigned)
  t.deepEqual(decodeCosigned(bytes), cosigned)
  for (const cut of [0, 3, 10, bytes.length - 1]) {
    t.throws(() => decodeCosigned(bytes.subarray(0, cut)), { code: 'CORRUPT' })
  }
  t.throws(() => decodeCosigned(Buffer.alloc(4 * 40)), { code: 'CORRUPT' })
})
