/** A snapshot of this fleet, opened to be asked: for `ls`, the mount and a restore of files. */
import type { SnapshotRow } from '../catalog/types.js'
import { openVault } from '../keys/vault.js'
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

/** Throws NO_SUCH_SNAPSHOT, FORGED, NOT_RESTORABLE, and NOT_ALLOWED on a host without the keys. */
export async function openReader(
  name: string,
  parts: Omit<RetrieveParts, 'vault'>,
  signal?: AbortSignal,
): Promise<Opened> {
  const found = await parts.catalog.snapshot(name)
  const vault = openVault(parts.home, found.appliance)
  const snapshot = await openFound(found, { ...parts, vault }, signal)
  return {
    row: snapshot.row,
    reader: new StoredSnapshot(snapshot, vault),
    damaged: snapshot.packs.damaged,
    packs: snapshot.packs,
  }
}
