/**
 * The coordinator's daemon: the catalog served to the fleet, and a courier that brings the membership and every keybag to
 * every peer, so that recovery needs nothing but peers and the words.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { type Clock, systemClock } from '../base/clock.js'
import type { Hex } from '../base/ids.js'
import type { Report } from '../base/report.js'
import { serveCoordinator } from '../coordinator/server.js'
import { Traffic } from '../coordinator/traffic.js'
import { advertised } from '../fleet/address.js'
import { openLocalCatalog } from '../fleet/local-catalog.js'
import type { Home } from '../keys/home.js'
import { openKeybag } from '../keys/keybag.js'
import type { SegmentOptions } from '../signatures/segments.js'
import { Courier } from './courier.js'
import type { Running } from './running.js'

const KEYS_MS = 5_000
const POLL_MS = 100

export interface CoordinatorOptions extends SegmentOptions {
  listen: string
  clock?: Clock
  report?: Report
}

export async function startCoordinator(
  home: Home,
  options: CoordinatorOptions,
): Promise<Running & { traffic: Traffic }> {
  const { listen, clock = systemClock, report = () => {} } = options
  const catalog = await openLocalCatalog(home, clock, options)
  const keybag = home.keybag()
  const { sequence } = openKeybag(keybag, home.fleet)
  catalog.registry.keepDocument('keybag', home.host, sequence, keybag)
  const courier = new Courier({
    home,
    clock,
    lastSeen: () => new Map(catalog.members.rows().map((row) => [row.host, row.lastSeen])),
    keybags: () => catalog.registry.documents('keybag'),
    deliveries: catalog.registry.deliveries,
    onRefusal(peer, kind, name, why) {
      const whose = kind === 'keybag' ? `the key bag of ${catalog.members.name(name)}` : `the ${kind}`
      catalog.registry.record('refusal', peer.host, `${peer.name} refused ${whose}: ${why}`)
    },
    report,
  })
  /** Until enough peers hold its keys, for as long as a person does not notice: it may have joined a moment ago. */
  const bringKeys = async (appliance: Hex) => {
    const isHeld = () => catalog.registry.keybagHeld(appliance, catalog.members.rows())
    for (let left = KEYS_MS; left > 0 && !isHeld(); left -= POLL_MS) {
      courier.wake()
      await sleep(POLL_MS)
    }
  }
  try {
    const onDocument = () => courier.wake()
    const traffic = new Traffic()
    const server = await serveCoordinator({
      ...{ home, catalog, clock, listen, onDocument, ...publicAddress(home, listen) },
      onFinish: (appliance) => bringKeys(appliance),
      onAnswer: (...answer) => traffic.add(...answer),
    })
    courier.start()
    return {
      traffic,
      address: server.address,
      async close() {
        await courier.close()
        await server.close()
        catalog.close()
      },
    }
  } catch (error) {
    catalog.close()
    throw error
  }
}

/** As given to `init`, unless the daemon is told to listen elsewhere. A free port is known only once it is taken. */
function publicAddress(home: Home, listen: string): { publicAddress?: string } {
  if (listen.endsWith(':0')) return {}
  return { publicAddress: listen === home.config.listen ? home.coordinator.address : advertised(listen) }
}
