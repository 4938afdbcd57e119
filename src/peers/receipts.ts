/** What a peer answers a shard that it keeps with. */
import { signReceipt } from '../stripes/receipt.js'
import type { PeerParts } from './rights.js'
import type { Kept } from './store.js'

export function receiptOf({ secret }: PeerParts, { facts, store, sequence }: Kept): Buffer {
  const { shard, root, index, stripe } = facts
  const lengthBytes = facts.bodyOffset + facts.bodyBytes
  const receipt = { stripe: stripe.identity, index, lengthBytes, store, sequence }
  return signReceipt(receipt, { fleet: stripe.fleet, shard, root }, secret)
}
