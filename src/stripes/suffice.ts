/** What can be restored with the hosts that are there, and which others would be enough. Pure. */
import type { Hex } from '../base/ids.js'

export interface Layout {
  readonly stripe: number
  readonly k: number
  readonly shards: readonly { readonly index: number; readonly host: Hex }[]
}

export interface Outlook {
  /** Stripes with fewer than k shards on hosts that are there. */
  readonly lost: readonly number[]
  /** Hosts whose return makes all of them restorable, fewest first found; empty where nothing is lost or nothing helps. */
  readonly suffice: readonly Hex[]
  /** False where stripes have too few shards anywhere. */
  readonly possible: boolean
}

/** Greedy: each time the host whose shards bring the stripes furthest. */
export function findOutlook(layouts: readonly Layout[], missing: ReadonlySet<Hex>): Outlook {
  let open = layouts
    .map((layout) => {
      const absent = layout.shards.filter((shard) => missing.has(shard.host))
      return { stripe: layout.stripe, lacks: layout.k - (layout.shards.length - absent.length), absent }
    })
    .filter((one) => one.lacks > 0)
  const lost = open.map((one) => one.stripe)
  const possible = open.every((one) => one.absent.length >= one.lacks)
  const suffice: Hex[] = []
  while (possible && open.length > 0) {
    const gains = new Map<Hex, number>()
    for (const { absent } of open) {
      for (const { host } of absent) if (!suffice.includes(host)) gains.set(host, (gains.get(host) ?? 0) + 1)
    }
    const best = [...gains].reduce((a, b) => (b[1] > a[1] || (b[1] === a[1] && b[0] < a[0]) ? b : a))[0]
    suffice.push(best)
    open = open.filter(({ lacks, absent }) => absent.filter((shard) => suffice.includes(shard.host)).length < lacks)
  }
  return { lost, suffice, possible }
}
