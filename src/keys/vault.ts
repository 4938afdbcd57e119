/** The keys with which an appliance seals its snapshots, and those with which one is opened: it says itself which they are. */
import { type Clock, systemClock } from '../base/clock.js'
import { hasCode, ImagerError } from '../base/errors.js'
import { fromHex, type Hex, toHex } from '../base/ids.js'
import { type PageRef, type SecretHandle, Vault, type VaultHandle } from '../native.js'
import type { RunsHandle } from '../stripes/names.js'
import type { Home } from './home.js'
import { findOpenedKeys } from './opened-keys.js'

/**
 * Under which this host seals. Throws NOT_ALLOWED where it holds no keys for that, UNSUPPORTED where the volume has a dedupe domain
 * of its own: what is sealed here every appliance of the fleet could test for.
 */
export function openVault(home: Home, volume: Hex): VaultHandle {
  const { domainKey, domainKeys, manifestKey, trailerKey } = home
  if (!domainKey || !manifestKey || !trailerKey) throw withoutKeys(home)
  if (home.privateVolumes.includes(volume)) {
    throw new ImagerError('UNSUPPORTED', { what: `a volume (${volume}) whose blocks are under a key of its own` })
  }
  return new Vault([...domainKeys], manifestKey, trailerKey, fleetOf(home))
}

/** The dedupe domains in one of which each block of a snapshot lies that this host takes now: that of new blocks first. */
export function domainsOf(home: Home): Hex[] {
  return home.domainKeys.map((key) => toHex(key.id()))
}

/** What opens the snapshots of one appliance, wherever it comes from: `keysHeld`, or the recovery words. */
export interface ReaderKeys {
  readonly fleet: Hex
  /** All that may be the right ones. */
  readonly manifests: readonly SecretHandle[]
  readonly domains: readonly SecretHandle[]
  /** Its heads open with one of these. */
  readonly trailers: readonly SecretHandle[]
  /** What is said where a snapshot needs a key that is not among them. */
  lacking(): ImagerError
}

/** Whose it is now; who took it, where that was another, whose place that one has. */
export type Unlock = (appliance: Hex, takenBy?: Hex) => Promise<ReaderKeys>

/**
 * Of its own snapshots a host has the keys, if it is an appliance. Those of others it opens where it recovered the fleet, as long
 * as it keeps what it opened then. Throws NOT_ALLOWED where this host has no keys of its own, KEYS_LOCKED where it has none of others.
 */
export function keysHeld(home: Home, appliance: Hex, clock: Clock = systemClock, takenBy = appliance): ReaderKeys {
  if (appliance !== home.host) return openedKeys(home, appliance, clock.now())
  if (home.opensOf(takenBy)) return ownKeys(home)
  const why = `, and ${home.name} took that place by the word of an admin, who has no keys`
  throw new ImagerError('KEYS_LOCKED', { appliance: `its former server ${takenBy.slice(0, 8)}`, why, todo: WITH_WORDS })
}

const WITH_WORDS = 'imager restore SNAPSHOT --to TARGET --words-file words.txt'

function ownKeys(home: Home): ReaderKeys {
  const { fleet, manifestKeys: manifests, domainKeys: domains } = home
  const trailers = home.trailerKeysOf(home.host)
  const lacking = () => withoutKeys(home)
  if (manifests.length === 0 || domains.length === 0 || trailers.length === 0) throw lacking()
  return { fleet, manifests, domains, trailers, lacking }
}

function openedKeys(home: Home, appliance: Hex, now: number): ReaderKeys {
  const opened = findOpenedKeys(home, now)
  const lacking = () =>
    new ImagerError('KEYS_LOCKED', {
      appliance: nameOf(home, appliance),
      why: 'why' in opened ? opened.why : '',
      todo: WITH_WORDS,
    })
  const line = home.membership().line.of(appliance)
  const trailers = line.flatMap((host) => home.trailerKeysOf(host))
  if ('why' in opened || trailers.length === 0) throw lacking()
  const manifests = line.flatMap((host) => opened.keysOf(host, 'manifest'))
  const domains = [...home.domainKeys, ...line.flatMap((host) => opened.keysOf(host, 'domain'))]
  if (manifests.length === 0 || domains.length === 0) throw lacking()
  return { fleet: home.fleet, manifests, domains, trailers, lacking }
}

/** The root of a snapshot, as its head has it. */
export interface SealedRoot {
  readonly key: Uint8Array
  readonly birth: bigint
  /** What the run of that birth is called. */
  readonly names: RunsHandle
}

export interface Opening {
  readonly root: PageRef
  /** Opens pages. */
  readonly pages: VaultHandle
  /** Opens blocks too, those of the dedupe domains of these ids. Throws what `lacking` says where a key is not there. */
  vault(domains: readonly Hex[]): VaultHandle
}

/** Of several manifest keys the one counts that opens this root. Throws FORGED where none does. */
export function openRoot(keys: ReaderKeys, sealed: SealedRoot): Opening {
  const { manifests, domains } = keys
  const [[anyDomain], [trailer]] = [domains, keys.trailers]
  if (!anyDomain || !trailer || manifests.length === 0) throw keys.lacking()
  const make = (domains: SecretHandle[], manifest: SecretHandle) => new Vault(domains, manifest, trailer, fleetOf(keys))
  const {
    at,
    root,
    vault: pages,
  } = firstThatOpens(
    manifests.map((manifest) => make([anyDomain], manifest)),
    sealed,
  )
  return {
    root,
    pages,
    vault(ids) {
      const found = ids.map((id) => domains.find((one) => toHex(one.id()) === id))
      const held = found.filter((key) => key !== undefined)
      if (held.length < ids.length) throw keys.lacking()
      return make(held, manifests[at] as SecretHandle)
    },
  }
}

/** Throws FORGED. */
export function firstThatOpens(vaults: readonly VaultHandle[], { key, birth, names }: SealedRoot) {
  for (const [at, vault] of vaults.entries()) {
    try {
      return { at, vault, root: vault.openRoot(key, birth, names) }
    } catch (error) {
      if (!hasCode(error, 'FORGED') || at === vaults.length - 1) throw error
    }
  }
  throw new ImagerError('FORGED', { what: 'There is no key for the root of this snapshot' })
}

/** As people call it; a host that left the fleet by the beginning of its key. */
export function nameOf(home: Home, host: Hex): string {
  return home.membership().find(host)?.name ?? host.slice(0, 8)
}

function fleetOf({ fleet }: { fleet: Hex }): Buffer {
  return fromHex(fleet, 16) as Buffer
}

function withoutKeys(home: Home): ImagerError {
  return new ImagerError('NOT_ALLOWED', { what: `${home.name} holds no keys for snapshots`, role: 'appliance' })
}
