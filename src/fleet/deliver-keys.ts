/**
 * An appliance's keys must be with the coordinator before anything is sealed under them, or the recovery words alone could not
 * read it. What was delivered is noted in the state folder, so a delivery that failed is made up by the next command.
 */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Hex, toHex } from '../base/ids.js'
import { RemoteCatalog } from '../coordinator/client.js'
import { writeDurable } from '../keys/durable.js'
import type { Home } from '../keys/home.js'
import { hash } from '../native.js'
import type { Requester } from '../wire/client.js'

export function areKeysDelivered(home: Home): boolean {
  if (home.role !== 'appliance') return true
  const path = notePath(home)
  return existsSync(path) && readFileSync(path, 'utf8') === digestOf(home.ownEntries())
}

export async function deliverKeys(home: Home, coordinator: Requester): Promise<void> {
  if (areKeysDelivered(home)) return
  const entries = home.ownEntries()
  await new RemoteCatalog(coordinator).keepKeys(entries)
  writeDurable(notePath(home), Buffer.from(digestOf(entries)))
}

function digestOf(entries: readonly Buffer[]): Hex {
  return toHex(hash(Buffer.concat(entries)))
}

function notePath(home: Home): string {
  return join(home.state, 'keys.delivered')
}
