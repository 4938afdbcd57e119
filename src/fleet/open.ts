/** The fleet as a command on this host may use it: the catalog, the peers, invitations. */

import { type Clock, systemClock } from '../base/clock.js'
import { hasCode, type ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import { TOKEN_LIFETIME_MS } from '../base/limits.js'
import type { Report } from '../base/report.js'
import type { Catalog, Condition } from '../catalog/types.js'
import { RemoteCatalog } from '../coordinator/client.js'
import { replaced } from '../coordinator/replaced.js'
import { makeToken } from '../keys/enroller.js'
import { type Home, openHome } from '../keys/home.js'
import type { Membership } from '../keys/membership.js'
import { encodeToken, type JoinRole } from '../keys/token.js'
import type { SecretHandle } from '../native.js'
import { type Callable, Peers } from '../peers/pool.js'
import { areKeysDelivered, deliverKeys } from './deliver-keys.js'
import { followMembership } from './follow.js'
import { FollowingLink } from './link.js'
import { openLocalCatalog } from './local-catalog.js'
import { Management } from './manage.js'
import { seekMembership, seekTogether } from './seek.js'
import { heedCheckpoint, seenCheckpoint } from './seen-checkpoint.js'

/** Whatever is set on the system's clock meanwhile. */
const STEADY: Clock = { now: () => performance.now() }

export interface Fleet {
  readonly home: Home
  readonly clock: Clock
  readonly catalog: Catalog
  readonly peers: Peers
  /**
   * The same catalog, for a run: where it is another host's, a coordinator that is started anew meanwhile is waited for, and
   * found where the peers say that it is now.
   */
  patient(signal: AbortSignal, waiting: (error: ImagerError) => void): Catalog
  readonly management: Management
  /** The coordinator shows an older state than this host has seen: what it lists may not be all. */
  readonly rolledBack: ImagerError | undefined
  /** The newest that can be had now. */
  membership(): Promise<Membership>
  /** Of the coordinator: where its daemon runs, that knows best. */
  condition(): Promise<Condition[]>
  /**
   * Asks the coordinator for a token, or makes one where this host is the enroller, or with the key of an admin; the coordinator's
   * daemon must run.
   */
  invite(role: JoinRole, admin?: SecretHandle): Promise<{ token: string; expires: number }>
  close(): Promise<void>
}

/**
 * On the coordinator's own host the catalog is opened where it lies, so that it can be read without a daemon. Elsewhere a
 * coordinator that does not answer may have been replaced by a recovery: the peers know.
 */
export async function openFleet(home: Home, clock: Clock = systemClock, report: Report = () => {}): Promise<Fleet> {
  if (home.role === 'coordinator' && !home.coordinates) throw replaced(home)
  const { key } = home.coordinator
  const { fleet, answered } = await openAsKnown(home, clock, report)
  // One that was replaced says so itself, and by whom; the peers say where that one is.
  const hasMoved = home.coordinator.key !== key
  if (!hasMoved && (answered || !(await seekMembership(home)))) return fleet
  if (hasMoved && home.coordinator.addresses.length === 0) await seekMembership(home)
  await fleet.close()
  return (await openAsKnown(home, clock, report)).fleet
}

/** With the coordinator that the membership held here names; did it answer? */
async function openAsKnown(home: Home, clock: Clock, report: Report): Promise<{ fleet: Fleet; answered: boolean }> {
  const link = new FollowingLink(home)
  const remote = new RemoteCatalog(link, undefined, clock)
  const local = home.coordinates ? await openLocalCatalog(home, clock) : undefined
  const catalog = local ?? remote
  const close = () => {
    local?.close()
    link.close()
  }
  try {
    const { hosts, answered, rolledBack } = await freshHosts(home, catalog, remote)
    const heed = (shown: Buffer) => void heedCheckpoint(home, shown)
    // What is listed and restored meanwhile may not be the newest.
    if (rolledBack) report('the coordinator', rolledBack)
    if (!areKeysDelivered(home)) await deliverKeys(home, link)
    const reached = (host: Hex, address: string) => home.addresses.reached(host, address)
    const peers = new Peers(home.tls, () => hosts, clock, report, reached)
    const fleet = {
      home,
      clock,
      catalog,
      peers,
      rolledBack,
      patient(signal: AbortSignal, waiting: (error: ImagerError) => void) {
        if (rolledBack) throw rolledBack
        const patience = { clock: STEADY, signal, waiting, seek: seekTogether(home) }
        return local ?? new RemoteCatalog(link, patience, clock, heed)
      },
      management: new Management(home, remote, local),
      membership: () => newestOf(home, remote),
      condition: () => conditionOf(local, remote),
      invite: (role: JoinRole, admin?: SecretHandle) => invite(home, remote, clock, role, admin),
      async close() {
        peers.close()
        close()
      },
    }
    return { fleet, answered }
  } catch (error) {
    close()
    throw error
  }
}

/** The secret of a token that this host makes does not leave it; the coordinator hears that it may be used. */
async function invite(
  home: Home,
  remote: RemoteCatalog,
  clock: Clock,
  role: JoinRole,
  admin: SecretHandle | undefined,
): Promise<{ token: string; expires: number }> {
  const enrolls = !home.coordinates && home.membership().delegated(home.host, 'enroller')
  if (!enrolls && !admin) return remote.invite(role)
  const { address } = home.coordinator
  const { token, voucher } = makeToken(home, { role, address, expires: clock.now() + TOKEN_LIFETIME_MS }, admin)
  const { expires } = await remote.invite(role, voucher)
  return { token: encodeToken(token), expires }
}

/** On the coordinator's own host its daemon writes it into the state folder. */
async function newestOf(home: Home, remote: RemoteCatalog): Promise<Membership> {
  if (home.coordinates) return openHome(home.state).membership()
  try {
    await followMembership(home, remote)
  } catch (error) {
    if (!hasCode(error, 'COORDINATOR_UNREACHABLE')) throw error
  }
  return home.membership()
}

async function conditionOf(local: Catalog | undefined, remote: RemoteCatalog): Promise<Condition[]> {
  try {
    return await remote.condition()
  } catch (error) {
    if (!local || !hasCode(error, 'COORDINATOR_UNREACHABLE', 'NOT_ALLOWED')) throw error
    return local.condition()
  }
}

/** Is what the coordinator shows older than what was seen, or beside it? One that was set back is shown what was seen, and asked again. */
async function lookBack(home: Home, remote: RemoteCatalog): Promise<ImagerError | undefined> {
  let doubt = heedCheckpoint(home, await remote.checkpoint())
  if (!doubt) return undefined
  // The witnesses may have changed between two answers.
  if (await followMembership(home, remote)) doubt = heedCheckpoint(home, await remote.checkpoint())
  const seen = doubt && seenCheckpoint(home)
  if (!seen) return doubt
  try {
    await remote.show('checkpoint', seen)
  } catch (error) {
    if (!hasCode(error, 'FORGED', 'CORRUPT', 'UNSUPPORTED', 'HOST_REFUSED')) throw error
  }
  return heedCheckpoint(home, await remote.checkpoint())
}

/**
 * The members with the addresses that they reported last. Only who is in the signed membership counts: a coordinator
 * cannot slip in a host. Without a coordinator the newest membership seen has to do.
 */
async function freshHosts(
  home: Home,
  catalog: Catalog,
  remote: RemoteCatalog,
): Promise<{ hosts: readonly Callable[]; answered: boolean; rolledBack: ImagerError | undefined }> {
  let answered = true
  let rolledBack: ImagerError | undefined
  const reported = new Map<string, readonly string[]>()
  try {
    if (!home.coordinates) await followMembership(home, remote)
    for (const { host, addresses } of await catalog.hosts()) reported.set(host, addresses)
    if (!home.coordinates) rolledBack = await lookBack(home, remote)
  } catch (error) {
    // Another host that answers there has taken its place, or is none of ours. A PC is shown no list, and brings what an admin signed.
    if (!hasCode(error, 'COORDINATOR_UNREACHABLE', 'HOST_LIED', 'REPLACED', 'NOT_ALLOWED')) throw error
    answered = hasCode(error, 'NOT_ALLOWED')
  }
  const hosts = home.membership().hosts.map(({ host, name }) => {
    return { host, name, addresses: [...new Set([...(reported.get(host) ?? []), ...home.addresses.of(host)])] }
  })
  home.addresses.hear(reported)
  return { hosts, answered, rolledBack }
}
