/** The catalog in the coordinator's own state folder, for its daemon and for commands on that host. */
import { existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { Clock } from '../base/clock.js'
import { ImagerError } from '../base/errors.js'
import type { LocalCatalog } from '../catalog/local.js'
import type { OpenOptions } from '../catalog/upkeep.js'
import { stateDamaged } from '../keys/damage.js'
import type { Home } from '../keys/home.js'

/** Throws NOT_ALLOWED on a host that is not its fleet's coordinator. No other loads the database. */
export async function openLocalCatalog(home: Home, clock: Clock, options?: OpenOptions): Promise<LocalCatalog> {
  if (home.coordinates) {
    requireCatalog(home)
    const [{ LocalCatalog }, { partsOf }] = await Promise.all([
      import('../catalog/local.js'),
      import('../catalog/parts.js'),
    ])
    // With this very home: a term that begins while it is open is that of its grants.
    return LocalCatalog.open(home.state, partsOf(home, clock), options)
  }
  const what = `${home.name} is not the coordinator of its fleet`
  throw new ImagerError('NOT_ALLOWED', { what, role: 'coordinator' })
}

/** To write to it, or to make it anew: undefined while another process does. */
export async function lockLocalCatalog({ state }: Pick<Home, 'state'>): Promise<{ release(): void } | undefined> {
  const { lockCatalog } = await import('../catalog/schema.js')
  return lockCatalog(join(state, 'catalog'))
}

/** A fleet into which somebody was let had one: it must not begin again from nothing. */
function requireCatalog(home: Home): void {
  const { state } = home
  const path = join(state, 'catalog', 'catalog.db')
  if (existsSync(path) && statSync(path).size > 0) return
  const { term, sequence, hosts } = home.membership()
  if (term === 1 && sequence === 1) return
  const peer = hosts.flatMap(({ host, role }) => (role === 'peer' ? home.addresses.of(host) : []))[0]
  throw stateDamaged(path, existsSync(path) ? 'it is empty' : 'it is gone', state, peer)
}
