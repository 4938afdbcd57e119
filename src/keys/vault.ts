/** The keys with which an appliance seals its snapshots, and those with which one is opened: it says itself which they are. */
import { hasCode, ImagerError } from '../base/errors.js'
import { fromHex, type Hex } from '../base/ids.js'
import { type PageRef, type SecretHandle, Vault, type VaultHandle } from '../native.js'
import type { RunsHandle } from '../stripes/names.js'
import type { Home } from './home.js'

/** Under which this host seals. Throws NOT_ALLOWED where it holds no keys for that. */
export function openVault(home: Home): VaultHandle {
  const { domainKey, manifestKey, trailerKey } = home
  if (!domainKey || !manifestKey || !trailerKey) throw withoutKeys(home, home.host)
  return new Vault(domainKey, manifestKey, trailerKey, fleetOf(home))
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
  /** Opens blocks too, those of the dedupe domain of this id. Throws NOT_ALLOWED where this host does not hold its key. */
  vault(domain: Hex): VaultHandle
}

/**
 * For a snapshot of `appliance`, which a host that recovered the fleet may open too. Of several manifest keys the one counts
 * that opens this root. Throws NOT_ALLOWED where this host holds none, FORGED where none opens it.
 */
export function openRoot(home: Home, appliance: Hex, sealed: SealedRoot): Opening {
  const [domainKey, trailerKey] = [home.domainKey, home.trailerKeyOf(appliance)]
  const manifestKeys = home.manifestKeysOf(appliance)
  if (!domainKey || !trailerKey || manifestKeys.length === 0) throw withoutKeys(home, appliance)
  const make = (domain: SecretHandle, manifest: SecretHandle) => new Vault(domain, manifest, trailerKey, fleetOf(home))
  const {
    at,
    root,
    vault: pages,
  } = firstThatOpens(
    manifestKeys.map((key) => make(domainKey, key)),
    sealed,
  )
  return {
    root,
    pages,
    vault(domain) {
      const key = home.domainKeyWith(domain)
      if (!key) throw withoutKeys(home, appliance)
      return make(key, manifestKeys[at] as SecretHandle)
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

function fleetOf({ fleet }: Home): Buffer {
  return fromHex(fleet, 16) as Buffer
}

function withoutKeys(home: Home, appliance: Hex): ImagerError {
  const name = home.membership().find(appliance)?.name ?? appliance.slice(0, 8)
  const whose = appliance === home.host ? 'snapshots' : `the snapshots of ${name}`
  return new ImagerError('NOT_ALLOWED', { what: `${home.name} holds no keys for ${whose}`, role: 'appliance' })
}
