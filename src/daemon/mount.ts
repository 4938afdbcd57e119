/** The process that serves one mount: opens the snapshot, mounts it, stays until it is unmounted or asked to end. */

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
  const { row, reader, damaged } = await openReader(snapshot, fleet, signal)
  const parts = { name: row.id.slice(0, 8), decompress: decompressUnit, stateFolder: state, clock: fleet.clock }
  const mount = await mountSnapshot(reader, mountpoint, parts)
  try {
    ready(mount.mountpoint)
    await Promise.race([mount.unmounted, untilAborted(signal)])
  } finally {
    await mount.close()
  }
  return damaged.size
}
