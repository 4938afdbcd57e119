/** What can be restored with the hosts that are there, which others would be enough, and how that is said. Pure. */
import { ImagerError } from '../base/errors.js'
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

/** What keeps something from being restored, with the names of hosts. */
export interface Lack {
  /** Hosts that do not answer. */
  readonly silent: readonly string[]
  /** Which of them would be enough; empty where none are. */
  readonly suffice: string
  /** Shards on hosts that answer. */
  readonly faulty?: readonly { readonly what: Fault; readonly shard: Hex; readonly host: string }[]
}

type Fault = 'damaged' | 'missing' | 'refused'

const FAULTS: Readonly<Record<Fault, string>> = {
  damaged: 'damaged',
  missing: 'not where the catalog says',
  refused: 'not given by a host that answers',
}
const SHOWN = 8

/** NOT_RESTORABLE: a sentence for each thing that is wrong, and what helps against it. */
export function notRestorable({ silent, suffice, faulty = [] }: Lack): ImagerError {
  const away = silent.length === 1 ? '1 host does not answer' : `${silent.length} hosts do not answer`
  const sentences = [
    ...(silent.length > 0 ? [`${away}: ${listed(silent)}`] : []),
    ...(Object.keys(FAULTS) as Fault[]).flatMap((fault) => faultSentence(fault, faulty)),
  ]
  const what = sentences.length > 0 ? sentences.join('. ') : 'Too few hosts that hold it are in the fleet'
  const hosts = [...new Set(faulty.map(({ host }) => host))].sort()
  const look = hosts.length > 0 ? `, look at the disks of ${listed(hosts)}` : ''
  const hopeless = `No host that comes back is enough${look}; \`imager check --read-data\` says what can be restored`
  const todo = suffice === '' ? hopeless : `Bring back ${suffice}`
  return new ImagerError('NOT_RESTORABLE', { what, todo, suffice, faulty: faulty.length })
}

function faultSentence(what: Fault, faulty: NonNullable<Lack['faulty']>): string[] {
  const shards = faulty.filter((one) => one.what === what).map(({ shard, host }) => `${shard.slice(0, 8)} on ${host}`)
  if (shards.length === 0) return []
  return [`${shards.length === 1 ? '1 shard is' : `${shards.length} shards are`} ${FAULTS[what]}: ${listed(shards)}`]
}

/** Not all where they are many. */
export function listed(names: readonly string[]): string {
  const more = names.length - SHOWN
  return names.slice(0, SHOWN).join(', ') + (more > 0 ? ` and ${more} more` : '')
}

/** So many of these hosts: `a and b`, `any 2 of a, b, c`. */
export function anyOf(count: number, names: readonly string[]): string {
  return count >= names.length ? names.join(' and ') : `any ${count} of ${listed(names)}`
}
