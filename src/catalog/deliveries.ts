/**
 * Which peer took which version of a document, and which refused one and why. A key that too few peers hold is one that a
 * recovery may not find: `isHeldWidely` says when it is enough.
 */
import type Database from 'better-sqlite3'
import type { Hex } from '../base/ids.js'
import type { OrderKind } from '../keys/orders.js'
import { Statements } from './statements.js'
import type { HostRow } from './types.js'

/** `address`: those of all hosts, in one message. */
export type DeliveredKind = 'membership' | 'key' | 'address' | 'policy' | OrderKind

export interface Delivery {
  kind: DeliveredKind
  name: string
  version: string
  /** When it is to be brought again, in case the peer lost it or judges otherwise by then. */
  due: number
  /** Why it was not taken; null: it was. */
  refused: string | null
}

export class Deliveries {
  readonly #statements: Statements

  constructor(db: Database.Database) {
    this.#statements = new Statements(db)
  }

  of(host: Hex): Delivery[] {
    return this.#statements
      .prepare<[Hex], Delivery>('SELECT kind, name, version, due, refused FROM sound_delivery WHERE host = ?')
      .all(host)
  }

  /** The last that is known of a document on a peer. */
  note(host: Hex, delivery: Delivery): void {
    this.#statements
      .prepare(`INSERT OR REPLACE INTO delivery (host, kind, name, version, due, refused)
        VALUES (@host, @kind, @name, @version, @due, @refused)`)
      .run({ host, ...delivery })
  }

  /** A peer that left, or whose store is not the one of before, holds nothing that is known. */
  forget(host: Hex): void {
    this.#statements.prepare('DELETE FROM delivery WHERE host = ?').run(host)
  }

  /** Those of `hosts` that took each of these; none where there are none. */
  holders(
    kind: DeliveredKind,
    documents: readonly Pick<Delivery, 'name' | 'version'>[],
    hosts: readonly Hex[],
  ): Set<Hex> {
    if (documents.length === 0) return new Set()
    const taken = this.#statements.prepare<[Hex, string, string, string]>(
      'SELECT 1 FROM sound_delivery WHERE host = ? AND kind = ? AND name = ? AND version = ? AND refused IS NULL',
    )
    return new Set(hosts.filter((host) => documents.every(({ name, version }) => taken.get(host, kind, name, version))))
  }
}

/** On at least two peers, and on a majority of those that are there and believed. Pure. */
export function isHeldWidely(
  holders: ReadonlySet<Hex>,
  peers: readonly Pick<HostRow, 'host' | 'role' | 'away' | 'suspect'>[],
): boolean {
  const here = peers.filter(({ role, away, suspect }) => role === 'peer' && !away && suspect === '')
  const held = here.filter(({ host }) => holders.has(host)).length
  return held >= Math.max(2, Math.floor(here.length / 2) + 1)
}
