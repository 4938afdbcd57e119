/**
 * The documents every peer keeps whole, so that the recovery words and the peers alone are enough: heads of snapshots,
 * key entries, the membership; bitmaps lie beside their heads (bitmaps.ts). Each is a signed statement, so it does not matter who
 * brings it; what matters is who signed it,
 * and that an older one never takes the place of a newer one.
 *
 *   kind        name            ordered by
 *   head        `headName`      written once
 *   key         `entryName`     written once; so many keys of one owner
 *   address     host            sequence (addresses.ts)
 *   membership  fleet id        (term, sequence); earlier ones stay beside it (memberships.ts)
 *   policy      its signer      (term, sequence), an admin's by sequence alone
 *   forget, hold, release
 *               `orderName`     written once; so many of one admin (orders.ts)
 */
import { ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import { openAddress } from '../keys/address.js'
import { entryName, mayBeKept, partsOfEntryName, readEntry } from '../keys/entry.js'
import { requireKeyRoom } from '../keys/entry-room.js'
import { isServed } from '../keys/fields.js'
import { headName, readHead } from '../keys/head.js'
import { type Membership, openMembership, requireFollows } from '../keys/membership.js'
import { isOrder, openOrder, orderName } from '../keys/orders.js'
import { isNewerPolicy, openPolicy } from '../keys/policy.js'
import { orderLimit } from './orders.js'
import type { DocumentLimit, StatementKind } from './store.js'

/** Whom a peer believes. */
export interface Trust {
  readonly fleet: Hex
  readonly rootKey: Hex
  /** The newest it has seen. */
  membership(): Membership
  /** `changed` is called whenever there is a newer one, before anything else can happen. */
  watchMembership(changed: () => void): void
}

/** Throws HOST_REFUSED where what is held must stay. */
export type Replaces = (held: Buffer) => void

/** Throws FORGED, CORRUPT, UNSUPPORTED or NOT_ALLOWED where the document is not to be believed under that name. */
export function checkDocument(trust: Trust, kind: StatementKind, name: string, bytes: Uint8Array): Replaces {
  switch (kind) {
    case 'head': {
      const head = readHead(bytes, trust.fleet)
      requireName(kind, name, headName(head))
      requireSigner(kind, isServed(trust.membership().role(head.appliance)))
      return (held) => {
        if (readable(() => readHead(held, trust.fleet))) refuse('another head of that snapshot')
      }
    }
    case 'key': {
      const { entry, signer } = readEntry(bytes)
      if (entry.fleet !== trust.fleet) throw new ImagerError('FORGED', { what: 'A key belongs to another fleet' })
      requireName(kind, name, entryName(entry))
      requireSigner(kind, mayBeKept(signer, entry, trust.membership(), trust.rootKey))
      return (held) => {
        const other = readable(() => readEntry(held).entry)
        if (other && entryName(other) === name) refuse('another entry of that key')
      }
    }
    case 'address': {
      const { host, sequence } = openAddress(bytes, trust.fleet)
      requireName(kind, name, host)
      requireSigner(kind, trust.membership().role(host) !== undefined)
      return (held) => {
        const other = readable(() => openAddress(held, trust.fleet))
        if (other && other.sequence >= sequence) refuse(`address ${other.sequence} of that host`)
      }
    }
    case 'forget':
    case 'hold':
    case 'release': {
      requireName(kind, name, orderName(openOrder(kind, bytes, trust.membership().adminsBy(trust.rootKey))))
      return () => {}
    }
    case 'policy': {
      const { rootKey } = trust
      const offered = openPolicy(bytes, trust.membership(), rootKey)
      requireName(kind, name, offered.signer)
      return (held) => {
        const other = readable(() => openPolicy(held, trust.membership(), rootKey))
        if (!isNewerPolicy(offered, other)) refuse(`policy ${other?.sequence} of that signer`)
      }
    }
    case 'membership': {
      const offered = openMembership(bytes, trust.fleet, trust.rootKey)
      requireName(kind, name, offered.fleet)
      const known = trust.membership()
      if (offered.newerThan(known)) requireFollows(known, offered, trust.rootKey)
      return (held) => {
        const other = readable(() => openMembership(held, trust.fleet, trust.rootKey))
        if (!offered.newerThan(other)) refuse(`membership ${other?.sequence}, not older than ${offered.sequence}`)
      }
    }
  }
}

/** How many of a kind are taken; undefined: as many as the disk takes. */
export function limitOf(kind: StatementKind, name: string, now: number): DocumentLimit | undefined {
  if (isOrder(kind)) return orderLimit(name)
  if (kind !== 'key') return undefined
  return { prefix: partsOfEntryName(name).owner, admits: (held) => requireKeyRoom('The peer', name, held, now) }
}

function requireName(kind: StatementKind, name: string, actual: string): void {
  if (name !== actual) throw new ImagerError('FORGED', { what: `A ${kind} is brought under the name of another` })
}

function requireSigner(kind: StatementKind, may: boolean): void {
  if (!may) throw new ImagerError('NOT_ALLOWED', { what: `Its signer may not write a ${kind}`, role: 'appliance' })
}

function refuse(what: string): never {
  throw new ImagerError('HOST_REFUSED', { host: 'The peer', why: `it holds ${what}` })
}

/** A held document that rotted gives way to a good one. */
export function readable<T>(open: () => T): T | undefined {
  try {
    return open()
  } catch {
    return undefined
  }
}
