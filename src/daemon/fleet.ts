/** The fleet as a command on this host may use it: the catalog, the peers, invitations. */

import { type Clock, systemClock } from '../base/clock.js'
import { hasCode } from '../base/errors.js'
import type { Catalog } from '../catalog/types.js'
import { RemoteCatalog } from '../coordinator/client.js'
import type { Home } from '../keys/home.js'
import type { JoinRole } from '../keys/token.js'
import { Peers } from '../peers/pool.js'
import { deliverKeybag, isKeybagDelivered } from './keybag.js'
import { CoordinatorLink } from './link.js'
import { isCoordinator, openLocalCatalog } from './local.js'

export interface Fleet {
  readonly home: Home
  readonly clock: Clock
  readonly catalog: Catalog
  readonly peers: Peers
  /** Asks the coordinator for a token; its daemon must run. */
  invite(role: JoinRole): Promise<{ token: string; expires: number }>
  close(): Promise<void>
}

/** On the coordinator's own host the catalog is opened where it lies, so that it can be read without a daemon. */
export async function openFleet(home: Home, clock: Clock = systemClock): Promise<Fleet> {
  const { addresses, key } = home.coordinator
  const link = new CoordinatorLink(home.tls, addresses, key)
  const remote = new RemoteCatalog(link)
  const local = isCoordinator(home) ? openLocalCatalog(home, clock) : undefined
  try {
    if (!local) await learnMembers(home, remote)
    if (!isKeybagDelivered(home)) await deliverKeybag(home, link)
  } catch (error) {
    link.close()
    throw error
  }
  const peers = new Peers(home.tls, () => home.membership().hosts, clock)
  return {
    home,
    clock,
    catalog: local ?? remote,
    peers,
    invite: (role) => remote.invite(role),
    async close() {
      local?.close()
      peers.close()
      link.close()
    },
  }
}

/** Who joined or moved since this host was last told. Without the coordinator, those it knows must do. */
async function learnMembers(home: Home, remote: RemoteCatalog): Promise<void> {
  try {
    home.saveMembership(await remote.membership())
  } catch (error) {
    if (!hasCode(error, 'COORDINATOR_UNREACHABLE')) throw error
  }
}
