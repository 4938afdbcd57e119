/** The catalog in the coordinator's own state folder, for its daemon and for commands on that host. */
import type { Clock } from '../base/clock.js'
import { ImagerError } from '../base/errors.js'
import type { LocalCatalog } from '../catalog/local.js'
import type { Home } from '../keys/home.js'
import type { SegmentOptions } from '../signatures/segments.js'

/** Throws NOT_ALLOWED on a host that is not its fleet's coordinator. No other loads the database. */
export async function openLocalCatalog(home: Home, clock: Clock, options?: SegmentOptions): Promise<LocalCatalog> {
  if (home.coordinates) {
    const { LocalCatalog } = await import('../catalog/local.js')
    return LocalCatalog.openFor(home.state, clock, options)
  }
  const what = `${home.name} is not the coordinator of its fleet`
  throw new ImagerError('NOT_ALLOWED', { what, role: 'coordinator' })
}
