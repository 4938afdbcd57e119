/** A snapshot of this fleet, opened to be asked: for `ls`, the mount and a restore of files. */
import type { SnapshotRow } from '../catalog/types.js'
import type { Unlock } from '../keys/vault.js'
import { type OpenSnapshot, openFound, type RetrieveParts } from '../retrieve/open.js'
import type { SnapshotReader } from '../retrieve/reader.js'
import { StoredSnapshot } from '../retrieve/snapshot.js'

export interface Opened {
  readonly row: SnapshotRow
  readonly reader: SnapshotReader
  /** Shards that were met damaged and rebuilt from others, so far. */
  readonly damaged: OpenSnapshot['packs']['damaged']
  readonly packs: OpenSnapshot['packs']
}

export interface ReaderParts extends RetrieveParts {
  /** The keys to an appliance's snapshots. Usually `unlocking`. */
  readonly unlock: Unlock
}

/** Throws NO_SUCH_SNAPSHOT, FORGED, NOT_RESTORABLE, and what `unlock` throws. */
export async function openReader(name: string, parts: ReaderParts, signal?: AbortSignal): Promise<Opened> {
  const found = await parts.catalog.snapshot(name)
  const keys = await parts.unlock(found.appliance, found.takenBy?.host)
  const snapshot = await openFound(found, keys, parts, signal)
  return {
    row: snapshot.row,
    reader: new StoredSnapshot(snapshot),
    damaged: snapshot.packs.damaged,
    packs: snapshot.packs,
  }
}
