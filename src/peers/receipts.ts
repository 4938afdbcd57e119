/** What a peer says of a shard that it keeps: with the answer to who stored it, and again to who may read. */
import * as v from 'valibot'
import { RECEIPTS_AT_ONCE } from '../base/limits.js'
import { Slots } from '../base/queue.js'
import { KiB } from '../base/units.js'
import { Base64, Id } from '../keys/fields.js'
import { RECEIPT_BYTES, signReceipt } from '../stripes/receipt.js'
import { decodeMessage, encodeMessage } from '../wire/message.js'
import type { Route } from '../wire/server.js'
import { type PeerParts, requireReader } from './rights.js'
import type { Kept } from './store.js'

/** Of each shard that was asked for, in that order: what was signed, base64, or what is wrong with it. */
export const Receipts = v.object({
  receipts: v.pipe(
    v.array(v.union([v.picklist(['missing', 'corrupt']), Base64(RECEIPT_BYTES)])),
    v.maxLength(RECEIPTS_AT_ONCE),
  ),
})

const Asked = v.strictObject({ shards: v.pipe(v.array(Id), v.minLength(1), v.maxLength(RECEIPTS_AT_ONCE)) })

export function receiptOf({ secret }: Pick<PeerParts, 'secret'>, { facts, store, sequence }: Kept): Buffer {
  const { shard, root, index, stripe } = facts
  const lengthBytes = facts.bodyOffset + facts.bodyBytes
  const receipt = { stripe: stripe.identity, index, lengthBytes, store, sequence }
  return signReceipt(receipt, { fleet: stripe.fleet, shard, root }, secret)
}

/**
 * For shards whose receipts nobody has any more, as after a recovery. Each is read again, whole: a receipt says what the file is, not
 * what it was. One call at a time, so that a coordinator cannot keep more than one core and one reader of the disk busy.
 */
export function receiptsRoute(parts: PeerParts): Route {
  const reading = new Slots(1)
  return {
    ...{ method: 'POST', path: '/v1/receipts', maxBytes: 4 * KiB },
    async handle(request) {
      requireReader(parts.trust, request.host)
      const { shards } = decodeMessage(Asked, await request.body()).body
      const receipts = await reading.run(async () => {
        const signed: string[] = []
        for (const shard of shards) {
          const kept = await parts.store.reread(shard)
          signed.push(typeof kept === 'string' ? kept : receiptOf(parts, kept).toString('base64'))
        }
        return signed
      })
      return { body: encodeMessage({ receipts }) }
    },
  }
}
