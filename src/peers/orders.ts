/** What admins ordered, as a peer keeps it: each order once, so many of each admin; and what follows from all of them. */
import { hasCode, ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import { ORDERS_A_SIGNER } from '../base/limits.js'
import type { HeadId } from '../keys/head-set.js'
import type { Membership } from '../keys/membership.js'
import { isHeld, type Order, type OrderKind, openOrder, SIGNER_DIGITS } from '../keys/orders.js'
import type { DocumentLimit, ShardStore } from './store.js'

/** Whom a peer believes. */
interface Trust {
  readonly rootKey: Hex
  membership(): Membership
}

export function orderLimit(name: string): DocumentLimit {
  return {
    prefix: name.slice(0, SIGNER_DIGITS),
    admits(held) {
      if (held.length < ORDERS_A_SIGNER) return
      throw new ImagerError('HOST_REFUSED', { host: 'The peer', why: `it holds ${held.length} of that admin` })
    },
  }
}

/** Those that count, of what came in. */
export function soundOrders<K extends OrderKind>(kind: K, statements: readonly Uint8Array[], trust: Trust): Order<K>[] {
  const by = trust.membership().adminsBy(trust.rootKey)
  return statements.flatMap((bytes) => {
    try {
      return [openOrder(kind, bytes, by)]
    } catch (error) {
      if (hasCode(error, 'FORGED', 'CORRUPT', 'UNSUPPORTED')) return []
      throw error
    }
  })
}

export type Orders = Pick<ShardStore, 'documents' | 'document'>

/** Does an admin hold one of these? */
export async function holdsAny(store: Orders, trust: Trust, heads: readonly HeadId[]): Promise<boolean> {
  if (heads.length === 0) return false
  const holds = soundOrders('hold', await readAll(store, 'hold'), trust)
  const releases = soundOrders('release', await readAll(store, 'release'), trust)
  return heads.some((head) => isHeld(head, holds, releases))
}

async function readAll(store: Orders, kind: OrderKind): Promise<Buffer[]> {
  const all: Buffer[] = []
  for (const name of await store.documents(kind)) {
    const bytes = await store.document(kind, name)
    if (bytes) all.push(bytes)
  }
  return all
}
