/** Which shard of a stripe is made anew, where, and of which others (docs/placement.md). Pure. */
import type { Hex } from '../base/ids.js'
import { better, type Candidate, unfitBecause } from './place.js'

export interface Weak {
  readonly k: number
  readonly m: number
  readonly writer: Hex
  /** Of the whole file of each shard. */
  readonly fileBytes: number
  readonly shards: readonly { readonly index: number; readonly host: Hex; readonly standing: Standing }[]
}

/**
 * `lost` is what was found missing or damaged. What is only `doubted`, as its host's store is another one than it was, or an older one, may be
 * there again in a moment, as a disk that was not mounted: it is not made anew, and nothing is made of it.
 */
export type Standing = 'good' | 'doubted' | 'lost'

export interface PlannedRepair {
  readonly index: number
  readonly host: Hex
  /** At least k others, on hosts that are here. */
  readonly sources: readonly { readonly index: number; readonly host: Hex }[]
}

/**
 * The first shard that nobody holds, for a host that shares no failure domain with those that hold the others: where it was
 * before, if that host is there, else as for a new stripe. Undefined where nothing is missing, too little is left here, or nobody is fit.
 */
export function planRepair(stripe: Weak, hosts: readonly Candidate[]): PlannedRepair | undefined {
  const { k, m, writer, fileBytes, shards } = stripe
  const rows = new Map(hosts.map((row) => [row.host, row]))
  const there = shards.filter(({ standing }) => standing !== 'lost')
  const sources = there
    .filter(({ host, standing }) => {
      const row = rows.get(host)
      return standing === 'good' && row && !row.away && row.suspect === ''
    })
    .map(({ index, host }) => ({ index, host }))
  const held = new Set(there.map(({ index }) => index))
  const index = Array.from({ length: k + m }, (_, at) => at).find((at) => !held.has(at))
  if (index === undefined || new Set(sources.map((one) => one.index)).size < k) return undefined
  const taken = new Set(there.map(({ host }) => rows.get(host)?.domain ?? host))
  const former = shards.find((one) => one.index === index)?.host
  const fit = hosts.filter((row) => {
    return row.role === 'peer' && !taken.has(row.domain) && unfitBecause(row, writer, fileBytes) === undefined
  })
  const [best] = fit.sort((a, b) => Number(b.host === former) - Number(a.host === former) || better(a, b))
  return best && { index, host: best.host, sources }
}
