/** Shards that a restore met missing, short or changed, and did without: its report names them. */
import type { Hex } from '../../base/ids.js'
import type { Home } from '../../keys/home.js'
import type { OpenSnapshot } from '../../retrieve/open.js'
import type { ShardFault } from '../../retrieve/packs.js'

export interface DamagedShard {
  readonly host: string
  readonly shard: Hex
  readonly stripe: number
  readonly what: ShardFault
}

export function damagedShards(found: OpenSnapshot['packs']['damaged'], home: Home): DamagedShard[] {
  const name = (host: Hex) => home.membership().find(host)?.name ?? host.slice(0, 8)
  return [...found].map(([shard, { host, stripe, what }]) => ({ host: name(host), shard, stripe, what }))
}
