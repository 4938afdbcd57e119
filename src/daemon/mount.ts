/** The process that serves one mount: opens the snapshot, mounts it, stays until it is unmounted or asked to end. */

import { setMaxListeners } from 'node:events'
import type { Fleet } from '../fleet/open.js'
import { openReader } from '../jobs/reader.js'
import type { Unlock } from '../keys/vault.js'
import { mountSnapshot } from '../mount/mount.js'
import { decompressUnit } from '../native.js'
import { tellDamage } from '../retrieve/tell-damage.js'
import { Loop, untilAborted } from './running.js'

/** A mount may stay for weeks: the coordinator hears of damage in between. */
const TELL_MS = 60_000

export interface MountOptions {
  readonly snapshot: string
  readonly mountpoint: string
  readonly state: string
  /** Asked once: what is mounted stays readable, whatever becomes of the keys. */
  readonly unlock: Unlock
  /** Called once, when the mount can be used. */
  readonly ready: (mountpoint: string) => void
  readonly signal: AbortSignal
}

/** Gives how many damaged shards were met and rebuilt. */
export async function serveMount(options: MountOptions, fleet: Fleet): Promise<number> {
  const { snapshot, mountpoint, state, unlock, ready, signal } = options
  // When nobody reads any more, hosts that hang must not keep the process.
  const over = new AbortController()
  setMaxListeners(0, over.signal)
  const interrupt = () => over.abort(signal.reason)
  signal.addEventListener('abort', interrupt, { once: true })
  const { row, reader, damaged } = await openReader(snapshot, { ...fleet, unlock }, over.signal)
  signal.removeEventListener('abort', interrupt)
  const parts = { name: row.id.slice(0, 8), decompress: decompressUnit, stateFolder: state, clock: fleet.clock }
  const mount = await mountSnapshot(reader, mountpoint, parts)
  let told = 0
  const tell = async () => {
    if (damaged.size === told) return
    told = damaged.size
    await tellDamage(damaged, fleet.catalog)
  }
  const telling = new Loop(TELL_MS, tell, () => {})
  try {
    ready(mount.mountpoint)
    await Promise.race([mount.unmounted, untilAborted(signal)])
  } finally {
    await mount.close()
    over.abort()
    await telling.close()
    await tell()
  }
  return damaged.size
}
