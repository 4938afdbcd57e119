/** What of the fleet the snapshots' states depend on, as it is now. */
import type { Hex } from '../base/ids.js'
import type { ChainStore } from './chain.js'
import type { HostCatalogue } from './hosts.js'
import type { CatalogParts } from './parts.js'
import type { Policies } from './policies.js'
import type { Registry } from './registry.js'
import type { Present } from './snapshots.js'

export interface PresentParts {
  readonly parts: CatalogParts
  readonly members: HostCatalogue
  readonly registry: Registry
  readonly chain: ChainStore
  readonly decisions: Policies
}

export function presentOf({ parts, members, registry, chain, decisions }: PresentParts): Present {
  const hosts = members.rows()
  const { needsKeys, isWatched, clock } = parts
  const cosigned = isWatched() ? (chain.cosigned()?.n ?? 0) : undefined
  const held = new Map<Hex, boolean>()
  const keysHeld = (appliance: Hex) => {
    const isHeld = held.get(appliance) ?? registry.keysHeld(appliance, hosts)
    held.set(appliance, isHeld)
    return isHeld
  }
  return {
    now: clock.now(),
    line: parts.line(),
    members,
    ordered: parts.ordered?.(registry),
    away: members.awayNumbers(),
    domains: members.domainNumbers(),
    tolerate: (appliance, volume) => decisions.of({ appliance, volume }).tolerate,
    keysHeld: (appliance) => !needsKeys || keysHeld(appliance),
    cosigned: (appliance, snapshot) => cosigned === undefined || chain.isListed({ appliance, snapshot }, cosigned),
  }
}
