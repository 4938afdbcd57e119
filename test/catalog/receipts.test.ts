import test, { type ExecutionContext } from 'ava'
import type { Hex } from '../../src/base/ids.js'
import { LocalCatalog } from '../../src/catalog/local.js'
import type { CommitRequest, ReceiptedShard } from '../../src/catalog/types.js'
import { Secret, type SecretHandle, shardFileBytes } from '../../src/native.js'
import { runName, shardOf } from '../../src/stripes/names.js'
import { openReceipt, type Receipt, signReceipt } from '../../src/stripes/receipt.js'
import { keyOf } from '../coordinator/harness.js'
import {
  hex,
  ids,
  member,
  nextStripe,
  offer,
  placement,
  plainParts,
  recordsOf,
  TurnedClock,
  temporaryFolder,
} from './harness.js'

const FLEET = '0f'.repeat(16)
const IDENTITY = '1d'.repeat(32)

interface Stand {
  catalog: LocalCatalog
  lease: Hex
  name: Buffer
  hosts: SecretHandle[]
  request: CommitRequest
}

/** A stripe of 2+1 that was placed on three peers with keys, and not committed. */
async function stand(t: ExecutionContext): Promise<Stand> {
  const folder = temporaryFolder()
  t.teardown(folder.remove)
  const openIt = (receipt: Uint8Array, of: Parameters<typeof openReceipt>[1]) => openReceipt(receipt, of)
  const catalog = LocalCatalog.open(folder.path, {
    ...plainParts(new TurnedClock()),
    openReceipt: (receipt, of) => openIt(receipt, { fleet: FLEET, ...of }),
  })
  t.teardown(() => catalog.close())
  const hosts = [0, 1, 2].map(() => Secret.random())
  for (const [at, secret] of hosts.entries()) {
    catalog.members.admit(member(keyOf(secret), 'peer', `pc-${at}`))
    catalog.members.heartbeat(keyOf(secret), offer(`disk-${at}`))
  }
  const writer = hex(32)
  const begun = await catalog.begin({ appliance: writer, volume: hex(16), source: 'x', label: '' })
  const stripe = nextStripe(catalog, writer, begun)
  const place = placement(2, 1, hosts.map(keyOf), stripe)
  await catalog.place(begun.lease, place)
  const { k, m, packBytes } = place
  const name = runName(writer, begun.run)
  const s = { catalog, lease: begun.lease, name, hosts }
  const shards = place.shards.map((one) => ({ ...one, root: hex(32), receipt: '' }))
  const request = { stripe, k, m, packBytes, records: recordsOf(ids(3)), shards }
  return { ...s, request: { ...request, shards: shards.map((one) => signed({ ...s, request }, one)) } }
}

/** As its host signs it, or `signer`, with something else in it. */
function signed(
  { name, hosts, request }: Pick<Stand, 'name' | 'hosts' | 'request'>,
  shard: ReceiptedShard,
  change: Partial<Receipt & { root: Hex; shard: Hex; signer: SecretHandle }> = {},
): ReceiptedShard {
  const { index, root } = shard
  const lengthBytes = shardFileBytes(request.packBytes, request.k)
  const said = { stripe: IDENTITY, index, lengthBytes, store: 'aa'.repeat(16), sequence: 7, ...change }
  const subject = { fleet: FLEET, shard: shardOf(name, request.stripe, index), root, ...change }
  const receipt = signReceipt(said, subject, change.signer ?? (hosts[index] as SecretHandle))
  return { ...shard, receipt: receipt.toString('base64') }
}

const factsOf = async ({ catalog, request }: Stand) =>
  (await catalog.stripes([request.stripe]))[0]?.shards.map(({ fact }) => fact)

test('a commit without the word of each host, for this very shard, is refused; with it, it is kept', async (t) => {
  const s = await stand(t)
  const [first, ...others] = s.request.shards as [ReceiptedShard, ...ReceiptedShard[]]
  const lies = {
    'another host signed it': { signer: s.hosts[1] as SecretHandle },
    'of another index': { index: 1 },
    'of a shorter file': { lengthBytes: 1 },
    'of another root': { root: hex(32) },
    'of another shard': { shard: hex(16) },
    'of another stripe of that name': { stripe: hex(32) },
  }
  for (const [what, lie] of Object.entries(lies)) {
    const shards = [signed(s, first, lie), ...others]
    const error = await t.throwsAsync(s.catalog.commit(s.lease, { ...s.request, shards }), undefined, what)
    t.true(['FORGED', 'PROTOCOL'].includes((error as { code?: string }).code ?? ''), what)
  }
  const empty = [{ ...first, receipt: '' }, ...others]
  await t.throwsAsync(s.catalog.commit(s.lease, { ...s.request, shards: empty }), { code: 'CORRUPT' })
  t.deepEqual(await s.catalog.stripes([s.request.stripe]), [], 'nothing of it is known')
  await s.catalog.commit(s.lease, s.request)
  t.deepEqual(await factsOf(s), ['receipted', 'receipted', 'receipted'])
})

test('what a recovery found is placed until its host has signed it again', async (t) => {
  const s = await stand(t)
  const { stripe, k, m, packBytes, records } = s.request
  const births = BigUint64Array.from({ length: 3 }, (_, at) => (BigInt(stripe) << 16n) | BigInt(at))
  const found = s.request.shards.map(({ receipt: _lost, ...one }) => ({
    ...one,
    shard: shardOf(s.name, stripe, one.index),
  }))
  await s.catalog.importStripes([{ stripe, k, m, packBytes, records, births, shards: found }])
  t.deepEqual(await factsOf(s), ['placed', 'placed', 'placed'])
  const { signed: receipts } = s.catalog
  t.deepEqual(receipts.waiting().sort(), s.hosts.map(keyOf).sort())
  const [host] = s.hosts as [SecretHandle]
  const missing = receipts.missing(keyOf(host), { stripe: -1, index: 0 }, 10)
  t.deepEqual(
    missing.map(({ index, shard }) => ({ index, shard })),
    [{ index: 0, shard: shardOf(s.name, stripe, 0) }],
  )
  t.deepEqual(receipts.missing(keyOf(host), missing[0]!, 10), [], 'those after it')
  const word = (change: Parameters<typeof signed>[2]) =>
    missing.map((one) => {
      const { receipt } = signed(s, s.request.shards[0] as ReceiptedShard, change)
      return { ...one, receipt: Buffer.from(receipt, 'base64') }
    })
  t.is(receipts.keep(keyOf(host), word({ signer: s.hosts[1] as SecretHandle })).length, 1)
  t.is(receipts.keep(keyOf(host), word({ lengthBytes: 1 })).length, 1)
  t.deepEqual(await factsOf(s), ['placed', 'placed', 'placed'])
  t.deepEqual(receipts.keep(keyOf(host), word({})), [])
  t.deepEqual(await factsOf(s), ['receipted', 'placed', 'placed'])
  t.deepEqual(receipts.missing(keyOf(host), { stripe: -1, index: 0 }, 10), [])
  const second = receipts.missing(keyOf(s.hosts[1] as SecretHandle), { stripe: -1, index: 0 }, 10)
  const twin = second.map((one) => {
    const { receipt } = signed(s, s.request.shards[1] as ReceiptedShard, { stripe: hex(32) })
    return { ...one, receipt: Buffer.from(receipt, 'base64') }
  })
  t.is(receipts.keep(keyOf(s.hosts[1] as SecretHandle), twin).length, 1, 'a stripe of another identity than the first')
})
