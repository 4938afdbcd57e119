/** Shards that a restore met missing, short or changed, and did without: its report names them. */
import type { Hex } from '../../base/ids.js'
import type { OpenSnapshot, RetrieveParts } from '../../retrieve/open.js'
import type { ShardFault } from '../../retrieve/packs.js'
import { describeStripe } from '../../stripes/names.js'

export interface DamagedShard {
  readonly host: string
  readonly shard: Hex
  /** As `describeStripe` writes it. */
  readonly stripe: string
  readonly what: ShardFault
}

export function damagedShards(
  found: OpenSnapshot['packs']['damaged'],
  { home, catalog }: Pick<RetrieveParts, 'home' | 'catalog'>,
): DamagedShard[] {
  const name = (host: Hex) => home.membership().find(host)?.name ?? host.slice(0, 8)
  return [...found].map(([shard, { host, stripe, what }]) => {
    return { host: name(host), shard, stripe: describeStripe(catalog.names, stripe), what }
  })
}
