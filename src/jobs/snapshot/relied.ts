/**
 * The stripes that a snapshot relies on, each by what its hosts signed: those of this run as they answered it, all others as the
 * coordinator kept it, looked at once for each disk and store. A coordinator that shows too little, or forged receipts, can call the
 * snapshot protected, and this host does not.
 */
import { join } from 'node:path'
import { hasCode } from '../../base/errors.js'
import type { Hex } from '../../base/ids.js'
import { toHex } from '../../base/ids.js'
import { referencedStripes } from '../../catalog/references.js'
import type { Catalog, HostRow, SignedStripe } from '../../catalog/types.js'
import { readWhole, writeDurable } from '../../keys/durable.js'
import type { Home } from '../../keys/home.js'
import { shardFileBytes } from '../../native.js'
import { numberOf, runOf, shardOf } from '../../stripes/names.js'
import { isReceiptOf, openReceipt } from '../../stripes/receipt.js'
import { stripeSurvives } from '../../stripes/survives.js'

/** Whose store holds a shard, and which store that is. */
export interface Signed {
  readonly host: Hex
  readonly store: Hex
}

export interface Known {
  readonly k: number
  readonly shards: readonly Signed[]
}

/** By the stripe's name: `writer and run/number`. */
export type KnownStripes = Map<string, Known>

export interface Reliance {
  /** Failure domains that may be lost, by what was seen of every stripe. */
  readonly receipted: number
  /** Stripes that bear less than was asked. */
  readonly short: number
  readonly stripes: number
}

export interface RelianceParts {
  readonly catalog: Pick<Catalog, 'names' | 'receipts' | 'hosts'>
  readonly home: Pick<Home, 'fleet' | 'membership' | 'state'>
}

/** `sent`: by this run. Keeps what it saw for the next snapshot of the disk. */
export async function findReliance(
  references: Uint8Array,
  sent: ReadonlyMap<number, Known>,
  { volume, target }: { readonly volume: Hex; readonly target: number },
  { catalog, home }: RelianceParts,
): Promise<Reliance> {
  const rows = await catalog.hosts()
  const judge = judgeBy(rows, home)
  const path = join(home.state, `receipted-${volume}.json`)
  const kept = readKnown(path)
  const stripes = referencedStripes(references, catalog.names)
  const nameOf = (stripe: number) => `${toHex(catalog.names.name(runOf(stripe)) as Buffer)}/${numberOf(stripe)}`
  const seen: KnownStripes = new Map()
  const unseen: number[] = []
  for (const stripe of stripes) {
    const known = sent.get(stripe) ?? kept.get(nameOf(stripe))
    if (known && judge(known) >= target) seen.set(nameOf(stripe), known)
    else unseen.push(stripe)
  }
  for (const row of await catalog.receipts(unseen)) {
    const name = catalog.names.name(runOf(row.stripe)) as Buffer
    seen.set(nameOf(row.stripe), { k: row.k, shards: verifiedShards(row, name, home.fleet) })
  }
  const figures = stripes.map((stripe) => {
    const known = seen.get(nameOf(stripe))
    return known ? judge(known) : -1
  })
  keepKnown(path, seen)
  const short = figures.filter((figure) => figure < target).length
  const least = figures.reduce((one, other) => Math.min(one, other), Number.MAX_SAFE_INTEGER)
  return { receipted: figures.length > 0 ? least : -1, short, stripes: stripes.length }
}

/** Only what members signed of the stores that they have now counts, and one host of each failure domain. */
function judgeBy(rows: readonly HostRow[], home: Pick<Home, 'membership'>): (known: Known) => number {
  const { hosts } = home.membership()
  const domains = new Map(hosts.map(({ host, domain }) => [host, domain]))
  const stores = new Map(rows.map(({ host, store }) => [host, store]))
  return ({ k, shards }) => {
    const counting = shards.filter(({ host, store }) => domains.has(host) && stores.get(host) === store)
    return stripeSurvives(
      k,
      counting.map(({ host }) => domains.get(host) as string),
    )
  }
}

/** Those whose host signed this very shard, all of one stripe. `name`: of its run. */
export function verifiedShards(row: SignedStripe, name: Uint8Array, fleet: Hex): Signed[] {
  const lengthBytes = shardFileBytes(row.packBytes, row.k)
  const taken = new Set<number>()
  let identity: Hex | undefined
  return row.shards.flatMap(({ index, host, root, receipt }) => {
    if (receipt === undefined || index >= row.k + row.m || taken.has(index)) return []
    try {
      const subject = { fleet, shard: shardOf(name, row.stripe, index), root, host }
      const said = openReceipt(Buffer.from(receipt, 'base64'), subject)
      identity ??= said.stripe
      if (!isReceiptOf(said, { stripe: identity, index, lengthBytes })) return []
      taken.add(index)
      return [{ host, store: said.store }]
    } catch (error) {
      if (!hasCode(error, 'FORGED', 'CORRUPT', 'UNSUPPORTED')) throw error
      return []
    }
  })
}

const VERSION = 1

interface Kept {
  readonly version: number
  /** Of `Signed`, each once. */
  readonly stores: readonly Signed[]
  /** Name, k, then the places of its shards in `stores`. */
  readonly stripes: readonly (readonly [string, number, ...number[]])[]
}

/** It saves work and proves nothing: where it cannot be read, all is asked for again. */
export function readKnown(path: string): KnownStripes {
  try {
    const { version, stores, stripes } = JSON.parse(readWhole(path).toString()) as Kept
    if (version !== VERSION) return new Map()
    return new Map(
      stripes.map(([name, k, ...places]) => [name, { k, shards: places.map((at) => stores[at] as Signed) }]),
    )
  } catch {
    return new Map()
  }
}

export function keepKnown(path: string, known: KnownStripes): void {
  const places = new Map<string, number>()
  const stores: Signed[] = []
  const placeOf = (signed: Signed) => {
    const key = `${signed.host}${signed.store}`
    const place = places.get(key) ?? stores.push({ host: signed.host, store: signed.store }) - 1
    places.set(key, place)
    return place
  }
  const stripes = [...known].map(([name, { k, shards }]) => [name, k, ...shards.map(placeOf)] as const)
  try {
    writeDurable(path, Buffer.from(JSON.stringify({ version: VERSION, stores, stripes } satisfies Kept)))
  } catch {
    // The next one asks again.
  }
}
