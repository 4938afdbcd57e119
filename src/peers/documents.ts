/**
 * The documents every peer keeps whole, so that the recovery words and the peers alone are enough: heads of snapshots,
 * keybags, the membership. Each is a signed statement, so it does not matter who brings it; what matters is who signed it,
 * and that an older one never takes the place of a newer one.
 *
 *   kind        name          ordered by
 *   head        snapshot id   written once
 *   keybag      owner         sequence
 *   membership  fleet id      (term, sequence)
 */
import { ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import { openHead } from '../keys/head.js'
import { openKeybag } from '../keys/keybag.js'
import { type Membership, openMembership } from '../keys/membership.js'
import type { DocumentKind } from './store.js'

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
export function checkDocument(trust: Trust, kind: DocumentKind, name: string, bytes: Uint8Array): Replaces {
  switch (kind) {
    case 'head': {
      const { appliance, snapshot } = openHead(bytes, trust.fleet)
      requireName(kind, name, snapshot)
      const role = trust.membership().role(appliance)
      requireSigner(kind, role !== undefined && role !== 'peer')
      return () => refuse('another head of that snapshot')
    }
    case 'keybag': {
      const { owner, sequence } = openKeybag(bytes, trust.fleet)
      requireName(kind, name, owner)
      requireSigner(kind, owner === trust.rootKey || trust.membership().role(owner) !== undefined)
      return (held) => {
        const other = readable(() => openKeybag(held, trust.fleet))
        if (other && other.sequence >= sequence)
          refuse(`keybag ${other.sequence} of that host, not older than ${sequence}`)
      }
    }
    case 'membership': {
      const offered = openMembership(bytes, trust.fleet, trust.rootKey)
      requireName(kind, name, offered.fleet)
      return (held) => {
        const other = readable(() => openMembership(held, trust.fleet, trust.rootKey))
        if (!offered.newerThan(other)) refuse(`membership ${other?.sequence}, not older than ${offered.sequence}`)
      }
    }
  }
}

function requireName(kind: DocumentKind, name: string, actual: string): void {
  if (name !== actual) throw new ImagerError('FORGED', { what: `A ${kind} is brought under the name of another` })
}

function requireSigner(kind: DocumentKind, may: boolean): void {
  if (!may) throw new ImagerError('NOT_ALLOWED', { what: `Its signer may not write a ${kind}`, role: 'appliance' })
}

function refuse(what: string): never {
  throw new ImagerError('HOST_REFUSED', { host: 'The peer', why: `it holds ${what}` })
}

/** A held document that rotted gives way to a good one. */
function readable<T>(open: () => T): T | undefined {
  try {
    return open()
  } catch {
    return undefined
  }
}
