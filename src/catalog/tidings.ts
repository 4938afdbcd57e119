/** What people read of findings: a line for each host and kind of damage, however many shards it is. Pure. */
import type { Hex } from '../base/ids.js'
import { formatCount } from '../base/units.js'
import type { EventKind } from './registry.js'
import type { Finding } from './types.js'

/** A shard that counted and does not any more, or the other way round. */
export interface Turned {
  readonly host: Hex
  readonly to: 'bad' | 'good'
  readonly fact: Finding['fact']
}

/** What `Registry.record` takes. */
export type Tiding = [kind: EventKind, host: Hex, sentence: string]

/** `by`: who found it; empty: a command on the coordinator's host. */
export function tidingsOf(turned: readonly Turned[], nameOf: (host: Hex) => string, by: Hex): Tiding[] {
  const counts = new Map<string, { one: Turned; count: number }>()
  for (const one of turned) {
    const key = `${one.host} ${one.to === 'good' ? 'good' : one.fact}`
    counts.set(key, { one, count: (counts.get(key)?.count ?? 0) + 1 })
  }
  const found = by === '' ? '' : `; found by ${nameOf(by)}`
  return [...counts.values()].map(({ one: { host, to, fact }, count }) => {
    const [kind, how] = to === 'good' ? (['correction', 'as placed again'] as const) : (['alarm', fact] as const)
    const verb = how === 'wrong length' ? (count === 1 ? 'has the' : 'have the') : count === 1 ? 'is' : 'are'
    return [kind, host, `${formatCount(count, 'shard')} on ${nameOf(host)} ${verb} ${how}${found}`]
  })
}
