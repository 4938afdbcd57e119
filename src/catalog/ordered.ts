/**
 * What admins ordered of a snapshot, shown wherever it is. Nothing is deleted by it yet: a snapshot that is to be forgotten stays on every
 * list, and restores, as long as it is there. A hold goes before a forget, whoever spoke later.
 */
import { hasCode } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import type { Admins } from '../keys/admins.js'
import type { HeadId } from '../keys/head-set.js'
import { isHeld, ORDER_KINDS, type Order, type OrderKind, openOrder } from '../keys/orders.js'
import type { Ordered } from './types.js'

/** Whose orders count by the membership of now, and how they are called. */
export interface Judges {
  readonly by: Admins
  nameOf(signer: Hex): string
}

export interface Documents {
  documents(kind: string): { bytes: Buffer }[]
  stampOf(kinds: readonly string[]): string
}

interface Known {
  readonly stamp: string
  readonly judges: Judges
  readonly of: OrderedOf
}

export type OrderedOf = (id: HeadId) => Ordered | undefined

/** Looked at anew only where something changed. `judges`: the same object as long as the membership is. */
export function orderedBy(judges: () => Judges | undefined): (documents: Documents) => OrderedOf {
  let known: Known | undefined
  return (documents) => {
    const now = judges()
    if (!now) return () => undefined
    const stamp = documents.stampOf(ORDER_KINDS)
    if (known?.stamp !== stamp || known.judges !== now) known = { stamp, judges: now, of: judge(documents, now) }
    return known.of
  }
}

function judge(documents: Documents, { by, nameOf }: Judges): OrderedOf {
  const all = <K extends OrderKind>(kind: K) =>
    documents.documents(kind).flatMap(({ bytes }) => ifCounts(() => openOrder(kind, bytes, by)))
  const [forgets, holds, releases] = [all('forget'), all('hold'), all('release')]
  const forgotten = new Map<string, Order<'forget'>>()
  for (const forget of forgets) {
    for (const snapshot of forget.body.snapshots) forgotten.set(`${forget.body.appliance}${snapshot}`, forget)
  }
  return (id) => {
    const hold = holds.find((one) => isHeld(id, [one], releases))
    const order = hold ?? forgotten.get(`${id.appliance}${id.snapshot}`)
    if (!order) return undefined
    return { what: hold ? 'hold' : 'forget', by: nameOf(order.signer), time: order.body.time }
  }
}

/** Of who is no admin any more nothing counts. */
function ifCounts<T>(open: () => T): T[] {
  try {
    return [open()]
  } catch (error) {
    if (hasCode(error, 'FORGED', 'CORRUPT', 'UNSUPPORTED')) return []
    throw error
  }
}
