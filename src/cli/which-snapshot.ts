/**
 * The snapshot that a command was told: looked up, and said where `latest` had to choose between several disks, because the
 * wrong one may be seen only hours later, when it does not boot.
 */
import { formatTime } from '../base/units.js'
import type { Among, Catalog, FoundSnapshot, Named } from '../catalog/types.js'
import type { Output } from './output.js'

export interface SnapshotArguments extends Among {
  readonly snapshot: string
}

/** Throws NO_SUCH_SNAPSHOT. */
export async function findSnapshot(
  { snapshot, source, host }: SnapshotArguments,
  catalog: Catalog,
  output: Output,
): Promise<FoundSnapshot> {
  const found = await catalog.snapshot(snapshot, { source, host })
  output.aside(chosenNote(found))
  return found
}

/** Empty where there was nothing to choose. */
export function chosenNote({ others, ...taken }: Named & { others: readonly Named[] }): string {
  if (others.length === 0) return ''
  return `latest is ${describe(taken)}; of others: ${others.map(describe).join(', ')}. --source and --host choose.`
}

/** `ab12cd34 of /dev/sdb on srv, 2026-11-21 09:05 +02:00` */
function describe({ id, source, applianceName, time, arrived }: Named): string {
  return `${id.slice(0, 8)} of ${source} on ${applianceName}, ${formatTime(arrived || time)}`
}
