/** What a catalog takes from outside: time, and what is signed. */
import type { Clock } from '../base/clock.js'
import { ImagerError } from '../base/errors.js'
import { type Hex, toHex } from '../base/ids.js'
import { witnessesOf } from '../keys/checkpoint.js'
import { type Grant, signGrant } from '../keys/grant.js'
import { openHead, type TrailerKeysOf } from '../keys/head.js'
import type { Home } from '../keys/home.js'
import type { Membership } from '../keys/membership.js'
import { type Line, NO_LINE } from '../keys/replacement.js'
import { hash } from '../native.js'
import { openReceipt, type Receipt, type ReceiptSubject } from '../stripes/receipt.js'
import { type Documents, type Judges, type OrderedOf, orderedBy } from './ordered.js'

/** What a grant says; fleet and term are the signer's. */
export type GrantBody = Omit<Grant, 'fleet' | 'term'>

/** What the catalog needs to know of a head whose signature was checked. */
export interface HeadFacts {
  appliance: Hex
  volume: Hex
  sequence: number
  snapshot: Hex
  parent: Hex | null
  time: number
}

export interface CatalogParts {
  clock: Clock
  /** Without its appliance's keys on enough peers no snapshot is `protected`: a recovery could not read it. */
  needsKeys: boolean
  /** There are witnesses: without their signatures no snapshot is `protected`. */
  isWatched(): boolean
  /** Who took whose place. */
  line(): Line
  /** What admins ordered of a snapshot. */
  ordered?(documents: Documents): OrderedOf
  /** Address of one, for the line that rebuilds a damaged catalog. */
  peer?: string | undefined
  signGrant(grant: GrantBody): Uint8Array
  /** Throws FORGED unless the host signed it for this shard of the fleet and this root; CORRUPT, UNSUPPORTED. */
  openReceipt(receipt: Uint8Array, of: Omit<ReceiptSubject, 'fleet'> & { readonly host: Hex }): Receipt
  /** Throws FORGED unless signed by its appliance and naming exactly these references. */
  openHead(head: Uint8Array, references: Uint8Array): HeadFacts
}

/** Grants and heads of the fleet that this home belongs to. A folder that a recovery is filling holds no keys yet. */
export function partsOf(
  home: Home,
  clock: Clock,
  trailerKeysOf: TrailerKeysOf = (appliance) => home.trailerKeysOf(appliance),
): CatalogParts {
  return {
    clock,
    needsKeys: true,
    isWatched: () => home.hasMembership && witnessesOf(home.membership()).length > 0,
    line: () => (home.hasMembership ? home.membership().line : NO_LINE),
    ordered: orderedBy(judgesOf(home)),
    peer: peerOf(home),
    signGrant: (grant) => signGrant({ fleet: home.fleet, term: home.membership().term, ...grant }, home.secret),
    openReceipt: (receipt, of) => openReceipt(receipt, { fleet: home.fleet, ...of }),
    openHead(bytes, references) {
      const head = openHead(bytes, home.fleet, trailerKeysOf)
      if (toHex(hash(references)) === head.references) return head
      throw new ImagerError('FORGED', { what: "The list of stripes is not the head's" })
    },
  }
}

/** A folder that a recovery is filling has no membership yet. */
function judgesOf(home: Home): () => Judges | undefined {
  let known: { membership: Membership; judges: Judges } | undefined
  return () => {
    if (!home.hasMembership) return undefined
    const membership = home.membership()
    if (known?.membership !== membership) {
      const named = new Map([
        ...membership.admins.map(({ key, name }) => [key, name] as const),
        [home.rootKey, 'the words'],
      ])
      const nameOf = (signer: Hex) => named.get(signer) ?? signer.slice(0, 8)
      known = { membership, judges: { by: membership.adminsBy(home.rootKey), nameOf } }
    }
    return known.judges
  }
}

function peerOf(home: Home): string | undefined {
  if (!home.hasMembership) return undefined
  const { hosts } = home.membership()
  return hosts.flatMap(({ host, role }) => (role === 'peer' ? home.addresses.of(host) : []))[0]
}
