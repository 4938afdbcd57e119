/**
 * The words take a fleet over: every key that its hosts sealed to recovery, and the statements that put another host in
 * the coordinator's place. The term rises, so whatever the former coordinator signs counts for less from then on.
 */
import { hasCode, ImagerError } from '../base/errors.js'
import { type Hex, toHex } from '../base/ids.js'
import type { SecretHandle } from '../native.js'
import { appointAgain } from './admins.js'
import { DUTIES, signDelegation } from './delegation.js'
import {
  deriveTrailerKey,
  entryName,
  isPrivate,
  type KeyEntry,
  type KeyPurpose,
  mayDeliver,
  newestFirst,
  openEntry,
  RECOVERY,
  sealEntry,
} from './entry.js'
import { WORDS } from './labels.js'
import {
  admitAll,
  chooseWitnesses,
  formerHolders,
  type Membership,
  openMembership,
  readersOf,
  signMembership,
  uniqueName,
} from './membership.js'
import type { Root } from './root.js'

/** All that were ever sealed for one appliance: of several, what they open says which is right. */
export interface ApplianceKeys {
  readonly manifests: readonly SecretHandle[]
  readonly domains: readonly SecretHandle[]
  readonly trailers: readonly SecretHandle[]
}

export interface FleetKeys {
  /** What new hosts are given. */
  readonly domain: SecretHandle
  readonly catalog: SecretHandle
  /** By appliance; a coordinator is among them, and has no manifests. */
  readonly appliances: ReadonlyMap<Hex, ApplianceKeys>
  /** Of an appliance, or of a host that has no keys of its own. */
  trailersOf(host: Hex): readonly SecretHandle[]
}

interface Opened {
  readonly key: SecretHandle
  readonly entry: KeyEntry
}

/**
 * What is shared comes from whoever the root made a holder, in whichever term: an earlier recovery may have been cut short
 * before its host's keys spread. The newest term counts, in it the last rotation; of several the domain key that most appliances say
 * they use: a holder in wrong hands may have sealed others as well. No key is left out for another: each that opens is tried. Undefined where the
 * shared keys are not among them.
 */
export function openFleetKeys(
  entries: readonly Uint8Array[],
  membership: Membership,
  root: Root,
): FleetKeys | undefined {
  const opened = entries.flatMap((bytes) => openForRecovery(bytes, membership, root) ?? [])
  const shared = (purpose: KeyPurpose) =>
    opened.filter(({ entry }) => entry.purpose === purpose && !isPrivate(entry) && isHolder(membership, entry))
  const owners = groupByOwner(opened)
  const votes = new Map<Hex, number>()
  for (const own of owners.values()) {
    const ids = new Set(own.flatMap(({ entry }) => (entry.purpose === 'domain' ? entry.key : [])))
    for (const id of ids) votes.set(id, (votes.get(id) ?? 0) + 1)
  }
  const weight = ({ entry }: Opened) => votes.get(entry.key) ?? 0
  const newest = (all: readonly Opened[]) =>
    all.toSorted((a, b) => newestFirst(a.entry, b.entry) || weight(b) - weight(a))[0]?.key
  const catalogs = distinct(shared('catalog').map(({ key }) => key))
  const [domain, catalog] = [newest(shared('domain')), newest(shared('catalog'))]
  if (!domain || !catalog) return undefined
  const derived = (host: Hex) => catalogs.map((key) => deriveTrailerKey(key, host))
  const keysOf = (owner: Hex, opened: readonly Opened[]): ApplianceKeys => {
    const own = (purpose: KeyPurpose) => opened.flatMap(({ key, entry }) => (entry.purpose === purpose ? key : []))
    return {
      manifests: distinct(own('manifest')),
      domains: distinct(own('domain')),
      trailers: distinct([...own('trailer'), ...derived(owner)]),
    }
  }
  const appliances = new Map([...owners].map(([owner, own]) => [owner, keysOf(owner, own)]))
  return { domain, catalog, appliances, trailersOf: (host) => appliances.get(host)?.trailers ?? derived(host) }
}

function groupByOwner(opened: readonly Opened[]): Map<Hex, Opened[]> {
  const owners = new Map<Hex, Opened[]>()
  for (const one of opened) {
    const own = owners.get(one.entry.owner) ?? []
    own.push(one)
    owners.set(one.entry.owner, own)
  }
  return owners
}

function isHolder(membership: Membership, { owner, term }: KeyEntry): boolean {
  return membership.delegated(owner, 'holder', term)
}

function distinct(keys: readonly SecretHandle[]): SecretHandle[] {
  return [...new Map(keys.map((key) => [toHex(key.id()), key])).values()]
}

export interface Successor {
  readonly name: string
  /** What fails with it; undefined: nothing. */
  readonly domain?: string | undefined
}

/**
 * The first membership of the next term, signed by the root, and the key entries of the successor: the shared keys sealed to itself
 * and to recovery. Those of appliances stay theirs: what the words opened is kept for a while, and elsewhere (opened-keys.ts). Peers,
 * appliances and admins stay, former coordinators go. The sequence begins again, so that no number a former coordinator signed stands in the
 * way. A host that goes on with its key has sealed the shared ones before: what peers hold of these (`held`) stays, as they would take
 * no other.
 */
export function succeed(
  before: Membership,
  keys: Pick<FleetKeys, 'domain' | 'catalog' | 'appliances'>,
  root: Root,
  { name, domain }: Successor,
  identity: SecretHandle,
  held: readonly Buffer[] = [],
): { membership: Membership; keys: Buffer[] } {
  const { fleet, term: lastTerm } = before
  const host = toHex(identity.signingKey())
  const sealing = toHex(identity.sealingKey())
  const term = lastTerm + 1
  // Former holders stay known, so that what they sealed to recovery stays believed.
  const known = formerHolders(before, root.secret)
  const own = DUTIES.map((duty) => signDelegation({ fleet, term, duty, host }, root.secret).toString('base64'))
  const others = before.hosts.filter(
    (one) => one.role !== 'coordinator' && one.host !== host && !before.line.isFormer(one.host),
  )
  const unique = uniqueName(
    name,
    others.map((one) => one.name),
  )
  const self = {
    host,
    sealing,
    name: unique,
    role: 'coordinator' as const,
    domain: domain ?? host,
  }
  const hosts = [...others, self]
  const witnesses = chooseWitnesses(hosts, before.witnesses)
  const listed = admitAll(hosts, fleet, term, root.secret)
  const replacements = before.line.textsBy(root.secret)
  const body = {
    ...{ fleet, sequence: 1, term, delegations: [...own, ...known], hosts: listed, removals: [], witnesses },
    ...(replacements.length > 0 && { replacements }),
    ...appointAgain(before.admins, { fleet, term }, root.secret),
  }
  const membership = openMembership(
    signMembership(body, root.secret, readersOf(hosts, [], root.rootSealing, before.admins)),
    fleet,
    root.rootKey,
    { reader: WORDS, secret: root.secret },
  )
  const sealed = openOwn(held, { fleet, host, secrets: [identity, root.secret] })
  const seal = (purpose: KeyPurpose, key: SecretHandle, reader: Hex, readerSealing: Hex) =>
    sealed.get(entryName({ purpose, key: toHex(key.id()), owner: host, reader })) ??
    sealEntry(key, { fleet, term, purpose, owner: host, reader, readerSealing }, identity)
  const shared = (purpose: KeyPurpose, key: SecretHandle) => [
    seal(purpose, key, host, sealing),
    seal(purpose, key, RECOVERY, root.rootSealing),
  ]
  const isDerived = (key: SecretHandle, owner: Hex) => key.id().equals(deriveTrailerKey(keys.catalog, owner).id())
  // What its heads were sealed under, where that does not follow from the catalog key.
  const theirs = [...keys.appliances].flatMap(([owner, { trailers }]) =>
    trailers
      .filter((key) => !isDerived(key, owner))
      .map((key) => {
        const to = { fleet, term, purpose: 'trailer' as const, owner, reader: host, readerSealing: sealing }
        return sealEntry(key, to, root.secret)
      }),
  )
  return { membership, keys: [...shared('domain', keys.domain), ...shared('catalog', keys.catalog), ...theirs] }
}

/** Whole entries that this host sealed to itself or to recovery, by name. */
function openOwn(
  held: readonly Buffer[],
  { fleet, host, secrets: [own, root] }: { fleet: Hex; host: Hex; secrets: [SecretHandle, SecretHandle] },
): Map<string, Buffer> {
  const accept = (signer: Hex, entry: KeyEntry) => signer === host && entry.owner === host
  const readers = [
    { fleet, accept, reader: host, secret: own },
    { fleet, accept, reader: RECOVERY, secret: root },
  ]
  const found = readers.flatMap((reader) =>
    held.flatMap((bytes) => {
      const opened = openIfMeant(bytes, reader)
      return opened ? [[entryName(opened.entry), bytes] as const] : []
    }),
  )
  return new Map(found)
}

/** What counts, and is sealed to the words. */
export function openForRecovery(bytes: Uint8Array, membership: Membership, root: Root): Opened | undefined {
  const accept = (signer: Hex, entry: KeyEntry) => mayDeliver(signer, entry, membership, root.rootKey)
  return openIfMeant(bytes, { fleet: membership.fleet, reader: RECOVERY, secret: root.secret, accept })
}

/** Some entries are for others, and a host in wrong hands seals what does not open. */
function openIfMeant(...args: Parameters<typeof openEntry>): ReturnType<typeof openEntry> | undefined {
  try {
    return openEntry(...args)
  } catch (error) {
    if (error instanceof ImagerError && hasCode(error, 'FORGED', 'CORRUPT', 'UNSUPPORTED')) return undefined
    throw error
  }
}
