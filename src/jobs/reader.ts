/** A snapshot of this fleet, opened to be asked: for `ls`, the mount and a restore of files. */
import type { SnapshotRow } from '../catalog/types.js'
import { type OpenSnapshot, openSnapshot, type RetrieveParts } from '../retrieve/open.js'
import type { SnapshotReader } from '../retrieve/reader.js'
import { StoredSnapshot } from '../retrieve/snapshot.js'

export interface Opened {
  readonly row: SnapshotRow
  readonly reader: SnapshotReader
  /** Shards that were met damaged and rebuilt from others, so far. */
  readonly damaged: OpenSnapshot['packs']['damaged']
  readonly packs: OpenSnapshot['packs']
}

/** Throws NO_SUCH_SNAPSHOT, FORGED, NOT_RESTORABLE, and NOT_ALLOWED on a host without the keys. */
export async function openReader(name: string, parts: RetrieveParts, signal?: AbortSignal): Promise<Opened> {
  const snapshot = await openSnapshot(name, parts, signal)
  return {
    row: snapshot.row,
    reader: new StoredSnapshot(snapshot),
    damaged: snapshot.packs.damaged,
    packs: snapshot.packs,
  }
}
