/**
 * An appliance's keybag must be with the coordinator before anything is sealed under its keys, or the recovery words alone
 * could not read it. What was delivered is noted in the state folder, so a delivery that failed is made up by the next command.
 */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { toHex } from '../base/ids.js'
import { RemoteCatalog } from '../coordinator/client.js'
import { writeDurable } from '../keys/durable.js'
import type { Home } from '../keys/home.js'
import { hash } from '../native.js'
import type { Requester } from '../wire/client.js'

export function isKeybagDelivered(home: Home): boolean {
  if (home.role !== 'appliance') return true
  const path = notePath(home)
  return existsSync(path) && readFileSync(path, 'utf8') === toHex(hash(home.keybag()))
}

export async function deliverKeybag(home: Home, coordinator: Requester): Promise<void> {
  if (isKeybagDelivered(home)) return
  const keybag = home.keybag()
  await new RemoteCatalog(coordinator).keepKeybag(keybag)
  writeDurable(notePath(home), Buffer.from(toHex(hash(keybag))))
}

function notePath(home: Home): string {
  return join(home.state, 'keybag.delivered')
}
