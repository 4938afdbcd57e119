/**
 * The signed membership against the coordinator's own list. Peers obey the one, people read the other: who stands in only one of
 * them was slipped in, or is kept from sight.
 */
import type { HostRow } from '../catalog/types.js'
import type { Membership, MembershipHost } from '../keys/membership.js'
import type { Fleet } from './open.js'

export interface Members {
  readonly hosts: readonly HostRow[]
  /** In the membership, and so believed by every peer, but not in the list; or in another role there. */
  readonly unlisted: readonly Pick<MembershipHost, 'host' | 'name' | 'role'>[]
  /** In the list, but no peer knows them. */
  readonly unsigned: readonly Pick<MembershipHost, 'host' | 'name' | 'role'>[]
}

export async function readMembers(fleet: Pick<Fleet, 'catalog' | 'membership'>): Promise<Members> {
  const first = compareMembers(await fleet.membership(), await fleet.catalog.hosts())
  if (first.unlisted.length + first.unsigned.length === 0) return first
  // One that joined between the two answers is in both by now.
  return compareMembers(await fleet.membership(), await fleet.catalog.hosts())
}

/** Pure. */
export function compareMembers(signed: Pick<Membership, 'hosts'>, hosts: readonly HostRow[]): Members {
  const keyOf = ({ host, role }: Pick<MembershipHost, 'host' | 'role'>) => `${host} ${role}`
  const short = ({ host, name, role }: Pick<MembershipHost, 'host' | 'name' | 'role'>) => ({ host, name, role })
  const [known, listed] = [new Set(signed.hosts.map(keyOf)), new Set(hosts.map(keyOf))]
  return {
    hosts,
    unlisted: signed.hosts.filter((one) => !listed.has(keyOf(one))).map(short),
    unsigned: hosts.filter((one) => !known.has(keyOf(one))).map(short),
  }
}
