/**
 * A host's state folder: which fleet it belongs to, its identity, the newest membership it saw and its keys, sealed to
 * itself. Folders 0700, files 0600, each replaced in one step. `home.json` comes last, so a host is in a fleet or not; until
 * then it is `home.json.new`. Secrets that others may read are refused. Whoever opens one keeps his memory to himself:
 *
 *   home.json        fleet, root's keys, role, name, coordinator, where the daemon listens
 *   identity.key     X_h, 32 bytes, made here and never sent
 *   membership.bin   the newest membership statement
 *   handover.json    of a coordinator that has handed its place over: what it signed
 *   addresses.json   where each host was reached last; address.bin, what this one said of itself
 *   keys/*.bin       key entries: <purpose>-<key id>-<first 16 digits of the owner>-<the same of the reader, or recovery>.bin
 *   opened-*.bin     what a recovery opened, for a while (opened-keys.ts)
 */
import { existsSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { hasCode, ImagerError, reason } from '../base/errors.js'
import { type Hex, toHex } from '../base/ids.js'
import { keepMemoryPrivate, Secret, type SecretHandle } from '../native.js'
import { AddressBook } from './address-book.js'
import { type TlsIdentity, tlsIdentity } from './certificate.js'
import { stateDamaged } from './damage.js'
import { makeFolder, readWhole, syncFolder, writeDurable } from './durable.js'
import {
  deriveTrailerKey,
  isPrivate,
  type KeyEntry,
  type KeyPurpose,
  mayDeliver,
  newestFirst,
  openEntry,
  RECOVERY,
  readEntry,
} from './entry.js'
import type { Role } from './fields.js'
import { HANDOVER, type HandedOver, readHandedOver, writeHandedOver } from './handed-over.js'
import type { Handed } from './handover.js'
import { encodeConfig, type HomeConfig, readConfig, settlePort } from './home-config.js'
import { type Membership, openMembership, requireFollows } from './membership.js'
import { refuseExposedSecrets } from './secret-files.js'

const CONFIG = 'home.json'
const UNFINISHED = 'home.json.new'
const IDENTITY = 'identity.key'
const KEY_BYTES = 32
const MEMBERSHIP = 'membership.bin'
const KEYS = 'keys'
/** Only a coordinator has it. */
const CATALOG = 'catalog'

export class Home {
  readonly host: Hex
  /** Where others were reached last. */
  readonly addresses: AddressBook
  /** Private, so that a home that is printed shows no key. */
  readonly #tls: TlsIdentity
  #config: HomeConfig
  #membership: Membership | undefined
  #handover: HandedOver | undefined
  readonly #watchers: (() => void)[] = []
  readonly #keys = new Map<string, readonly OpenedEntry[]>()

  constructor(
    readonly state: string,
    config: HomeConfig,
    readonly secret: SecretHandle,
  ) {
    this.#config = config
    this.#tls = tlsIdentity(secret)
    this.host = this.#tls.host
    this.addresses = new AddressBook(state)
  }

  get tls(): TlsIdentity {
    return this.#tls
  }

  get config(): HomeConfig {
    return this.#config
  }

  /**
   * Whoever is to listen on port 0 takes a free one at his first start, and the same ever after: others know him by it. Throws
   * IO where the folder cannot be written.
   */
  keepPort(taken: string): void {
    const settled = settlePort(this.#config, taken)
    if (settled === this.#config) return
    writeDurable(join(this.state, CONFIG), encodeConfig(settled))
    this.#config = settled
  }

  get fleet(): Hex {
    return this.config.fleet
  }

  /** Is this host its fleet's coordinator? */
  get coordinates(): boolean {
    return this.membership().coordinator === this.host && this.handedOver === undefined
  }

  /** To whom this coordinator has handed its place in the present term, and what it signed: from then on it signs nothing else. */
  get handedOver(): HandedOver | undefined {
    this.#handover ??= whole(join(this.state, HANDOVER), this.state, () => readHandedOver(this.state))
    const given = this.#handover
    return given?.term === this.membership().term ? given : undefined
  }

  /** On the disk before anybody hears of it: who crashes now is no coordinator any more. */
  handOver(to: Hex, handed: Handed): void {
    const { term } = this.membership()
    const given = { to, name: this.membership().find(to)?.name ?? to.slice(0, 8), term, ...handed }
    writeHandedOver(this.state, given)
    this.#handover = given
  }

  /** The place was handed to this host: its folder is a coordinator's from the next opening on. */
  becomeCoordinator(listen: string, address: string): void {
    const coordinator = { key: this.host, address }
    this.#config = { ...this.#config, role: 'coordinator', coordinator, listen }
    writeDurable(join(this.state, CONFIG), encodeConfig(this.#config))
  }

  /** Key entries that were made, or checked, by whoever calls. */
  keepEntries(entries: readonly Uint8Array[]): void {
    for (const bytes of entries) {
      writeDurable(join(this.state, KEYS, keyFile(readEntry(bytes).entry)), bytes)
    }
    this.#keys.clear()
  }

  get rootKey(): Hex {
    return this.config.rootKey
  }

  get rootSealing(): Hex {
    return this.config.rootSealing
  }

  /** As the coordinator told it last: it may have given another than was asked for, or changed it since. */
  get name(): string {
    if (this.role === 'peer') return this.#config.name
    return this.membership().find(this.host)?.name ?? this.#config.name
  }

  /** Of a peer, which cannot read the names in a membership. A disk that takes nothing keeps the old one. */
  rename(name: string): void {
    if (name === this.#config.name) return
    this.#config = { ...this.#config, name }
    try {
      writeDurable(join(this.state, CONFIG), encodeConfig(this.#config))
    } catch {
      // It is told again.
    }
  }

  get role(): Role {
    return this.config.role
  }

  /** The one that the newest membership names: after a recovery it is another than at the time of joining. */
  get coordinator(): { key: Hex; address: string; addresses: readonly string[] } {
    const membership = this.membership()
    const { key, address } = this.config.coordinator
    const listed = this.addresses.of(membership.coordinator)
    if (membership.coordinator === key) return { key, address, addresses: [...new Set([address, ...listed])] }
    return { key: membership.coordinator, address: listed[0] ?? address, addresses: listed }
  }

  get hasMembership(): boolean {
    return existsSync(join(this.state, MEMBERSHIP))
  }

  /** With names, where this host may read them. Throws where it is not to be believed. */
  openMembership(bytes: Uint8Array): Membership {
    return openMembership(bytes, this.fleet, this.rootKey, { reader: this.host, secret: this.secret })
  }

  membership(): Membership {
    const path = join(this.state, MEMBERSHIP)
    this.#membership ??= whole(path, this.state, () => this.openMembership(readWhole(path)))
    return this.#membership
  }

  /**
   * Adopts a membership that is newer than the one held; true if it did. Throws where it is not to be believed,
   * MEMBERSHIP_SHRINKS where too many peers are gone. What a coordinator signed itself it does not judge.
   */
  saveMembership(bytes: Uint8Array): boolean {
    const offered = this.openMembership(bytes)
    if (!offered.newerThan(this.membership())) return false
    if (!this.coordinates) requireFollows(this.membership(), offered, this.rootKey)
    writeDurable(join(this.state, MEMBERSHIP), bytes)
    this.#membership = offered
    for (const changed of this.#watchers) changed()
    return true
  }

  /** Has `changed` called for each newer membership, as long as this home is in use. */
  watchMembership(changed: () => void): void {
    this.#watchers.push(changed)
  }

  /** Key of the dedupe domain for new blocks. */
  get domainKey(): SecretHandle | undefined {
    return this.#ownFirst('domain')?.key
  }

  /** What says so. */
  get domainEntry(): KeyEntry | undefined {
    return this.#ownFirst('domain')?.entry
  }

  /** That of new blocks first, then those of older ones, the newest of them first, then those of volumes that have one of their own. */
  get domainKeys(): readonly SecretHandle[] {
    const newest = this.domainKey
    const apart = this.#openOf((entry) => entry.purpose === 'domain' && isPrivate(entry))
    const older = [...this.#open('domain'), ...apart.map(({ key }) => key)]
    return [...(newest ? [newest] : []), ...older].filter(isFirst)
  }

  /** Volumes whose blocks are to be under a key of their own. */
  get privateVolumes(): readonly Hex[] {
    return this.keyStatements().flatMap((bytes) => readEntry(bytes).entry.volume ?? [])
  }

  get manifestKey(): SecretHandle | undefined {
    return this.#open('manifest', this.host)[0]
  }

  get trailerKey(): SecretHandle | undefined {
    return this.#ownFirst('trailer')?.key
  }

  /** Its own, all that were ever sealed; then those of hosts whose place it took. */
  get manifestKeys(): readonly SecretHandle[] {
    return [...this.#open('manifest', this.host), ...this.#open('manifest')].filter(isFirst)
  }

  /** Its own snapshots, or those of a host whose place it took with the words. */
  opensOf(host: Hex): boolean {
    return host === this.host || this.#open('manifest', host).length > 0
  }

  /** Those under which an appliance may have sealed: its own; a coordinator's, and what a recovery found of it besides. */
  trailerKeysOf(appliance: Hex): readonly SecretHandle[] {
    if (appliance === this.host) return this.#open('trailer')
    const derived = this.catalogKey && deriveTrailerKey(this.catalogKey, appliance)
    return [...(derived ? [derived] : []), ...this.#open('trailer', appliance)]
  }

  get catalogKey(): SecretHandle | undefined {
    return this.#ownFirst('catalog')?.key
  }

  /** Keys that this host was given since it joined, and what it sealed of them. Of one name the first stays. Throws FORGED. */
  takeKeys(entries: readonly Uint8Array[]): void {
    const checked = entries.map((bytes) => {
      return { bytes, entry: checkKey(bytes, this, this.membership(), this.host, this.secret) }
    })
    for (const { bytes, entry } of checked) {
      const path = join(this.state, KEYS, keyFile(entry))
      if (!existsSync(path)) writeDurable(path, bytes)
    }
    this.#keys.clear()
  }

  /** Every key statement held here: sealed to this host, and what it sealed to recovery. */
  keyStatements(): Buffer[] {
    const folder = join(this.state, KEYS)
    const names = readdirSync(folder).filter((name) => name.endsWith('.bin'))
    return names.sort().map((name) => {
      const path = join(folder, name)
      const bytes = readWhole(path)
      whole(path, this.state, () => readEntry(bytes))
      return bytes
    })
  }

  /** This host's own entries, as every peer keeps them. */
  ownEntries(): Buffer[] {
    return this.keyStatements().filter((bytes) => readEntry(bytes).entry.owner === this.host)
  }

  /** What this host sealed to itself counts before what another did. */
  #ownFirst(purpose: KeyPurpose): OpenedEntry | undefined {
    const own = this.#entries(purpose, this.host)[0]
    if (own || !this.hasMembership) return own ?? this.#entries(purpose)[0]
    // What it was given of a host whose place it took opens that one's backups, and seals nothing.
    const { line } = this.membership()
    return this.#entries(purpose).find(({ entry }) => !line.isFormer(entry.owner))
  }

  #open(purpose: KeyPurpose, owner?: Hex): readonly SecretHandle[] {
    return this.#entries(purpose, owner).map(({ key }) => key)
  }

  /** Of that owner, or of all, but what one volume alone has. */
  #entries(purpose: KeyPurpose, owner?: Hex): readonly OpenedEntry[] {
    const name = `${purpose} ${owner}`
    const known = this.#keys.get(name)
    if (known) return known
    const keys = this.#openOf(
      (entry) => entry.purpose === purpose && !isPrivate(entry) && (owner ?? entry.owner) === entry.owner,
    )
    this.#keys.set(name, keys)
    return keys
  }

  /** The newest first. Who may deliver a key was checked when it was saved; the membership may have moved on since. */
  #openOf(isMeant: (entry: KeyEntry) => boolean): OpenedEntry[] {
    const as = { fleet: this.fleet, reader: this.host, secret: this.secret, accept: () => true }
    const opened = this.keyStatements().flatMap((bytes) => {
      const { entry } = readEntry(bytes)
      return entry.reader === this.host && isMeant(entry) ? openEntry(bytes, as) : []
    })
    return opened.sort((a, b) => newestFirst(a.entry, b.entry))
  }
}

type OpenedEntry = ReturnType<typeof openEntry>

/** Of keys that are there twice. */
function isFirst(key: SecretHandle, at: number, all: readonly SecretHandle[]): boolean {
  return all.findIndex((other) => other.id().equals(key.id())) === at
}

/** True when the folder belongs to a fleet. Throws where nobody may look. */
export function hasHome(state: string): boolean {
  try {
    statSync(join(state, CONFIG))
    return true
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return false
    throw error
  }
}

/** The root of the fleet whose founding was cut short here, or that of one that would be joined; undefined: of none. */
export function unfinishedRoot(state: string): Hex | undefined {
  if (hasHome(state) || !existsSync(join(state, UNFINISHED))) return undefined
  return readConfig(join(state, UNFINISHED)).rootKey
}

/** Throws NO_FLEET where there is none, CORRUPT where its files are damaged, SECRET_EXPOSED where others may read them. */
export function openHome(state: string): Home {
  if (!hasHome(state)) throw new ImagerError('NO_FLEET', { state })
  keepMemoryPrivate()
  refuseExposedSecrets(state)
  const config = whole(join(state, CONFIG), state, () => readConfig(join(state, CONFIG)))
  const path = join(state, IDENTITY)
  const home = new Home(
    state,
    config,
    whole(path, state, () => Secret.load(path)),
  )
  // A key has no checksum: any 32 bytes are one.
  if (config.role === 'coordinator' && config.coordinator.key !== home.host) {
    throw stateDamaged(path, 'it is not the key of this coordinator', state)
  }
  return home
}

/** What a damaged file of a coordinator means; of another host's it stays what it was. */
function whole<T>(path: string, state: string, read: () => T): T {
  try {
    return read()
  } catch (error) {
    const isDamage = hasCode(error, 'CORRUPT', 'FORGED', 'UNSUPPORTED')
    if (isDamage && existsSync(join(state, CATALOG))) throw stateDamaged(path, reason(error), state)
    throw error
  }
}

/**
 * The identity of a host that is about to found or join a fleet: made once and kept, so that a join that was cut short is
 * repeated by the same host. Throws STATE_EXISTS where the folder already belongs to a fleet.
 */
export function prepareIdentity(state: string): SecretHandle {
  if (hasHome(state)) throw new ImagerError('STATE_EXISTS', { state })
  makeFolder(state)
  keepMemoryPrivate()
  refuseExposedSecrets(state)
  const path = join(state, IDENTITY)
  // Nothing rests on a key that was never whole.
  if (existsSync(path) && statSync(path).size < KEY_BYTES) rmSync(path)
  if (existsSync(path)) return Secret.load(path)
  const secret = Secret.random()
  secret.save(path)
  syncFolder(state)
  return secret
}

export interface NewHome extends HomeConfig {
  state: string
  /** The membership that holds this host. */
  membership: Uint8Array
  /** Key statements: for this host, and those it sealed to recovery. */
  keys: readonly Uint8Array[]
}

/**
 * Completes what `prepareIdentity` began. Every statement is verified before anything is written. `beforeLast` runs when only
 * the last step is left; what it throws leaves the folder in no fleet.
 */
export function createHome(home: NewHome, beforeLast = () => {}): Home {
  const { state, membership, keys, ...config } = home
  if (hasHome(state)) throw new ImagerError('STATE_EXISTS', { state })
  const secret = Secret.load(join(state, IDENTITY))
  const host = toHex(secret.signingKey())
  const members = openMembership(membership, home.fleet, home.rootKey)
  if (members.role(host) !== home.role) {
    throw new ImagerError('FORGED', { what: `The membership does not list this host as ${home.role}` })
  }
  const entries = keys.map((bytes) => ({ bytes, entry: checkKey(bytes, home, members, host, secret) }))
  // What an attempt that was cut short left there belongs to no fleet.
  rmSync(join(state, KEYS), { recursive: true, force: true })
  makeFolder(join(state, KEYS))
  for (const { bytes, entry } of entries) writeDurable(join(state, KEYS, keyFile(entry)), bytes)
  writeDurable(join(state, MEMBERSHIP), membership)
  writeDurable(join(state, UNFINISHED), encodeConfig(config))
  beforeLast()
  renameSync(join(state, UNFINISHED), join(state, CONFIG))
  syncFolder(state)
  return openHome(state)
}

function checkKey(
  bytes: Uint8Array,
  home: Pick<NewHome, 'fleet' | 'rootKey'>,
  members: Membership,
  host: Hex,
  secret: SecretHandle,
): KeyEntry {
  const { entry, signer } = readEntry(bytes)
  const accept = () => mayDeliver(signer, entry, members, home.rootKey)
  if (entry.reader === host) openEntry(bytes, { fleet: home.fleet, reader: host, secret, accept })
  else if (entry.reader !== RECOVERY || !accept()) {
    throw new ImagerError('FORGED', { what: `A ${entry.purpose} key is not for this host` })
  }
  return entry
}

function keyFile(entry: KeyEntry): string {
  const { purpose, key, owner, reader } = entry
  return `${purpose}-${key}-${owner.slice(0, 16)}-${reader.slice(0, 16)}.bin`
}
