/** What a reader met damaged, told to the coordinator: so that status, lookups and the next run know of it. */
import { hasCode } from '../base/errors.js'
import type { Catalog } from '../catalog/types.js'
import type { PackReader } from './packs.js'

/** A coordinator that cannot be told now costs nobody his restore: `check` finds it again. */
export async function tellDamage(damaged: PackReader['damaged'], catalog: Catalog): Promise<void> {
  if (damaged.size === 0) return
  const findings = [...damaged].map(([shard, { stripe, what }]) => ({ stripe, shard, fact: what }))
  try {
    await catalog.learn(findings, [])
  } catch (error) {
    if (!hasCode(error, 'COORDINATOR_UNREACHABLE', 'NOT_ALLOWED', 'PROTOCOL')) throw error
  }
}
