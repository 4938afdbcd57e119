/** Whose snapshots and places are whose, where servers took the places of others. Pure. */
import type { Hex } from '../base/ids.js'
import type { Line } from '../keys/replacement.js'
import { askedFor } from './choose.js'
import type { HostRow } from './types.js'

/** What ids begin with, and whose snapshots are meant; undefined where nothing can have that name, or it is not his who asks. */
export function meant(name: string, line: Line, scope: Hex | undefined): { prefix: string; owner?: Hex } | undefined {
  const asked = askedFor(name)
  if (!asked) return undefined
  const said = asked.appliance === undefined ? undefined : line.heirOf(asked.appliance)
  if (scope !== undefined && said !== undefined && said !== scope) return undefined
  const owner = scope ?? said
  return { prefix: asked.prefix, ...(owner !== undefined && { owner }) }
}

/** With those whose places they took. */
export function withPlaces(rows: readonly HostRow[], line: Line, nameOf: (host: Hex) => string): HostRow[] {
  return rows.map((row) => {
    const former = line.of(row.host).filter((host) => host !== row.host)
    if (former.length === 0) return row
    return { ...row, tookPlaceOf: former.map((host) => ({ host, name: nameOf(host) })) }
  })
}
