/**
 * Who belongs to the fleet that is taken over, where its last coordinator may have been in foreign hands. A membership of it says
 * who is no peer any more, with any sequence; but it cannot undo those that other peers still hold.
 *
 * - The newest of the highest term is the base: whoever is a peer in it stays one, whether it answers or not.
 * - A peer that another one of that term names, and that answers, is looked through like every other.
 * - If more than half of the peers of some membership of that term are none any more, that is no removal but an attempt to hide
 *   them: all that answer are peers again, and their servers are members again.
 * - Else a removal stands, unless a snapshot would be lost, or bear fewer losses than it should: as `imager remove` would say.
 *   Without that, a coordinator could hide half of the peers, and the backups with them.
 */
import { hasCode, ImagerError } from '../../base/errors.js'
import type { Hex } from '../../base/ids.js'
import type { LocalCatalog } from '../../catalog/local.js'
import type { SnapshotRow } from '../../catalog/types.js'
import { type Admin, MOST_ADMINS } from '../../keys/admins.js'
import { signRemoval } from '../../keys/admission.js'
import { WORDS } from '../../keys/labels.js'
import {
  admissionOf,
  chooseWitnesses,
  distinct,
  isMost,
  Membership,
  type MembershipHost,
  openMembership,
  readersOf,
  signMembership,
  uniqueName,
} from '../../keys/membership.js'
import { Line } from '../../keys/replacement.js'
import type { Root } from '../../keys/root.js'
import type { SecretHandle } from '../../native.js'

export interface Returning {
  /** Members again. */
  readonly always: readonly MembershipHost[]
  /** Only if something that is backed up misses them. */
  readonly ifMissed: readonly MembershipHost[]
}

/** Of versions, newest first; `answered`: the host proved its key just now. Pure. */
export function whoReturns(versions: readonly Membership[], answered: (host: Hex) => boolean): Returning {
  const [newest] = versions
  if (!newest) return { always: [], ifMissed: [] }
  const ofTerm = versions.filter(({ term }) => term === newest.term)
  const isGone = ({ host, role }: MembershipHost) => role === 'peer' && newest.role(host) !== 'peer'
  const peers = eachOnce(ofTerm, isGone).filter(({ host }) => answered(host))
  if (!hidesPeers(versions)) return { always: [], ifMissed: peers }
  const isServer = ({ host, role }: MembershipHost) => role === 'appliance' && newest.role(host) !== 'appliance'
  return { always: [...peers, ...eachOnce(ofTerm, isServer)], ifMissed: [] }
}

/** Whose silence matters: the peers of now, and those that somebody tries to hide. Pure. */
export function whoIsMissed(versions: readonly Membership[]): ReadonlySet<Hex> {
  const ofTerm = versions.filter(({ term }) => term === versions[0]?.term)
  const counted = hidesPeers(versions) ? ofTerm : ofTerm.slice(0, 1)
  return new Set(eachOnce(counted, ({ role }) => role === 'peer').map(({ host }) => host))
}

/** Are more than half of the peers of some membership of the highest term none in the newest? */
function hidesPeers([newest, ...others]: readonly Membership[]): boolean {
  return others.some(({ term, hosts }) => {
    const peers = hosts.filter(({ role }) => role === 'peer')
    const gone = peers.filter(({ host }) => newest?.role(host) !== 'peer')
    return term === newest?.term && isMost(gone.length, peers.length)
  })
}

/** Newest first; of two with one number, which only a liar signs, always the same one. */
export function newestFirst(versions: readonly Membership[]): Membership[] {
  return [...versions].sort((a, b) => {
    if (a.newerThan(b)) return -1
    return b.newerThan(a) ? 1 : Buffer.compare(a.bytes, b.bytes)
  })
}

/** Hosts that fit, by the first version that has them so. */
export function eachOnce(
  versions: readonly Membership[],
  fits: (host: MembershipHost) => boolean,
): readonly MembershipHost[] {
  const found = new Map<Hex, MembershipHost>()
  for (const { hosts } of versions) {
    for (const host of hosts) if (fits(host) && !found.has(host.host)) found.set(host.host, host)
  }
  return [...found.values()]
}

/**
 * The newest, with whoever returns, and with what the root ever delegated as far as any version tells: a holder or an admin that the
 * newest leaves out stays one. Pure.
 */
export function withReturned(versions: readonly Membership[], returning: readonly MembershipHost[]): Membership {
  const [newest] = versions as [Membership]
  const back = new Set(returning.map(({ host }) => host))
  const hosts: MembershipHost[] = newest.hosts.filter(({ host }) => !back.has(host))
  const names = hosts.map(({ name }) => name)
  for (const host of returning) {
    const name = uniqueName(host.name, names)
    names.push(name)
    hosts.push({ ...host, name })
  }
  return rewritten(versions, hosts)
}

/** The next one, in which some that came back for the time of a recovery are none any more: signed by the new coordinator. Pure. */
export function withoutLeft(
  membership: Membership,
  left: readonly MembershipHost[],
  identity: SecretHandle,
  root: Root,
): Membership {
  const { fleet, term, sequence } = membership
  const isGone = (host: Hex) => left.some((one) => one.host === host)
  const removals = left.map(({ host }) => {
    const removal = { fleet, term, host, admission: admissionOf(membership, host) }
    return signRemoval(removal, identity).toString('base64')
  })
  const draft = membership.draft()
  const hosts = draft.hosts.filter((_, at) => !isGone(membership.hosts[at]?.host ?? ''))
  const members = membership.hosts.filter(({ host }) => !isGone(host))
  const witnesses = chooseWitnesses(members, membership.witnesses)
  const readers = readersOf(members, membership.enrollers, root.rootSealing, membership.admins)
  const next = { ...draft, sequence: sequence + 1, hosts, removals: [...draft.removals, ...removals], witnesses }
  const bytes = signMembership(next, identity, readers)
  return openMembership(bytes, fleet, root.rootKey, { reader: WORDS, secret: root.secret })
}

/** Everybody whom any version names, whoever may have written before in whatever role: to read by, not to sign. */
export function everybody(versions: readonly Membership[]): Membership {
  const writers = eachOnce(versions, ({ role }) => role !== 'peer')
  const isWriter = new Set(writers.map(({ host }) => host))
  return rewritten(versions, [...writers, ...eachOnce(versions, ({ host }) => !isWriter.has(host))])
}

/** Whom the root made one in the highest term, as far as any version tells; a dismissal in any of them stays. Pure. */
function adminsOf(versions: readonly Membership[]): Admin[] {
  const ofTerm = versions.filter(({ term }) => term === versions[0]?.term)
  const dismissed = new Set(ofTerm.flatMap(({ parts }) => [...parts.dismissed]))
  const admins = new Map(ofTerm.flatMap((one) => one.admins).map((admin) => [admin.id, admin]))
  return [...admins.values()].filter(({ id }) => !dismissed.has(id)).slice(0, MOST_ADMINS)
}

function rewritten(versions: readonly Membership[], hosts: MembershipHost[]): Membership {
  const [{ bytes, body, parts }] = versions as [Membership]
  const delegations = distinct(versions.flatMap((one) => one.delegations))
  // The root said it: a version that leaves one out takes nothing back.
  const line = Line.union(versions.map((one) => one.line))
  const replacements = line.texts.length > 0 ? { replacements: line.texts } : {}
  const admins = adminsOf(versions)
  return new Membership(bytes, { ...body, ...replacements }, { ...parts, line, hosts, delegations, admins })
}

/** Those that stay, because a snapshot would miss them; the others are no members again, as they were. */
export async function leaveAgain(
  hosts: readonly MembershipHost[],
  catalog: LocalCatalog,
  by: Hex,
): Promise<MembershipHost[]> {
  const missed: MembershipHost[] = []
  for (const one of hosts) {
    const isShort = ({ survives, target }: SnapshotRow) => survives < target
    const short = (await catalog.snapshots()).filter(isShort).length
    if (!mayLeave(catalog, one, by, short)) missed.push(one)
  }
  return missed
}

function mayLeave(catalog: LocalCatalog, { host, name }: MembershipHost, by: Hex, short: number): boolean {
  try {
    catalog.write(() => {
      const { snapshotsBelowTarget } = catalog.removeHost(host, by, false)
      if (snapshotsBelowTarget <= short) return
      throw new ImagerError('WOULD_LOSE', { what: `Without ${name} snapshots bear fewer losses`, todo: 'Keep it' })
    })
    return true
  } catch (error) {
    if (!hasCode(error, 'WOULD_LOSE')) throw error
    return false
  }
}
