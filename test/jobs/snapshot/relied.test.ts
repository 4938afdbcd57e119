import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import type { Hex } from '../../../src/base/ids.js'
import type { Finished, HostRow, SignedStripe } from '../../../src/catalog/types.js'
import { findReliance, type Known, type RelianceParts } from '../../../src/jobs/snapshot/relied.js'
import { believe } from '../../../src/jobs/snapshot/snapshot.js'
import { Runs, Secret, shardFileBytes } from '../../../src/native.js'
import { runName, shardOf, stripeOf } from '../../../src/stripes/names.js'
import { type Receipt, signReceipt } from '../../../src/stripes/receipt.js'
import { hex, references, temporaryFolder } from '../../catalog/harness.js'
import { keyOf } from '../../coordinator/harness.js'

const FLEET = '0f'.repeat(16)
const STORE = 'aa'.repeat(16)
const WANTED = { volume: 'cd'.repeat(16), target: 1 }

/** Two stripes of 2+1 on three hosts, and a coordinator that can be made to lie. */
function stand(t: ExecutionContext) {
  const folder = temporaryFolder()
  t.teardown(folder.remove)
  const hosts = [0, 1, 2].map(() => Secret.random())
  const names = new Runs()
  const name = runName(hex(32), hex(8))
  const [first, second] = [0, 1].map((number) => stripeOf(names.number(name), number)) as [number, number]
  const shape = { k: 2, m: 1, packBytes: 100_000 }
  const identity = hex(32)
  const signed = (stripe: number, index: number, change: Partial<Receipt> & { signer?: number; root?: Hex } = {}) => {
    const { signer = index, root, ...said } = change
    const shard = { index, host: keyOf(hosts[index]!), root: 'bb'.repeat(32) }
    const receipt = {
      stripe: identity,
      index,
      lengthBytes: shardFileBytes(shape.packBytes, 2),
      store: STORE,
      sequence: 1,
    }
    const subject = { fleet: FLEET, shard: shardOf(name, stripe, index), root: root ?? shard.root }
    return { ...shard, receipt: signReceipt({ ...receipt, ...said }, subject, hosts[signer]!).toString('base64') }
  }
  const honest = (stripe: number): SignedStripe => {
    return { stripe, ...shape, shards: [0, 1, 2].map((index) => signed(stripe, index)) }
  }
  const stores = new Map(hosts.map((secret) => [keyOf(secret), STORE]))
  const members = hosts.map((secret, at) => ({ host: keyOf(secret), domain: `room-${at}` }))
  const asked: number[][] = []
  const s = {
    ...{ hosts, first, second, signed, honest, stores, members, asked, path: folder.path },
    answer: honest as (stripe: number) => SignedStripe | undefined,
    bitmap: references([first, second], names),
    sent: new Map<number, Known>(),
  }
  const parts = {
    catalog: {
      names,
      hosts: async () => members.map(({ host }) => ({ host, store: stores.get(host) }) as HostRow),
      receipts: async (numbers: readonly number[]) => {
        asked.push([...numbers])
        return numbers.flatMap((stripe) => s.answer(stripe) ?? [])
      },
    },
    home: { fleet: FLEET, state: folder.path, membership: () => ({ hosts: members }) },
  } as unknown as RelianceParts
  return Object.assign(s, { find: () => findReliance(s.bitmap, s.sent, WANTED, parts) })
}

test('each stripe is looked at once for each store; what this run sent is known', async (t) => {
  const s = stand(t)
  s.sent.set(s.first, { k: 2, shards: s.members.map(({ host }) => ({ host, store: STORE })) })
  t.deepEqual(await s.find(), { receipted: 1, short: 0, stripes: 2 })
  t.deepEqual(s.asked, [[s.second]])
  s.sent.clear()
  t.deepEqual(await s.find(), { receipted: 1, short: 0, stripes: 2 })
  t.deepEqual(s.asked.slice(1), [[]], 'known from before')
  s.stores.set(keyOf(s.hosts[0]!), hex(16))
  t.deepEqual(await s.find(), { receipted: 0, short: 2, stripes: 2 }, 'what it signed was of another store')
  t.deepEqual(s.asked.slice(2), [[s.first, s.second]])
  writeFileSync(join(s.path, `receipted-${WANTED.volume}.json`), '{"version":1,"stores":[],"stripes":[["x"')
  s.stores.set(keyOf(s.hosts[0]!), STORE)
  t.deepEqual(await s.find(), { receipted: 1, short: 0, stripes: 2 }, 'a file that is cut short is none')
})

test('a coordinator that leaves receipts out, or forges them, is not believed', async (t) => {
  const lies: [string, (s: ReturnType<typeof stand>) => (SignedStripe['shards'][number] | undefined)[]][] = [
    ['left out', () => []],
    ['without its word', (s) => [{ ...s.signed(s.second, 0), receipt: '' }]],
    ['signed by another', (s) => [s.signed(s.second, 0, { signer: 1 })]],
    ['of another stripe', (s) => [s.signed(s.first, 0)]],
    ['of another root', (s) => [s.signed(s.second, 0, { root: hex(32) })]],
    ['of a stripe of that name by a twin', (s) => [undefined, s.signed(s.second, 1, { stripe: hex(32) })]],
    ['of a shorter file', (s) => [s.signed(s.second, 0, { lengthBytes: 9 })]],
    ['one shard twice', (s) => [undefined, s.signed(s.second, 0)]],
  ]
  for (const [what, lie] of lies) {
    const s = stand(t)
    const told = lie(s)
    s.answer = (stripe) => {
      const right = s.honest(stripe)
      if (stripe === s.first) return right
      if (told.length === 0) return undefined
      return { ...right, shards: right.shards.map((shard, at) => told[at] ?? shard) }
    }
    const seen = await s.find()
    t.like(seen, { short: 1, stripes: 2 }, what)
    const claimed: Finished = { survives: 1, receipted: 1, target: 1, cosigned: true, state: 'protected' }
    const { state, doubts } = believe(claimed, seen)
    t.is(state, 'sealed', what)
    t.deepEqual(doubts, ['the coordinator calls it protected, and shows no receipts for that of 1 of 2 stripes'])
  }
  const s = stand(t)
  s.members.splice(0, 1)
  t.like(await s.find(), { receipted: 0 }, 'who is no member')
  const alone = stand(t)
  for (const member of alone.members) member.domain = 'one room'
  t.like(await alone.find(), { receipted: 0 }, 'of one failure domain')
})
