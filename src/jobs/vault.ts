/** The keys with which this host seals and opens its snapshots. */
import { ImagerError } from '../base/errors.js'
import { fromHex } from '../base/ids.js'
import type { Home } from '../keys/home.js'
import { Vault, type VaultHandle } from '../native.js'

/** Throws NOT_ALLOWED on a host that is no appliance. */
export function openVault({ domainKey, manifestKey, trailerKey, fleet, name }: Home): VaultHandle {
  const id = fromHex(fleet, 16)
  if (!domainKey || !manifestKey || !trailerKey || !id) {
    throw new ImagerError('NOT_ALLOWED', { what: `${name} holds no keys for snapshots`, role: 'appliance' })
  }
  return new Vault(domainKey, manifestKey, trailerKey, id)
}
