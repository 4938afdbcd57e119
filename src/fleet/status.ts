/** Is everything safe? From what the coordinator knows, in a few lines. */
import type { ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import { formatCount } from '../base/units.js'
import { ageOf, doubtfulTime } from '../catalog/order.js'
import type { HostRow, SnapshotRow } from '../catalog/types.js'
import { findOpenedKeys } from '../keys/opened-keys.js'
import { nameOf } from '../keys/vault.js'
import { type DomainChange, describeChange, domainChange } from './domains.js'
import { readMembers } from './members.js'
import type { Fleet } from './open.js'
import { findProblems, hiding, newestOf, type Problem, strangers } from './problems.js'
import { findHidden } from './witnessed.js'

export interface StatusReport {
  safe: boolean
  fleet: Hex
  name: string
  role: string
  coordinator: string
  peers: { total: number; here: number; freeBytes: number; usedBytes: number }
  /** The newest snapshot of each volume that is not retired. */
  volumes: (Pick<SnapshotRow, 'id' | 'applianceName' | 'source' | 'state' | 'at' | 'survives' | 'target' | 'now'> & {
    /** null: its only time is still to come. */
    ageSeconds: number | null
    /** Its appliance's clock was off by more than five minutes. */
    doubtfulTime: boolean
    /** At which an alarm is due; null: never. */
    maxAgeSeconds: number | null
  })[]
  /** Disks that raise no alarm, `HOST:SOURCE`. */
  retired: string[]
  /** Until when this host opens the snapshots of `keysOpenFor` without the words, in milliseconds since 1970; null: not. */
  keysOpenUntil: number | null
  /** Names of appliances. */
  keysOpenFor: string[]
  /** What is under an older key of the dedupe domain; null: nothing. */
  domainChange: DomainChange | null
  problems: Problem[]
  /** What is no problem, and good to know. */
  notes: string[]
}

export async function readStatus(
  fleet: Pick<Fleet, 'home' | 'catalog' | 'clock' | 'condition' | 'rolledBack' | 'membership'>,
): Promise<StatusReport> {
  const { home, catalog, clock, condition, rolledBack } = fleet
  const [{ hosts, ...apart }, snapshots, { volumes }, runs, conditions] = await Promise.all([
    readMembers(fleet),
    catalog.snapshots(),
    catalog.policies(),
    catalog.runs(),
    condition(),
  ])
  const hidden = await findHidden(home, () => catalog.snapshots())
  const now = clock.now()
  const opened = findOpenedKeys(home, now)
  const known = { hosts, snapshots, volumes, runs, now }
  // The coordinator names the witnesses that did not sign: that says more than each snapshot that they have not signed.
  const isTold = conditions.some(({ code }) => code === 'NOT_COSIGNED' || code === 'COORDINATOR_READ_ONLY')
  const found = findProblems(known).filter(({ code }) => !(isTold && code === 'NOT_COSIGNED'))
  // A coordinator that was set back says so, and which ones it lacks.
  const isBehind = conditions.some(({ code }) => code === 'UNKNOWN_SNAPSHOTS' || code === 'COORDINATOR_READ_ONLY')
  const told = [...(rolledBack ? [problemOf(rolledBack)] : []), ...conditions, ...(isBehind ? [] : hiding(hidden))]
  const problems = [...told, ...strangers(apart), ...found]
  const change = domainChange(snapshots)
  const peers = hosts.filter((host) => host.role === 'peer')
  const here = peers.filter((peer) => !peer.away)
  const sum = (field: 'freeBytes' | 'usedBytes') => here.reduce((total, peer) => total + peer[field], 0)
  return {
    safe: problems.length === 0,
    fleet: home.fleet,
    name: home.name,
    role: home.role,
    coordinator: home.coordinator.address,
    peers: { total: peers.length, here: here.length, freeBytes: sum('freeBytes'), usedBytes: sum('usedBytes') },
    volumes: newestOf(known).map(({ row, maxAgeMs }) => {
      const { id, applianceName, source, state, at, survives, target, now: without } = row
      const age = ageOf(row, now)
      const ageSeconds = age === undefined ? null : age / 1000
      const maxAgeSeconds = maxAgeMs === undefined ? null : maxAgeMs / 1000
      return {
        id,
        applianceName,
        source,
        ageSeconds,
        doubtfulTime: doubtfulTime(row, now),
        maxAgeSeconds,
        state,
        at,
        survives,
        target,
        now: without,
      }
    }),
    retired: volumes.filter((one) => one.retired).map(({ applianceName, source }) => `${applianceName}:${source}`),
    keysOpenUntil: 'until' in opened ? opened.until : null,
    keysOpenFor: 'until' in opened ? opened.appliances.map((appliance) => nameOf(home, appliance)) : [],
    domainChange: change ?? null,
    problems,
    notes: [
      ...hosts.flatMap(placesTaken),
      ...(change ? [describeChange(change)] : []),
      ...(peers.length < WATCHED_FROM ? [unwatched(peers.length)] : []),
      ...toBeForgotten(snapshots),
    ],
  }
}

function toBeForgotten(snapshots: readonly SnapshotRow[]): string[] {
  const count = snapshots.filter(({ ordered }) => ordered?.what === 'forget').length
  const what = `${formatCount(count, 'snapshot')} ${count === 1 ? 'is' : 'are'} to be forgotten, as admins said`
  return count === 0 ? [] : [`${what}. This version deletes nothing: they stay, and restore.`]
}

/** Fewer peers are no witnesses: one of two is no majority that the other could not hold up. */
const WATCHED_FROM = 3

function unwatched(peers: number): string {
  const what =
    'Nobody watches the coordinator: if it is set back to an older state, newer snapshots vanish from its list'
  return `${what}. From three PCs on they do; there ${peers === 1 ? 'is 1' : `are ${peers}`}.`
}

function placesTaken({ name, tookPlaceOf = [] }: HostRow): string[] {
  return tookPlaceOf.map(
    (one) => `${name} has the place of ${one.name} (key ${one.host.slice(0, 16)}...), and its backups.`,
  )
}

function problemOf({ message, remedy }: ImagerError): Problem {
  return { code: 'ROLLED_BACK', sentence: message, remedy }
}
