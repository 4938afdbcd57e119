/**
 * What a peer answers on data connections: the same as to `PUT` and `GET /v1/shards/ID`, without touching a byte of it. A
 * fetch comes by here only where the addon cannot answer it by itself: whoever asks may not, or what he asks for is not there.
 */
import * as v from 'valibot'
import { ImagerError } from '../base/errors.js'
import { SHARD_FILE_BYTES } from '../base/limits.js'
import type { SharedSlots } from '../base/queue.js'
import { Base64, Count, Id } from '../keys/fields.js'
import { STATEMENT_BYTES } from '../keys/statement.js'
import type { DataFetch, DataQuestion, DataReceived } from '../native.js'
import { decodeMessage, encodeMessage } from '../wire/message.js'
import { receiptOf } from './receipts.js'
import { type PeerParts, requireGrant, requireMember, requireReader, requireShard } from './rights.js'
import { notHeld } from './store.js'

const Question = v.strictObject({
  operation: v.literal('put'),
  shard: Id,
  lengthBytes: v.pipe(Count, v.minValue(1), v.maxValue(SHARD_FILE_BYTES)),
  grant: Base64(STATEMENT_BYTES),
})
type Question = v.InferOutput<typeof Question>

export function encodeQuestion(question: Question): Buffer {
  return encodeMessage(question)
}

export async function answerData(parts: PeerParts, receiving: SharedSlots, question: DataQuestion): Promise<void> {
  if (question.fetch) return sendShard(parts, question.fetch, question)
  return receiveShard(parts, receiving, decodeMessage(Question, question.question).body, question)
}

async function sendShard(
  { trust, store }: PeerParts,
  { shard, start, end }: DataFetch,
  question: DataQuestion,
): Promise<void> {
  requireReader(trust, question.host)
  const isRange = end === undefined || (start < end && Number.isSafeInteger(end))
  if (!isRange) throw new ImagerError('PROTOCOL', { what: `range ${start}-${end}` })
  const { kind, why } = await question.send(store.shardPath(shard))
  if (kind === 'sent' || kind === 'cut') return
  if (kind === 'absent') throw new ImagerError('SHARD_MISSING', { shard, host: store.name })
  if (kind === 'misfit') throw new ImagerError('SHARD_CORRUPT', { shard, host: store.name })
  throw new ImagerError('IO', { what: `Shard ${shard} on ${store.name}: ${why}` })
}

async function receiveShard(
  parts: PeerParts,
  receiving: SharedSlots,
  { shard, lengthBytes, grant }: Question,
  question: DataQuestion,
): Promise<void> {
  const { store } = parts
  requireGrant(parts, { bearer: question.host, shard, lengthBytes, grant: Buffer.from(grant, 'base64') })
  const kept = await receiving.run(question.host, () =>
    store.receive(shard, lengthBytes, async (path) => {
      const { facts, ...received } = await question.receive(path, lengthBytes)
      if (!facts) throw notReceived(shard, store.name, received)
      requireMember(parts.trust, question.host)
      requireShard(parts.trust, shard, { shard: facts.shard, fleet: facts.stripe.fleet })
      return facts
    }),
  )
  question.done(receiptOf(parts, kept))
}

function notReceived(shard: string, host: string, { kind, why }: Omit<DataReceived, 'facts'>): ImagerError {
  if (kind === 'damaged') return new ImagerError('CORRUPT', { what: `Shard ${shard} arrived damaged: ${why}` })
  if (kind === 'full') return new ImagerError('HOST_FULL', { host, why })
  if (kind === 'cut') return new ImagerError('PROTOCOL', { what: `a body that was cut: ${why}` })
  if (kind === 'lost') return notHeld(host, why)
  return new ImagerError('IO', { what: `${host} cannot write: ${why}` })
}
