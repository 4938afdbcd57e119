/** Where other hosts listen, in each one's own words. A peer keeps the newest of every member, at most one a minute. */
import * as v from 'valibot'
import type { Clock } from '../base/clock.js'
import { ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import { openAddress } from '../keys/address.js'
import { soundAddress } from '../keys/address-book.js'
import { STATEMENT_BYTES } from '../keys/statement.js'
import { decodeMessage, encodeMessage } from '../wire/message.js'
import type { Trust } from './documents.js'
import type { ShardStore } from './store.js'

export interface AddressKeeper {
  readonly store: ShardStore
  readonly trust: Trust
  readonly clock: Clock
  /** Whoever has to reach others hears of it. */
  readonly onAddress?: (host: Hex, addresses: readonly string[]) => void
}

/** Two that a coordinator passed on a minute apart may come with some seconds less between them. */
const SOONEST_MS = 50_000
const Lengths = v.strictObject({
  lengths: v.pipe(
    v.array(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(STATEMENT_BYTES))),
    v.maxLength(10_000),
  ),
})

/** All in one message: one a host would be many. */
export function encodeAddresses(statements: readonly Buffer[]): Buffer {
  return encodeMessage({ lengths: statements.map(({ length }) => length) }, Buffer.concat(statements))
}

export function decodeAddresses(bytes: Buffer): Buffer[] {
  const { body, attachment } = decodeMessage(Lengths, bytes)
  let offset = 0
  return body.lengths.map((length) => {
    offset += length
    if (offset > attachment.length) throw new ImagerError('PROTOCOL', { what: 'addresses that are cut short' })
    return attachment.subarray(offset - length, offset)
  })
}

/** Keeps what is newer; strangers' are left out. Throws FORGED, CORRUPT; HOST_REFUSED where one came too soon after the last. */
export async function keepAddresses(keeper: AddressKeeper, statements: readonly Buffer[]): Promise<void> {
  let early = 0
  for (const bytes of statements) if (!(await keepAddress(keeper, bytes))) early++
  if (early === 0) return
  throw new ImagerError('HOST_REFUSED', { host: 'The peer', why: `${early} of the addresses changed within a minute` })
}

/** False where it is too soon. */
async function keepAddress({ store, trust, clock, onAddress }: AddressKeeper, bytes: Buffer): Promise<boolean> {
  const { host, sequence, addresses } = openAddress(bytes, trust.fleet)
  if (!trust.membership().find(host)) return true
  const held = await store.document('address', host)
  const other = held && soundAddress(held, trust.fleet)
  if (other && other.sequence >= sequence) return true
  const ageMs = other ? clock.now() - (await store.documentTime('address', host)) : SOONEST_MS
  if (ageMs >= 0 && ageMs < SOONEST_MS) return false
  await store.putDocument('address', host, bytes, () => {})
  onAddress?.(host, addresses)
  return true
}
