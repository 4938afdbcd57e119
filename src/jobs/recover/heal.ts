/**
 * A recovery in the state folder of the very coordinator that it replaces, because some file there is damaged. What verifies is
 * carried over: its key, if it is the one that the fleet knows; its name and addresses; a membership newer than the peers'.
 * Everything else is set aside, never deleted.
 */
import { existsSync, readFileSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { ImagerError } from '../../base/errors.js'
import { type Hex, toHex } from '../../base/ids.js'
import { ifSound } from '../../base/sound.js'
import { lockLocalCatalog } from '../../fleet/local-catalog.js'
import { makeFolder, syncFolder } from '../../keys/durable.js'
import { hasHome, prepareIdentity } from '../../keys/home.js'
import { type HomeConfig, readConfig } from '../../keys/home-config.js'
import type { Membership } from '../../keys/membership.js'
import type { Root } from '../../keys/root.js'
import { Secret, type SecretHandle } from '../../native.js'
import { newestFirst } from './members.js'
import { openAs } from './reach.js'

/** Where the catalog is built while the old one lies in its place. */
export const WORKSHOP = 'recovering'
/** How long somebody else may look at a catalog that is damaged. */
const LOCK_MS = 3_000
const LOCK_POLL_MS = 20
const CATALOG = 'catalog'
const IDENTITY = 'identity.key'
const REPLACED = [CATALOG, 'home.json', 'membership.bin', 'keys']

/** What is known of a state folder before anybody was asked. */
export interface Place {
  /** This folder belongs to a fleet already. */
  readonly isHealed: boolean
  readonly config: HomeConfig | undefined
  /** To be believed only once the fleet names it. */
  readonly secret: SecretHandle | undefined
}

/** Throws STATE_EXISTS where the folder is another fleet's, or no coordinator's. */
export function findPlace(state: string, root: Root): Place {
  if (!hasHome(state)) return { isHealed: false, config: undefined, secret: prepareIdentity(state) }
  const config = ifSound(() => readConfig(join(state, 'home.json')))
  const isOurs = config
    ? config.role === 'coordinator' && config.rootKey === root.rootKey
    : existsSync(join(state, CATALOG))
  if (!isOurs) throw new ImagerError('STATE_EXISTS', { state })
  return { isHealed: true, config, secret: ifSound(() => Secret.load(join(state, IDENTITY))) }
}

/** What peers showed and what lies here, newest first. */
export function allVersions(state: string, shown: readonly Membership[], root: Root): readonly Membership[] {
  const path = join(state, 'membership.bin')
  const fleet = shown[0]?.fleet
  if (fleet === undefined || !existsSync(path)) return shown
  const own = ifSound(() => openAs(readFileSync(path), fleet, root))
  return own ? newestFirst([...shown, own]) : shown
}

/** The key that this host goes on with: the one that is here, unless the fleet does not know it as its coordinator's. */
export function keyOf({ isHealed, secret }: Place, membership: Membership): SecretHandle {
  const isKnown = secret && (!isHealed || membership.coordinator === toHex(secret.signingKey()))
  return isKnown ? secret : Secret.random()
}

/** Throws USAGE while a coordinator writes to the catalog that is here: one that found damage only looks at it now and then. */
export async function lockPlace(state: string): Promise<() => void> {
  if (!existsSync(join(state, CATALOG))) return () => {}
  for (let left = LOCK_MS; left > 0; left -= LOCK_POLL_MS) {
    const lock = await lockLocalCatalog({ state })
    if (lock) return () => lock.release()
    await sleep(LOCK_POLL_MS)
  }
  const what = `A coordinator runs on ${state}, and found its catalog whole; to rebuild it all the same, end it first`
  throw new ImagerError('USAGE', { what, verb: 'recover' })
}

/** Puts the new catalog in the place of the old one. Gives the folder with what was there; undefined where nothing was. */
export function exchange(state: string, identity: SecretHandle, now: number): string | undefined {
  const replaced = [...REPLACED, ...(isKey(state, toHex(identity.signingKey())) ? [] : [IDENTITY])]
  const old = replaced.filter((name) => existsSync(join(state, name)))
  const aside = join(state, `damaged-${new Date(now).toISOString().replace(/[:.]/g, '-')}`)
  if (old.length > 0) makeFolder(aside)
  for (const name of old) renameSync(join(state, name), join(aside, name))
  renameSync(join(state, WORKSHOP, CATALOG), join(state, CATALOG))
  if (!existsSync(join(state, IDENTITY))) identity.save(join(state, IDENTITY))
  syncFolder(state)
  return old.length > 0 ? aside : undefined
}

function isKey(state: string, host: Hex): boolean {
  return ifSound(() => toHex(Secret.load(join(state, IDENTITY)).signingKey())) === host
}
