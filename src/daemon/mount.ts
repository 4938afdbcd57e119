/** The process that serves one mount: opens the snapshot, mounts it, stays until it is unmounted or asked to end. */

import { setMaxListeners } from 'node:events'
import type { Fleet } from '../fleet/open.js'
import { openReader } from '../jobs/reader.js'
import { mountSnapshot } from '../mount/mount.js'
import { decompressUnit } from '../native.js'
import { untilAborted } from './running.js'

export interface MountOptions {
  readonly snapshot: string
  readonly mountpoint: string
  readonly state: string
  /** Called once, when the mount can be used. */
  readonly ready: (mountpoint: string) => void
  readonly signal: AbortSignal
}

/** Gives how many damaged shards were met and rebuilt. */
export async function serveMount(options: MountOptions, fleet: Fleet): Promise<number> {
  const { snapshot, mountpoint, state, ready, signal } = options
  // When nobody reads any more, hosts that hang must not keep the process.
  const over = new AbortController()
  setMaxListeners(0, over.signal)
  const interrupt = () => over.abort(signal.reason)
  signal.addEventListener('abort', interrupt, { once: true })
  const { row, reader, damaged } = await openReader(snapshot, fleet, over.signal)
  signal.removeEventListener('abort', interrupt)
  const parts = { name: row.id.slice(0, 8), decompress: decompressUnit, stateFolder: state, clock: fleet.clock }
  const mount = await mountSnapshot(reader, mountpoint, parts)
  try {
    ready(mount.mountpoint)
    await Promise.race([mount.unmounted, untilAborted(signal)])
  } finally {
    await mount.close()
    over.abort()
  }
  return damaged.size
}
