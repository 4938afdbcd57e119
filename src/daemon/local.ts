/** The coordinator's catalog, opened with what it needs of the keys: who grants, and whose heads are believed. */
import type { Clock } from '../base/clock.js'
import { ImagerError } from '../base/errors.js'
import { toHex } from '../base/ids.js'
import { LocalCatalog } from '../catalog/local.js'
import { signGrant } from '../keys/grant.js'
import { openHead } from '../keys/head.js'
import type { Home } from '../keys/home.js'
import { hash } from '../native.js'

/** Throws NOT_ALLOWED on a host that is not its fleet's coordinator. */
export function openLocalCatalog(home: Home, clock: Clock): LocalCatalog {
  if (home.membership().coordinator !== home.host) {
    throw new ImagerError('NOT_ALLOWED', { what: `${home.name} is not the coordinator of its fleet`, role: 'coordinator' })
  }
  return LocalCatalog.open(home.state, {
    clock,
    signGrant: (grant) => signGrant({ fleet: home.fleet, term: home.membership().term, ...grant }, home.secret),
    openHead(bytes, references) {
      const head = openHead(bytes, home.fleet)
      if (toHex(hash(references)) === head.references) return head
      throw new ImagerError('FORGED', { what: 'A head does not name these references' })
    },
  })
}
