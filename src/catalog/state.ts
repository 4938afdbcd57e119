/** What a snapshot's state is, and what can be done with it now, by its figure. Pure. */
import type { Hex } from '../base/ids.js'
import { formatBytes } from '../base/units.js'
import { findOutlook } from '../stripes/suffice.js'
import { stripeSurvives } from '../stripes/survives.js'
import type { Figure, Pattern } from './stripes.js'
import type { Finished, SnapshotRow, SnapshotSummary } from './types.js'

/** Bytes that were read longer ago are not `verified` any more: disks rot in the meantime. */
export const VERIFIED_FOR_MS = 60 * 86_400_000

export interface Standing {
  readonly target: number
  /** When it arrived. */
  readonly since: number
  /** Without the appliance's keys nobody but it could read the snapshot. */
  readonly keysHeld: boolean
  /** Else a coordinator that was set back would not know of it, and nobody would say so. */
  readonly cosigned: boolean
  /** By `host.n`: what is lost together with it. */
  readonly domains: ReadonlyMap<number, string>
  readonly now: number
}

export function stateOf({ patterns, proved, worsened }: Figure, s: Standing): Finished & { at: number } {
  const survives = leastOf(patterns.map(({ k, hosts }) => stripeSurvives(k, hosts)))
  const receipted = leastOf(patterns.map((pattern) => signedSurvives(pattern, s.domains)))
  const { target, cosigned } = s
  const figures = { survives, receipted, target, cosigned }
  const at = Math.max(s.since, worsened)
  if (survives < 0) return { ...figures, state: 'incomplete', at }
  if (Math.min(survives, receipted) < target || !s.keysHeld || !cosigned) return { ...figures, state: 'sealed', at }
  if (proved > 0 && s.now - proved < VERIFIED_FOR_MS) return { ...figures, state: 'verified', at: proved }
  return { ...figures, state: 'protected', at }
}

/** Failure domains that may be lost, counting only shards that their hosts signed for, or somebody read. */
function signedSurvives({ k, hosts, unsigned }: Pattern, domains: Standing['domains']): number {
  const left = [...unsigned]
  const signed = hosts.filter((host) => {
    const at = left.indexOf(host)
    if (at >= 0) left.splice(at, 1)
    return at < 0
  })
  return stripeSurvives(
    k,
    signed.map((host) => domains.get(host) ?? host),
  )
}

/** Without the hosts that are `away` (`host.n` and key). */
export function outlookOf({ patterns }: Pick<Figure, 'patterns'>, away: ReadonlyMap<number, Hex>): SnapshotRow['now'] {
  const here = patterns.map(({ k, hosts }) =>
    stripeSurvives(
      k,
      hosts.filter((host) => !away.has(host)),
    ),
  )
  const layouts = patterns.map(({ k, hosts }, stripe) => {
    return { stripe, k, shards: hosts.map((host, index) => ({ index, host: away.get(host) ?? String(host) })) }
  })
  const { suffice } = findOutlook(layouts, new Set(away.values()))
  return { survives: leastOf(here), suffice: [...suffice] }
}

/** -1 where there are none: a stripe is not known. */
function leastOf(survives: readonly number[]): number {
  return survives.length > 0 ? Math.min(...survives) : -1
}

/** As people read it among what happened. */
export function finishedSentence(source: string, { newBytes, storedBytes }: SnapshotSummary, survives: number): string {
  const sizes = `${formatBytes(newBytes)} new, ${formatBytes(storedBytes)} stored`
  return `Snapshot of ${source}: ${sizes}, survives the loss of ${survives} ${survives === 1 ? 'host' : 'hosts'}`
}
