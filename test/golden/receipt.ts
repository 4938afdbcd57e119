/** The receipt that `receipt-v1.bin` is, its subject and the key of its peer. */
import { Secret } from '../../src/native.js'
import { type Receipt, type ReceiptSubject, signReceipt } from '../../src/stripes/receipt.js'
import { fleet } from '../keys/fleet.js'

export const peer = Secret.fromWords(`${'abandon '.repeat(23)}art`).derive('imager v1 golden peer')
export const subject: ReceiptSubject = { fleet, shard: '05'.repeat(16), root: '06'.repeat(32) }
export const receipt: Receipt = {
  stripe: '07'.repeat(32),
  index: 3,
  lengthBytes: 4_198_400,
  store: '08'.repeat(16),
  sequence: 1_000_000,
}

export const signed = (): Buffer => signReceipt(receipt, subject, peer)
