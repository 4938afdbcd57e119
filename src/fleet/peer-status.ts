/** What the owner of a PC may know of it: whether the coordinator sees it, believes it, and how much it lends. Nothing of backups. */
import { RemoteCatalog } from '../coordinator/client.js'
import type { Home } from '../keys/home.js'
import { CoordinatorLink } from './link.js'
import { hostProblems, type Problem } from './problems.js'

export interface PeerStatusReport {
  safe: boolean
  fleet: string
  name: string
  role: string
  coordinator: string
  /** 0: its daemon has never been heard of. */
  lastSeen: number
  away: boolean
  freeBytes: number
  usedBytes: number
  problems: Problem[]
}

/** Throws COORDINATOR_UNREACHABLE. */
export async function readPeerStatus(home: Home): Promise<PeerStatusReport> {
  const { addresses, key, address } = home.coordinator
  const link = new CoordinatorLink(home.tls, addresses, key)
  try {
    const row = await new RemoteCatalog(link).self()
    const { name, role, lastSeen, away, freeBytes, usedBytes } = row
    // It may ask for itself and lend nothing: only its daemon tells of a store.
    const problems = [...(away || row.storage === '' ? [notHeard(name)] : []), ...hostProblems(row)]
    const safe = problems.length === 0
    return { safe, fleet: home.fleet, name, role, coordinator: address, lastSeen, away, freeBytes, usedBytes, problems }
  } finally {
    link.close()
  }
}

function notHeard(name: string): Problem {
  const remedy = 'Start its daemon here: `imager peer --store DIR`, with the folder of before.'
  return { code: 'PEER_AWAY', sentence: `The coordinator hears of no store on ${name}`, remedy }
}
