/** Who holds which duty, and how the root gives the enroller's to other hosts: in a new term, which is a membership of its own. */
import { ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import { appointAgain } from './admins.js'
import { DUTIES, type Duty, signDelegation } from './delegation.js'
import { WORDS } from './labels.js'
import {
  admitAll,
  formerHolders,
  type Membership,
  MOST_ENROLLERS,
  openMembership,
  readersOf,
  signMembership,
} from './membership.js'
import type { Root } from './root.js'

export interface DutyRow {
  readonly duty: Duty
  readonly host: Hex
  readonly name: string
  readonly term: number
}

export interface DutyReport {
  readonly term: number
  readonly duties: readonly DutyRow[]
  /** The coordinator is the enroller too: whoever takes that one machine lets in whom he likes. */
  readonly oneMachine: boolean
}

/** Of the present term, in the order of `DUTIES`; admins, who are persons, at the end. Pure. */
export function listDuties(membership: Membership): DutyReport {
  const { term, coordinator, handovers } = membership
  const hasLeft = (host: Hex) => handovers.some(({ from }) => from === host)
  const duties = DUTIES.flatMap((duty) =>
    membership.delegations
      .filter((one) => one.duty === duty && one.term === term && !hasLeft(one.host))
      .map(({ host }) => ({ duty, host, name: membership.find(host)?.name ?? host.slice(0, 16), term })),
  )
  const admins = membership.admins.map(({ key, name }) => ({ duty: 'admin' as const, host: key, name, term }))
  return { term, duties: [...duties, ...admins], oneMachine: membership.delegated(coordinator, 'enroller') }
}

/**
 * The first membership of the next term: the same hosts, let in anew by the root; the same coordinator; these as enrollers. Throws
 * USAGE where they are none of the fleet's, or too many.
 */
export function moveEnroller(before: Membership, enrollers: readonly Hex[], root: Root): Membership {
  const { fleet, coordinator, witnesses } = before
  const wrong = (what: string) => new ImagerError('USAGE', { what, verb: 'duties move' })
  const hosts = [...new Set(enrollers)]
  if (hosts.length === 0 || hosts.length > MOST_ENROLLERS) throw wrong(`A fleet has one to ${MOST_ENROLLERS} enrollers`)
  if (hosts.some((host) => !before.find(host))) throw wrong('Only a member can be an enroller')
  const term = before.term + 1
  const given = DUTIES.flatMap((duty) => (duty === 'enroller' ? hosts : [coordinator]).map((host) => ({ duty, host })))
  const own = given.map((one) => signDelegation({ fleet, term, ...one }, root.secret).toString('base64'))
  const delegations = [...own, ...formerHolders(before, root.secret)]
  const listed = admitAll(before.hosts, fleet, term, root.secret)
  const replacements = before.line.textsBy(root.secret)
  const body = {
    ...{ fleet, sequence: 1, term, delegations, hosts: listed, removals: [], witnesses: [...witnesses] },
    ...(replacements.length > 0 && { replacements }),
    ...appointAgain(before.admins, { fleet, term }, root.secret),
  }
  const bytes = signMembership(body, root.secret, readersOf(before.hosts, hosts, root.rootSealing, before.admins))
  return openMembership(bytes, fleet, root.rootKey, { reader: WORDS, secret: root.secret })
}
