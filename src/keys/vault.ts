/** The keys with which an appliance seals its snapshots, and with which they are opened. */
import { ImagerError } from '../base/errors.js'
import { fromHex, type Hex } from '../base/ids.js'
import { Vault, type VaultHandle } from '../native.js'
import type { Home } from './home.js'

/**
 * `appliance`: whose snapshots; the host that recovered the fleet may open everybody's. Throws NOT_ALLOWED where this host
 * holds no keys for them.
 */
export function openVault(home: Home, appliance: Hex = home.host): VaultHandle {
  const domainKey = home.domainKey
  const manifestKey = home.manifestKeyOf(appliance)
  const trailerKey = home.trailerKeyOf(appliance)
  const id = fromHex(home.fleet, 16)
  if (!domainKey || !manifestKey || !trailerKey || !id) {
    const whose = appliance === home.host ? 'snapshots' : `the snapshots of ${nameOf(home, appliance)}`
    throw new ImagerError('NOT_ALLOWED', { what: `${home.name} holds no keys for ${whose}`, role: 'appliance' })
  }
  return new Vault(domainKey, manifestKey, trailerKey, id)
}

function nameOf(home: Home, host: Hex): string {
  return home.membership().find(host)?.name ?? host.slice(0, 8)
}
