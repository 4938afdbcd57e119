/**
 * `imager recover`: a coordinator rebuilt from the 24 words and the peers. Planning only looks: the
 * words, the members, who answers, the keys. Running rebuilds the catalog in the new state folder; when the stripes are known, and
 * with them that a manifest can be opened, the fleet is taken over, by a membership of a higher term on every peer that answers;
 * and only then are manifests walked.
 * `home.json` comes last, so a run that was cut short is repeated in the same folder. In the folder of a coordinator whose
 * files are damaged it sets them aside (`heal.ts`).
 */
import { existsSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type { Clock } from '../../base/clock.js'
import { hasCode, ImagerError, isOfHost } from '../../base/errors.js'
import { fromHex, type Hex, toHex } from '../../base/ids.js'
import { forEachAtOnce } from '../../base/queue.js'
import { LocalCatalog } from '../../catalog/local.js'
import { partsOf } from '../../catalog/parts.js'
import type { SnapshotRow } from '../../catalog/types.js'
import { chooseKeys, collectKeys, type FoundKeys } from '../../fleet/collect-keys.js'
import { AddressBook } from '../../keys/address-book.js'
import { makeFolder } from '../../keys/durable.js'
import { entryName, readEntry } from '../../keys/entry.js'
import { createHome, Home } from '../../keys/home.js'
import type { HomeConfig } from '../../keys/home-config.js'
import type { Membership, MembershipHost } from '../../keys/membership.js'
import { keepOpenedKeys } from '../../keys/opened-keys.js'
import { type Root, rootFromWords } from '../../keys/root.js'
import { type FleetKeys, openFleetKeys, succeed } from '../../keys/succession.js'
import { type SecretHandle, Vault, type VaultHandle } from '../../native.js'
import type { PeerClient } from '../../peers/client.js'
import { anyOf, notRestorable } from '../../stripes/suffice.js'
import { Meter, type Report } from '../progress.js'
import { Bitmaps } from './bitmaps.js'
import { FoundShards } from './found-shards.js'
import { collectHeads, countOpenable, countSnapshots, importHeads, type UnreadableHead } from './heads.js'
import { allVersions, exchange, findPlace, keyOf, lockPlace, type Place, WORKSHOP } from './heal.js'
import { everybody, leaveAgain, type Returning, whoReturns, withoutLeft, withReturned } from './members.js'
import { importOrders } from './orders.js'
import { type Missing, type ReachedFleet, reachFleet } from './reach.js'
import { importFound, type Rebuilt, type Survey, surveyPeers } from './survey.js'

export interface RecoverOptions {
  /** The new state folder, or that of the coordinator whose files are damaged: then it keeps its name and addresses. */
  readonly state: string
  readonly words: string
  /** Address of any living peer. */
  readonly peer: string
  readonly name: string
  readonly domain?: string | undefined
  /** Where the new coordinator will listen, and where others reach it. */
  readonly listen: string
  readonly address: string
}

export interface RecoverParts {
  readonly clock: Clock
  readonly report: Report
  readonly signal: AbortSignal
}

export interface RecoverPlan extends ReachedFleet {
  /** Everybody whom any version names. */
  readonly known: Membership
  readonly returning: Returning
  readonly place: Place
  readonly successor: Pick<RecoverOptions, 'name' | 'domain' | 'listen' | 'address'>
  readonly root: Root
  readonly identity: SecretHandle
  /** As the peers hold them, and opened. */
  readonly found: FoundKeys
  readonly keys: FleetKeys
  close(): void
}

export interface RecoverReport {
  readonly fleet: Hex
  /** This host, coordinator from now on. */
  readonly host: Hex
  readonly term: number
  readonly address: string
  /** Folder with the files that were here before, damaged ones among them; null: there were none. */
  readonly setAside: string | null
  /** Until when this host opens these snapshots without the words, in milliseconds since 1970; null: it has none to open. */
  readonly keysOpenUntil: number | null
  readonly peers: {
    readonly reached: string[]
    readonly missing: { name: string; why: string }[]
    /** Members again, though the newest membership did not name them any more. */
    readonly returned: string[]
  }
  readonly shards: Omit<Survey, 'lost'>
  readonly stripes: Rebuilt
  readonly snapshots: Pick<
    SnapshotRow,
    'id' | 'applianceName' | 'source' | 'label' | 'time' | 'survives' | 'state' | 'summary'
  >[]
  /** Snapshots whose manifest cannot be read now. */
  readonly unreadable: readonly UnreadableHead[]
  /** Heads of which others of the same snapshot were taken instead. */
  readonly rivals: readonly UnreadableHead[]
  /** What is listed as restorable rests on this, too, for people. */
  readonly notProved: readonly string[]
  /** Which hosts would make every snapshot restorable; empty where all are. */
  readonly suffice: string
  readonly seconds: number
}

const PEERS_AT_ONCE = 16
const NOT_READ =
  'that every block opens, and every page with files and their names: `imager check --read-data` reads all of it'
const FOUND = 'found.db'

/** Throws STATE_EXISTS, WRONG_WORDS, HOST_UNREACHABLE, HOST_LIED, NOT_RESTORABLE. Changes nothing outside the folder. */
export async function planRecover(options: RecoverOptions, parts: RecoverParts): Promise<RecoverPlan> {
  const root = rootFromWords(options.words)
  const place = findPlace(options.state, root)
  const fleet = await reachFleet({ root, address: options.peer, ...parts })
  try {
    const versions = allVersions(options.state, fleet.versions, root)
    const known = everybody(versions)
    const { found } = await collectKeys(fleet.reached, {
      membership: known,
      root,
      peers: fleet.peers,
      signal: parts.signal,
    })
    const keys = openFleetKeys([...found.values()].flat(), known, root)
    if (!keys) throw withoutKeys(fleet)
    const membership = versions[0] as Membership
    const identity = keyOf(place, membership)
    const at = [
      ...new AddressBook(options.state).of(membership.coordinator),
      ...(fleet.addresses.get(membership.coordinator) ?? []),
    ]
    const successor = successorOf(place, membership, at[0], options)
    const answered = new Set(fleet.reached.map(({ host }) => host))
    const returning = whoReturns(versions, (host) => answered.has(host))
    const close = () => fleet.peers.close()
    return { ...fleet, versions, known, returning, place, successor, root, identity, found, keys, close }
  } catch (error) {
    fleet.peers.close()
    throw error
  }
}

export async function runRecover(
  plan: RecoverPlan,
  options: RecoverOptions,
  parts: RecoverParts,
): Promise<RecoverReport> {
  const started = parts.clock.now()
  const { state } = options
  const { root, identity, successor } = plan
  const { listen, address, name } = successor
  const entries = [...plan.found.values()].flat()
  const takeOver = (back: readonly MembershipHost[]) =>
    succeed(withReturned(plan.versions, back), plan.keys, root, successor, identity, entries)
  const { always, ifMissed } = plan.returning
  const { membership: widest, keys } = takeOver([...always, ...ifMissed])
  const { rootKey, rootSealing } = root
  const coordinator = { key: toHex(identity.signingKey()), address }
  const config: HomeConfig = {
    ...{ fleet: widest.fleet, rootKey, rootSealing, role: 'coordinator', name, coordinator, listen },
  }
  const unlock = await lockPlace(state)
  try {
    const tell = ({ fleet, bytes }: Membership) =>
      tellPeers(plan, parts, (peer, signal) => peer.sendDocument('membership', fleet, bytes, { signal }))
    const rebuilt = await build(plan, widest, config, options, parts, () => tell(widest))
    const left = ifMissed.filter((one) => !rebuilt.missed.includes(one))
    const returned = [...always, ...rebuilt.missed]
    const membership = left.length === 0 ? widest : withoutLeft(widest, left, identity, root)
    if (membership !== widest) await tell(membership)
    const setAside = exchange(state, identity, parts.clock.now()) ?? null
    const keeper = { state, fleet: membership.fleet, secret: identity }
    const keysOpenUntil = keepOpenedKeys(keeper, plan.keys.appliances, parts.clock.now()) ?? null
    const home = createHome({ state, ...config, membership: membership.bytes, keys })
    home.addresses.learn([...plan.addresses, [home.host, [address]]])
    const listens = home.addresses.own(home.fleet, home.host, [address], parts.clock.now(), identity)
    await tellPeers(plan, parts, (peer, signal) => sendAddress(peer, home.host, listens, signal))
    const own = home.ownEntries().map((bytes) => ({ name: entryName(readEntry(bytes).entry), bytes }))
    const absent = rebuilt.missing.map(({ host }) => host).filter((host) => membership.find(host) !== undefined)
    noteRecovery(home, own, absent, parts.clock)
    await tellPeers(plan, parts, (peer, signal) => sendKeys(peer, own, signal))
    const missing = new Map(rebuilt.missing.map((one) => [one.host, one]))
    return {
      ...{ fleet: home.fleet, host: home.host, term: membership.term, address, setAside, keysOpenUntil },
      peers: {
        reached: plan.reached.filter(({ host }) => !missing.has(host)).map((one) => one.name),
        missing: [...missing.values()].map((one) => ({ name: one.name, why: one.why })),
        returned: returned.map(({ host, name: before }) => membership.find(host)?.name ?? before),
      },
      ...{ shards: rebuilt.shards, stripes: rebuilt.stripes, suffice: rebuilt.suffice },
      ...{ snapshots: rebuilt.snapshots, unreadable: rebuilt.unreadable, rivals: rebuilt.rivals },
      notProved: rebuilt.notProved,
      seconds: (parts.clock.now() - started) / 1000,
    }
  } finally {
    unlock()
  }
}

/** A coordinator that heals keeps what its fleet calls it, and where it is looked for. */
function successorOf(
  { isHealed, config }: Place,
  membership: Membership,
  at: string | undefined,
  options: RecoverOptions,
) {
  if (!isHealed) return options
  const known = membership.find(membership.coordinator)
  const noted = config?.coordinator.address
  // With port 0 it took a free one, which only it told.
  const address = (noted?.endsWith(':0') ? undefined : noted) ?? at ?? options.address
  const listen = config?.listen ?? `0.0.0.0:${address.split(':').at(-1)}`
  return { name: config?.name ?? known?.name ?? options.name, domain: known?.domain ?? options.domain, address, listen }
}

/** In a folder beside what lies there: until it is complete, nothing of that is touched. */
async function build(
  plan: RecoverPlan,
  membership: Membership,
  config: HomeConfig,
  options: RecoverOptions,
  parts: RecoverParts,
  takeOver: () => Promise<Missing[]>,
) {
  const { state } = options
  const workshop = join(state, WORKSHOP)
  rmSync(workshop, { recursive: true, force: true })
  makeFolder(workshop)
  const catalog = LocalCatalog.open(
    workshop,
    partsOf(new Home(workshop, config, plan.identity), parts.clock, plan.keys.trailersOf),
  )
  try {
    catalog.upkeep.hurry()
    const rebuilt = await rebuildCatalog(plan, membership, catalog, options, parts, takeOver)
    const old = join(state, 'catalog', 'catalog.db')
    if (existsSync(old)) catalog.upkeep.carryOver(old)
    catalog.upkeep.settle()
    return rebuilt
  } finally {
    catalog.close()
  }
}

/** `absent`: peers that are asked what they hold once they are back. */
function noteRecovery(home: Home, own: readonly NamedKey[], absent: readonly Hex[], clock: Clock): void {
  const catalog = LocalCatalog.openFor(home.state, clock)
  try {
    for (const { name, bytes } of own) catalog.registry.keepKey(name, bytes)
    catalog.registry.noteUnsurveyed(home.fleet, absent)
    catalog.registry.record('fleet', home.host, `${home.name} recovered the fleet: term ${home.membership().term}`)
  } finally {
    catalog.close()
  }
}

/**
 * Members and stripes; then `takeOver`; then snapshots. A manifest is walked only when the fleet obeys nobody else any more: its
 * appliance may be in wrong hands, and who held the fleet before is not to be waited for. Throws NOT_RESTORABLE, before anything is
 * taken over, where there are snapshots and no manifest of them can be opened now.
 */
async function rebuildCatalog(
  plan: RecoverPlan,
  membership: Membership,
  catalog: LocalCatalog,
  { state }: RecoverOptions,
  parts: RecoverParts,
  takeOver: () => Promise<Missing[]>,
) {
  const { reached, peers, keys, known, found: foundKeys } = plan
  const { fleet } = membership
  // Who wrote and is no member any more has a name all the same.
  for (const host of [...known.hosts, ...membership.hosts]) catalog.members.admit(host)
  catalog.members.admitOnly(membership.hosts)
  for (const { host, addresses, space } of reached) catalog.members.heartbeat(host, { addresses, ...space })
  for (const { name, bytes } of chooseKeys(foundKeys, known, plan.root)) catalog.registry.keepKey(name, bytes)
  await importOrders(reached, {
    ...{ known, next: membership, rootKey: plan.root.rootKey, identity: plan.identity },
    ...{ catalog, peers, clock: parts.clock, signal: parts.signal },
  })
  const members = known.hosts.filter((one) => one.role !== 'peer').map((one) => one.host)
  const writers = [...new Set([...members, ...known.line.former])]
  const trailerKeys = new Map(writers.map((host) => [host, keys.trailersOf(host)]))
  const meter = (phase: string, bytes: number) => new Meter(phase, bytes, parts.clock, parts.report)
  const found = new FoundShards(join(state, FOUND), catalog.names)
  try {
    const survey = { fleet, trailerKeys, found, names: catalog.names, peers, signal: parts.signal }
    const usedBytes = reached.reduce((sum, { space }) => sum + space.usedBytes, 0)
    const { lost, ...shards } = await surveyPeers(reached, survey, meter('looking at shards', usedBytes))
    const stripes = await importFound(survey, catalog, meter('reading stripes', found.totalPackBytes))
    const signal = parts.signal
    const { trailersOf: trailerKeysOf } = keys
    const kept = await collectHeads(reached, { membership: known, peers, trailerKeysOf, signal })
    if (kept.length > 0 && (await countOpenable(kept, catalog)) === 0) {
      const silent = [...plan.missing, ...lost]
      throw notRestorable({ silent: namesOf(silent), suffice: whoWouldSuffice(stripes, silent) })
    }
    const missing = [...plan.missing, ...lost, ...(await takeOver())]
    const bitmaps = new Bitmaps({
      ...{ hosts: reached.map(({ host }) => host), peer: (host) => peers.get(host), heads: kept, signal },
    })
    const notProved = [NOT_READ]
    const { unreadable, rivals } = await importHeads(kept, {
      ...{
        membership: known,
        peers,
        catalog,
        bitmaps,
        vaults: vaultsOf(plan),
        hasDomain: domainsOf(plan),
        trailerKeysOf,
      },
      ...{ meter, signal },
      onUnproved: (what) => notProved.push(what),
    })
    const missed = await leaveAgain(plan.returning.ifMissed, catalog, membership.coordinator)
    const snapshots = await catalog.snapshots()
    const restorable = snapshots.filter((one) => one.state !== 'incomplete').length
    const helped = countSnapshots(kept) - unreadable.filter(({ code }) => code === 'FORGED').length
    const suffice = restorable < helped ? whoWouldSuffice(stripes, missing) : ''
    return { shards, stripes, snapshots, unreadable, rivals, notProved, missing, missed, suffice }
  } finally {
    found.close()
  }
}

/** They open pages, one for each manifest key. */
function vaultsOf({ keys, known }: RecoverPlan) {
  const fleet = fromHex(known.fleet, 16) as Buffer
  return (appliance: Hex): VaultHandle[] => {
    const { manifests = [], trailers: [trailer] = [] } = keys.appliances.get(appliance) ?? {}
    return trailer ? manifests.map((manifest) => new Vault([keys.domain], manifest, trailer, fleet)) : []
  }
}

function domainsOf({ keys }: RecoverPlan) {
  // Whose place another took sealed the keys of what goes on there.
  const all = [keys.domain, ...[...keys.appliances.values()].flatMap(({ domains }) => domains)]
  const ids = new Set(all.map((key) => toHex(key.id())))
  return (domain: Hex): boolean => ids.has(domain)
}

/** A host that goes on with its key may have said so a moment ago: what a peer has of it is as good. */
async function sendAddress(peer: PeerClient, host: Hex, address: Buffer, signal: AbortSignal): Promise<void> {
  try {
    await peer.sendDocument('address', host, address, { signal })
  } catch (error) {
    if (!hasCode(error, 'HOST_REFUSED')) throw error
  }
}

interface NamedKey {
  readonly name: string
  readonly bytes: Buffer
}

/**
 * Where a peer holds another of that name, an earlier attempt of this very host sealed it: it opens as well. One that takes no
 * more of them today is brought them by the courier.
 */
async function sendKeys(peer: PeerClient, keys: readonly NamedKey[], signal: AbortSignal): Promise<void> {
  for (const { name, bytes } of keys) {
    try {
      await peer.sendDocument('key', name, bytes, { signal })
    } catch (error) {
      if (!hasCode(error, 'HOST_REFUSED', 'TOO_MANY_KEYS')) throw error
    }
  }
}

/** Gives those that could not be told. Throws where nobody could. */
async function tellPeers(
  { reached, peers }: RecoverPlan,
  { signal }: RecoverParts,
  send: (peer: PeerClient, signal: AbortSignal) => Promise<void>,
): Promise<Missing[]> {
  const silent: Missing[] = []
  await forEachAtOnce(reached, PEERS_AT_ONCE, async ({ host, name }) => {
    try {
      await send(peers.get(host), signal)
    } catch (error) {
      signal.throwIfAborted()
      if (!isOfHost(error)) throw error
      silent.push({ host, name, why: error.message })
      if (silent.length === reached.length) throw error
    }
  })
  return silent
}

function namesOf(missing: readonly Missing[]): string[] {
  return missing.map((one) => one.name).sort()
}

/** `any 1 of pc-3, pc-4`: what an absent host holds is not known, so any may. */
function whoWouldSuffice({ lacks }: Rebuilt, missing: readonly Missing[]): string {
  const names = namesOf(missing)
  if (names.length === 0) return 'hosts that left the fleet'
  return lacks >= names.length ? names.join(', ') : `any ${Math.max(1, lacks)} of ${names.join(', ')}`
}

function withoutKeys({ missing }: ReachedFleet): ImagerError {
  if (missing.length === 0) throw new ImagerError('CORRUPT', { what: 'No peer holds the keys of a coordinator' })
  const silent = missing.map((one) => one.name)
  return notRestorable({ silent, suffice: anyOf(1, silent) })
}
