/** Are the backups safe? The newest snapshot of each volume against the hosts that are here now. */
import type { Hex } from '../base/ids.js'
import type { HostRow, SnapshotRow } from '../catalog/types.js'
import type { Fleet } from './open.js'

export interface StatusReport {
  safe: boolean
  fleet: Hex
  name: string
  role: string
  coordinator: string
  peers: { total: number; here: number; freeBytes: number; usedBytes: number }
  /** The newest snapshot of each volume. */
  volumes: {
    id: Hex
    applianceName: string
    source: string
    ageSeconds: number
    state: SnapshotRow['state']
    survives: number
  }[]
  problems: string[]
}

export async function readStatus({ home, catalog, clock }: Fleet): Promise<StatusReport> {
  const [hosts, snapshots] = await Promise.all([catalog.hosts(), catalog.snapshots()])
  const newest = newestOfVolumes(snapshots)
  const peers = hosts.filter((host) => host.role === 'peer')
  const problems = newest.length === 0 ? ['There is no snapshot yet'] : findProblems(peers, newest)
  const here = peers.filter((peer) => !peer.away)
  const sum = (field: 'freeBytes' | 'usedBytes') => here.reduce((total, peer) => total + peer[field], 0)
  return {
    safe: problems.length === 0,
    fleet: home.fleet,
    name: home.name,
    role: home.role,
    coordinator: home.coordinator.address,
    peers: { total: peers.length, here: here.length, freeBytes: sum('freeBytes'), usedBytes: sum('usedBytes') },
    volumes: newest.map(({ id, applianceName, source, time, state, survives }) => {
      return { id, applianceName, source, ageSeconds: Math.max(0, (clock.now() - time) / 1000), state, survives }
    }),
    problems,
  }
}

/** A sentence for each thing that makes the fleet's newest snapshots less than safe. Pure. */
export function findProblems(peers: readonly HostRow[], newest: readonly SnapshotRow[]): string[] {
  const problems: string[] = []
  // Dedupe spreads a snapshot over whatever older ones wrote, so any absent host with data may hold part of it. One that
  // vanished before its next heartbeat is known by what was sent to it.
  const sentTo = new Set(newest.flatMap((row) => Object.keys(row.summary.perHost)))
  const holds = (peer: HostRow) => peer.usedBytes > 0 || sentTo.has(peer.host)
  const missing = peers.filter((peer) => peer.away && holds(peer)).map((peer) => peer.name)
  for (const { id, applianceName, source, state, survives, summary } of newest) {
    const which = `Snapshot ${id.slice(0, 8)} of ${source} on ${applianceName}`
    if (state === 'incomplete') problems.push(`${which} is incomplete`)
    else if (survives < 1) problems.push(`${which} does not survive the loss of any host`)
    else if (survives < summary.tolerate)
      problems.push(`${which} survives ${survives} losses, asked: ${summary.tolerate}`)
    if (state !== 'incomplete' && missing.length > 0 && missing.length >= survives) {
      const now = missing.length > survives ? 'may not be restorable now' : 'bears no further loss now'
      problems.push(`${which} ${now}: ${missing.join(', ')} away`)
    }
  }
  return problems
}

function newestOfVolumes(snapshots: readonly SnapshotRow[]): SnapshotRow[] {
  const byVolume = new Map(snapshots.map((row) => [`${row.appliance}/${row.volume}`, row]))
  return [...byVolume.values()]
}
