/**
 * The keys to an appliance's snapshots, for one command: those that this host holds, or those that the recovery words open.
 * What the words open comes from the key entries on the peers, and stays in memory.
 */
import { ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import type { Home } from '../keys/home.js'
import { type Root, rootFromWords } from '../keys/root.js'
import { openFleetKeys } from '../keys/succession.js'
import { keysHeld, nameOf, type ReaderKeys, type Unlock } from '../keys/vault.js'
import { anyOf, notRestorable } from '../stripes/suffice.js'
import { collectKeys } from './collect-keys.js'
import type { Fleet } from './open.js'

/** What of a fleet it takes. */
export type Unlockable = Pick<Fleet, 'home' | 'clock' | 'peers'>

const PATIENCE_MS = 30_000

/**
 * Without words throws KEYS_LOCKED where this host holds no key of the appliance; with words WRONG_WORDS at once where
 * they are not this fleet's, later NOT_RESTORABLE or CORRUPT where no peer shows what they are to open.
 */
export function unlocking(
  fleet: Unlockable,
  words: string | undefined,
  signal: AbortSignal,
  patienceMs = PATIENCE_MS,
): Unlock {
  const { home, clock } = fleet
  if (words === undefined) return async (appliance, takenBy) => keysHeld(home, appliance, clock, takenBy)
  const root = rootOf(home, words)
  return async (appliance, takenBy = appliance) => {
    if (appliance === home.host && home.manifestKey && home.opensOf(takenBy)) return keysHeld(home, appliance, clock)
    return await openWithRoot(fleet, root, appliance, { signal, patienceMs })
  }
}

function rootOf(home: Home, words: string): Root {
  const root = rootFromWords(words)
  if (root.rootKey === home.rootKey) return root
  throw new ImagerError('WRONG_WORDS', { what: `The words are not those of the fleet of ${home.name}` })
}

interface Bounds {
  readonly signal: AbortSignal
  readonly patienceMs: number
}

async function openWithRoot(
  { home, peers }: Unlockable,
  root: Root,
  appliance: Hex,
  bounds: Bounds,
): Promise<ReaderKeys> {
  const membership = home.membership()
  const all = membership.hosts.filter(({ role }) => role === 'peer')
  const owners = new Set(membership.line.of(appliance))
  const { found, silent } = await collectKeys(all, { membership, root, peers, owners, ...bounds })
  const lacking = () => {
    if (silent.length === 0) {
      return new ImagerError('CORRUPT', { what: `No peer holds the keys of ${nameOf(home, appliance)}` })
    }
    const names = silent.map((host) => nameOf(home, host)).sort()
    return notRestorable({ silent: names, suffice: anyOf(1, names) })
  }
  const keys = openFleetKeys([...found.values()].flat(), membership, root)
  const line = membership.line.of(appliance).flatMap((host) => keys?.appliances.get(host) ?? [])
  const manifests = line.flatMap((one) => one.manifests)
  const domains = line.flatMap((one) => one.domains)
  const trailers = line.flatMap((one) => one.trailers)
  if (!keys || manifests.length === 0 || trailers.length === 0) throw lacking()
  return { fleet: home.fleet, manifests, domains: [keys.domain, ...domains], trailers, lacking }
}
