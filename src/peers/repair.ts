/**
 * A peer makes a shard out of k others of its stripe, and keeps it: without any key, and without a byte through the coordinator,
 * which only says which (docs/protocol.md).
 */
import * as v from 'valibot'
import { ImagerError, isOfHost } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import { Base64, Count, Key } from '../keys/fields.js'
import { openRepair, type Repair, shardsOf } from '../keys/repair.js'
import { STATEMENT_BYTES } from '../keys/statement.js'
import { Body, inspectShard, rebuildShard } from '../native.js'
import { decodeMessage, encodeMessage } from '../wire/message.js'
import type { Answer, Request } from '../wire/server.js'
import { receiptOf } from './receipts.js'
import { type PeerParts, requireCoordinator } from './rights.js'

const Source = v.strictObject({ host: Key, index: v.pipe(Count, v.maxValue(31)) })
const Question = v.strictObject({
  /** See openRepair. */
  leave: Base64(STATEMENT_BYTES),
  k: v.pipe(Count, v.minValue(1), v.maxValue(31)),
  /** Who holds others of its stripe: k are used, the first that give theirs. */
  sources: v.pipe(v.array(Source), v.minLength(1), v.maxLength(32)),
})
export type RepairQuestion = v.InferOutput<typeof Question>

export function encodeRepair(question: RepairQuestion): Buffer {
  return encodeMessage(question)
}

/** Throws what the last of the sources failed with, where too few give theirs; FORGED where its writer signed what cannot be. */
export async function repairShard(parts: PeerParts, request: Request): Promise<Answer> {
  const { trust, store, host } = parts
  requireCoordinator(trust, request.host)
  const { leave, k, sources } = decodeMessage(Question, await request.body()).body
  const repair = openRepair(Buffer.from(leave, 'base64'), trust.membership(), host)
  const ids = shardsOf(repair)
  const shard = ids[repair.index] as Hex
  if (!(await store.holds(shard))) await store.requireRoom(repair.lengthBytes)
  const files = await gather(parts, { repair, leave, ids }, k, sources)
  const made = await rebuildShard(
    files.map((file) => new Body(file)),
    repair.index,
  )
  const kept = await store.put(shard, made.take())
  return { status: kept.outcome === 'stored' ? 201 : 200, body: receiptOf(parts, kept) }
}

interface Wanted {
  readonly repair: Repair
  readonly leave: string
  readonly ids: readonly Hex[]
}

/** k sound files of the stripe, each of another index. */
async function gather(
  { others }: PeerParts,
  { repair, leave, ids }: Wanted,
  k: number,
  sources: RepairQuestion['sources'],
): Promise<Buffer[]> {
  const files = new Map<number, Buffer>()
  let failure: unknown = new ImagerError('PROTOCOL', { what: `a repair that names fewer than ${k} other shards` })
  const waiting = sources.filter(({ index }) => index !== repair.index)
  while (files.size < k && waiting.length > 0) {
    const asked = waiting.splice(0, k - files.size)
    await Promise.all(
      asked.map(async ({ host, index }) => {
        try {
          files.set(index, await fetch(others, host, ids[index] as Hex, leave))
        } catch (error) {
          if (!isOfHost(error)) throw error
          failure = error
        }
      }),
    )
  }
  if (files.size < k) throw failure
  return [...files.values()]
}

async function fetch(others: PeerParts['others'], host: Hex, shard: Hex, leave: string): Promise<Buffer> {
  const peer = others.get(host)
  const file = await peer.fetchForRepair(shard, leave)
  const facts = await inspectShard(file).catch((cause: unknown) => {
    throw new ImagerError('SHARD_CORRUPT', { shard, host: peer.name }, { cause })
  })
  if (facts.shard !== shard) throw new ImagerError('SHARD_CORRUPT', { shard, host: peer.name })
  return file
}
