/**
 * What a coordinator that was set back does not know any more, brought back from its witnesses and peers: the stripes by the
 * shards that peers hold, as a recovery finds them, and the snapshots by what the coordinator had left with its witnesses.
 */
import { join } from 'node:path'
import type { Clock } from '../base/clock.js'
import { hasCode, ImagerError, isOfHost } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import { forEachAtOnce } from '../base/queue.js'
import { openCatalogEntry } from '../catalog/entry.js'
import type { LocalCatalog } from '../catalog/local.js'
import type { Witness } from '../coordinator/witnesses.js'
import { Meter } from '../jobs/progress.js'
import { FoundShards } from '../jobs/recover/found-shards.js'
import { collectOrders } from '../jobs/recover/orders.js'
import type { Reached } from '../jobs/recover/reach.js'
import { importFound, surveyPeers } from '../jobs/recover/survey.js'
import { witnessesOf } from '../keys/checkpoint.js'
import type { HeadId } from '../keys/head-set.js'
import type { Home } from '../keys/home.js'
import type { SecretHandle } from '../native.js'
import { Peers } from '../peers/pool.js'
import { importLate, knownTo } from './late.js'

export interface CatchUpParts {
  readonly home: Home
  readonly catalog: LocalCatalog
  readonly clock: Clock
  readonly signal: AbortSignal
}

const AT_ONCE = 8
const FOUND = 'catching-up.db'

/** As far as it goes now; what could not be had stays missing. */
export async function catchUp(
  missing: readonly HeadId[],
  witnesses: readonly Witness[],
  parts: CatchUpParts,
): Promise<void> {
  const { home } = parts
  const { catalogKey } = home
  if (!catalogKey) return
  await importStripes(parts)
  await forEachAtOnce(missing, AT_ONCE, (id) => importSnapshot(id, witnesses, catalogKey, parts))
}

/** What admins said meanwhile, from the witnesses: it is brought to all who come later. */
export async function catchUpOrders({ home, catalog, clock, signal }: CatchUpParts): Promise<void> {
  const peers = new Peers(home.tls, () => catalog.members.rows(), clock)
  try {
    const known = home.membership()
    await collectOrders(witnessesOf(known), { known, rootKey: home.rootKey, catalog, peers, signal })
  } finally {
    peers.close()
  }
}

/**
 * Once one of the peers is back that were away then, or during a recovery: its shards are of stripes that are known, or make others
 * readable, and with them snapshots that nobody else has. Gives how many of these.
 */
export async function catchUpLate(parts: CatchUpParts): Promise<number> {
  const { home, catalog } = parts
  const late = new Set(catalog.registry.unsurveyed(home.fleet))
  if (!catalog.members.rows().some(({ host, away }) => late.has(host) && !away)) return 0
  return importStripes(parts, late)
}

function noteAbsent(absent: readonly Hex[], { home, catalog }: CatchUpParts): void {
  const members = absent.filter((host) => home.membership().find(host) !== undefined)
  catalog.registry.noteUnsurveyed(home.fleet, members)
}

/** `late`: of these the snapshots, too. */
async function importStripes(parts: CatchUpParts, late: ReadonlySet<Hex> = new Set()): Promise<number> {
  const { home, catalog, clock, signal } = parts
  const { hosts, fleet } = home.membership()
  const peers = new Peers(home.tls, () => catalog.members.rows(), clock)
  const found = new FoundShards(join(home.state, FOUND), catalog.names)
  try {
    const reached = await reach(parts, peers)
    const known = await knownTo(reached, { ...parts, peers })
    const members = known.hosts.filter(({ role }) => role !== 'peer').map(({ host }) => host)
    const writers = new Set([...members, ...known.line.former])
    const trailerKeys = new Map([...writers].map((host) => [host, home.trailerKeysOf(host)]))
    const survey = { fleet, trailerKeys, found, names: catalog.names, peers, signal }
    const quiet = () => new Meter('', 0, clock, () => {})
    const { lost } = await surveyPeers(reached, survey, quiet())
    await importFound(survey, catalog, quiet())
    const asked = new Set(reached.map(({ host }) => host).filter((host) => lost.every((one) => one.host !== host)))
    const answered = reached.filter(({ host }) => asked.has(host))
    // One that came before may have brought a snapshot whose stripes the next one brings.
    const snapshots = late.size === 0 ? 0 : await importLate(answered, { home, catalog, peers, known, signal })
    const absent = hosts.filter(({ role, host }) => role === 'peer' && !asked.has(host)).map(({ host }) => host)
    // Who is to be asked for keys and snapshots was asked for stripes only.
    const waiting = late.size === 0 ? catalog.registry.unsurveyed(home.fleet) : []
    noteAbsent([...new Set([...absent, ...waiting])], parts)
    return snapshots
  } finally {
    found.close()
    peers.close()
  }
}

/** The peers that answer. */
async function reach({ home, catalog, signal }: CatchUpParts, peers: Peers): Promise<Reached[]> {
  const reached: Reached[] = []
  const all = home.membership().hosts.filter(({ role }) => role === 'peer')
  await forEachAtOnce(all, AT_ONCE, async (host) => {
    try {
      const addresses = catalog.members.addresses(host.host)
      reached.push({ ...host, addresses, space: await peers.get(host.host).fetchState({ signal }) })
    } catch (error) {
      signal.throwIfAborted()
      if (!isOfHost(error)) throw error
    }
  })
  return reached
}

/** From the first witness whose entry opens. */
async function importSnapshot(
  id: HeadId,
  witnesses: readonly Witness[],
  catalogKey: SecretHandle,
  { catalog, signal }: CatchUpParts,
): Promise<void> {
  for (const witness of witnesses) {
    signal.throwIfAborted()
    const sealed = await witness.fetchEntry(id)
    if (!sealed) continue
    try {
      catalog.entries.import(openCatalogEntry(sealed, id, catalogKey))
      return
    } catch (error) {
      if (!(error instanceof ImagerError) || hasCode(error, 'COORDINATOR_READ_ONLY', 'STATE_DAMAGED')) throw error
    }
  }
}
