/**
 * Snapshots, rebuilt from the heads that peers keep. The manifest of each is walked down to its map, and must name exactly
 * the births whose hash its appliance signed; so what is imported is what was finished, and can be read now.
 */
import { type ErrorCode, hasCode, ImagerError, isOfHost } from '../../base/errors.js'
import { type Hex, toHex } from '../../base/ids.js'
import { forEachAtOnce } from '../../base/queue.js'
import { ifSound } from '../../base/sound.js'
import { MiB } from '../../base/units.js'
import type { LocalCatalog } from '../../catalog/local.js'
import { NamedBirths, referencedStripes } from '../../catalog/references.js'
import { summaryOfHead } from '../../catalog/summary.js'
import type { SnapshotSummary } from '../../catalog/types.js'
import { isServed } from '../../keys/fields.js'
import { type Head, headName, openHead, readHead, type SignedHead, type TrailerKeysOf } from '../../keys/head.js'
import type { Membership } from '../../keys/membership.js'
import { firstThatOpens } from '../../keys/vault.js'
import { hash, mapBirths, mapIds, ReferenceSet, Routes, type VaultHandle } from '../../native.js'
import type { Peers } from '../../peers/pool.js'
import { type Description, decodeDescription } from '../../retrieve/description.js'
import { Locator } from '../../retrieve/locator.js'
import { ManifestReader } from '../../retrieve/manifest.js'
import { PATIENCE, PackReader } from '../../retrieve/packs.js'
import { birthOf } from '../../stripes/names.js'
import { LISTED, listed } from '../flaws.js'
import type { Meter } from '../progress.js'
import type { Bitmaps } from './bitmaps.js'
import type { Reached } from './reach.js'
import { Walk } from './walk.js'

export interface HeadParts {
  readonly membership: Membership
  readonly peers: Peers
  readonly catalog: LocalCatalog
  /** For an appliance's snapshots, one for each of its manifest keys; none where no peer holds one. */
  readonly vaults: (appliance: Hex) => readonly VaultHandle[]
  /** Is the key of this dedupe domain known? */
  readonly hasDomain: (domain: Hex) => boolean
  readonly trailerKeysOf: TrailerKeysOf
  readonly bitmaps: Bitmaps
  /** What of a snapshot that is imported all the same could not be shown to be so, for people. */
  readonly onUnproved: (what: string) => void
  readonly meter: (phase: string, totalBytes: number) => Meter
  readonly signal: AbortSignal
}

/** Signed by an appliance of the fleet. */
export interface KeptHead extends SignedHead {
  /** All that it says; or why it does not open, although its appliance signed it. */
  readonly inside: Head | ImagerError
  readonly bytes: Buffer
  /** How many peers that answer keep it. */
  readonly holders: number
}

/** What the heads came to. */
export interface Imported {
  /** Snapshots that cannot be read now. */
  readonly unreadable: readonly UnreadableHead[]
  /** Heads of snapshots of which another head was taken. */
  readonly rivals: readonly UnreadableHead[]
}

export interface UnreadableHead {
  readonly snapshot: Hex
  readonly appliance: string
  /** Null where even that is sealed. */
  readonly time: number | null
  readonly why: string
  /** FORGED: no host that comes back changes that. Null: another head was taken. */
  readonly code: ErrorCode | null
}

const PEERS_AT_ONCE = 16
/** Snapshots whose manifests are read at once: each waits for some answers, one after the other. */
const SNAPSHOTS_AT_ONCE = 8
/** Pages that all of them fetch in one go: some 100 KiB each, at most 4 MiB where somebody means harm. */
const PAGES_AT_ONCE = 128
/** Some 3 KB each, where all of them are full of blocks. */
const STRIPES_LEARNT = 20_000
/** What one map page describes. */
const MAP_PAGE_BYTES = 8 * MiB

/** Each once, oldest first. One that no member signed, or that rotted, is none. */
export async function collectHeads(
  reached: readonly Reached[],
  parts: Pick<HeadParts, 'membership' | 'peers' | 'trailerKeysOf' | 'signal'>,
): Promise<KeptHead[]> {
  const { peers, membership, signal } = parts
  const heads = new Map<Hex, KeptHead>()
  await forEachAtOnce(reached, PEERS_AT_ONCE, async ({ host }) => {
    try {
      for await (const { name, bytes } of peers.get(host).fetchDocuments('head', { signal })) {
        const id = toHex(hash(bytes))
        const known = heads.get(id)
        const head = known ?? ifSound(() => readHead(bytes, membership.fleet))
        if (!head || headName(head) !== name || !mayWrite(membership, head.appliance)) continue
        const inside = known?.inside ?? openInside(bytes, parts)
        heads.set(id, { ...head, inside, bytes, holders: (known?.holders ?? 0) + 1 })
      }
    } catch (error) {
      // Heads lie on most peers: one that leaves now takes nothing along.
      signal.throwIfAborted()
      if (!isOfHost(error)) throw error
    }
  })
  return [...heads.values()].sort(({ inside: a }, { inside: b }) => {
    if (a instanceof ImagerError || b instanceof ImagerError) return a instanceof ImagerError ? 1 : -1
    return a.time - b.time || a.sequence - b.sequence
  })
}

/** A member that may take snapshots, or a server whose place another took. */
function mayWrite(membership: Membership, host: Hex): boolean {
  return membership.line.isFormer(host) || isServed(membership.role(host))
}

function openInside(bytes: Buffer, { membership, trailerKeysOf }: Pick<HeadParts, 'membership' | 'trailerKeysOf'>) {
  try {
    return openHead(bytes, membership.fleet, trailerKeysOf)
  } catch (error) {
    if (hasCode(error, 'FORGED', 'CORRUPT', 'UNSUPPORTED')) return error
    throw error
  }
}

/** Of how many the root page can be read now. */
export async function countOpenable(heads: readonly KeptHead[], catalog: LocalCatalog): Promise<number> {
  const roots = heads.flatMap(({ inside }) =>
    inside instanceof ImagerError ? [] : [birthOf(catalog.names, inside.root).stripe],
  )
  const known = new Set((await catalog.stripes([...new Set(roots)])).map((row) => row.stripe))
  return roots.filter((stripe) => known.has(stripe)).length
}

/** How many snapshots they are of: an appliance and an id of its own make one. */
export function countSnapshots(heads: readonly KeptHead[]): number {
  return new Set(heads.map(headName)).size
}

/**
 * Imports what can be read now; gives what cannot, and why. Peers may keep different heads of one snapshot, if its appliance signed
 * them: of those that can be read the one counts that most peers keep.
 */
export async function importHeads(heads: readonly KeptHead[], parts: HeadParts): Promise<Imported> {
  const bySnapshot = new Map<string, KeptHead[]>()
  for (const head of heads) bySnapshot.set(headName(head), [...(bySnapshot.get(headName(head)) ?? []), head])
  const all = [...bySnapshot.values()]
  const width = Math.min(SNAPSHOTS_AT_ONCE, all.length)
  const meter = new ManifestMeter(all.length, parts.meter)
  const walks = { meter, pagesAtOnce: Math.floor(PAGES_AT_ONCE / width), ways: waysTo(parts) }
  const came = new Array<Imported>(all.length)
  await forEachAtOnce(all.entries(), width, async ([at, candidates]) => {
    candidates.sort((a, b) => b.holders - a.holders || Buffer.compare(a.bytes, b.bytes))
    const { failed, taken } = await importFirst(candidates, parts, walks)
    const left = candidates.slice(failed.length + 1)
    const others = left.map((head) => unreadable(head, NOT_TAKEN, null, parts))
    came[at] = taken ? { unreadable: [], rivals: [...failed, ...others] } : { unreadable: failed, rivals: [] }
  })
  return { unreadable: came.flatMap((one) => one.unreadable), rivals: came.flatMap((one) => one.rivals) }
}

/** What the walks down all manifests share. */
interface Walks {
  readonly meter: ManifestMeter
  readonly pagesAtOnce: number
  /** Where things lie, and who gives them: the same for many snapshots, which share most of their stripes. */
  readonly ways: () => { packs: PackReader; locator: Locator }
}

/** Made anew when they know very many stripes, so that memory does not grow with the fleet. */
function waysTo({ catalog, peers, membership }: HeadParts): Walks['ways'] {
  let learnt = 0
  const make = () => {
    learnt = 0
    const records = async (stripes: readonly number[]) => {
      learnt += stripes.length
      return catalog.entries.records(stripes)
    }
    const packs = new PackReader({
      catalog,
      routes: new Routes(PATIENCE),
      clock: peers.clock,
      fetch: (host, shard, range, options) => peers.get(host).fetchBody(shard, range, options),
      silentMs: (host) => peers.silentMs(host),
      hostName: (host) => membership.find(host)?.name ?? host.slice(0, 8),
    })
    return { packs, locator: new Locator({ records, locate: (...asked) => catalog.locate(...asked) }) }
  }
  let ways = make()
  return () => {
    if (learnt > STRIPES_LEARNT) ways = make()
    return ways
  }
}

/** How far all manifests were read, in bytes of the disks that they describe; the size of those not begun is guessed. */
class ManifestMeter {
  readonly #count: number
  readonly #meter: Meter
  #begun = 0
  #bytes = 0

  constructor(count: number, meter: HeadParts['meter']) {
    this.#count = count
    this.#meter = meter('reading manifests', 0)
  }

  begin(bytes: number): void {
    this.#begun = Math.min(this.#count, this.#begun + 1)
    this.#bytes += bytes
    this.#meter.totalBytes = Math.round((this.#bytes / this.#begun) * this.#count)
  }

  add(bytes: number): void {
    this.#meter.add(bytes)
  }
}

const NOT_TAKEN = 'another head of it can be read, and no fewer peers keep that one'

async function importFirst(candidates: readonly KeptHead[], parts: HeadParts, walks: Walks) {
  const failed: UnreadableHead[] = []
  for (const head of candidates) {
    try {
      if (head.inside instanceof ImagerError) throw head.inside
      parts.catalog.importSnapshot({ head: head.bytes, ...(await rebuild(head.inside, parts, walks)) })
      return { failed, taken: true }
    } catch (error) {
      parts.signal.throwIfAborted()
      if (!isOfHost(error)) throw error
      failed.push(unreadable(head, error.message, error.code, parts))
    }
  }
  return { failed, taken: false }
}

function unreadable(
  { snapshot, inside, appliance }: KeptHead,
  why: string,
  code: ErrorCode | null,
  { membership }: HeadParts,
): UnreadableHead {
  const time = inside instanceof ImagerError ? null : inside.time
  return { snapshot, appliance: membership.find(appliance)?.name ?? appliance.slice(0, 8), time, why, code }
}

async function rebuild(head: Head, parts: HeadParts, walks: Walks) {
  const { catalog, signal } = parts
  const { meter, pagesAtOnce } = walks
  const vaults = parts.vaults(head.appliance)
  if (vaults.length === 0) throw new ImagerError('FORGED', { what: 'No peer holds the key of its appliance' })
  const { names } = catalog
  const { stripe, birth } = birthOf(names, head.root)
  const sealed = { key: Buffer.from(head.root.key, 'base64'), birth, names }
  const { vault, root: ref } = firstThatOpens(vaults, sealed)
  const { packs, locator } = walks.ways()
  const manifest = new ManifestReader(locator, packs, vault, names)
  const [known] = await catalog.stripes([stripe])
  if (!known) throw new ImagerError('CORRUPT', { what: 'Its root lies in a stripe of which too few shards are here' })
  const [root, bitmap] = await Promise.all([
    manifest.pageAt(ref, { stripe, ...head.root }, signal),
    parts.bitmaps.of(head),
  ])
  const description = decodeDescription(root.description())
  if (description.snapshot !== head.snapshot) {
    throw new ImagerError('FORGED', { what: 'Its root page is of another snapshot' })
  }
  if (!description.domains.every(parts.hasDomain))
    throw new ImagerError('FORGED', { what: 'No peer holds each key of its blocks' })
  meter.begin(description.sizeBytes)
  const named = new ReferenceSet()
  const walk = new Walk({
    ...{ manifest, signal, pagesAtOnce, references: named, named: bitmap && new NamedBirths(bitmap, names) },
    async findBlocks(page) {
      const { stripes } = await manifest.locator.of(mapBirths([page]), () => mapIds([page]))
      meter.add(MAP_PAGE_BYTES)
      return stripes.reduce((count, stripe) => count + (stripe === 0 ? 1 : 0), 0)
    },
  })
  await walk.below(root, birth)
  const references = named.encode(names)
  if (toHex(hash(references)) !== head.references) {
    throw new ImagerError('FORGED', { what: 'Its manifest names other blocks than its head' })
  }
  await requirePlaces(walk, references, catalog)
  if (!bitmap)
    parts.onUnproved(`${head.snapshot.slice(0, 8)}: no peer that answers has its bitmap; all that it names was counted`)
  return {
    references,
    source: description.source,
    label: description.label,
    summary: summaryOf(description, head, walk),
  }
}

/** A block may be in a stripe that is missing now, and comes back with its host; but not nowhere in stripes that are all here. */
async function requirePlaces({ unplaced }: Walk, references: Buffer, catalog: LocalCatalog): Promise<void> {
  if (unplaced === 0) return
  const stripes = referencedStripes(references, catalog.names)
  if ((await catalog.stripes(stripes)).length < stripes.length) return
  throw new ImagerError('FORGED', { what: `Its manifest names ${unplaced} blocks that are in none of its stripes` })
}

/** What only the run itself knew (what was new, what was stored, for how long it ran) is not told by a manifest. */
function summaryOf(description: Description, head: Head, walk: Walk): SnapshotSummary {
  return summaryOfHead(head, {
    ...{ sourceBytes: description.sizeBytes, allocatedBytes: walk.allocatedBytes, blocks: walk.blocks },
    domains: description.domains,
    view: description.view,
    volumes: description.volumes.map(({ index, fileSystem, label }) => ({ index, fileSystem, files: 0, label })),
    leftOut: description.leftOut.slice(0, LISTED),
    unreadable: listed(description.unreadable),
    torn: listed(description.torn),
    notes: ['rebuilt by recover: what was read, new and stored then is not known any more'],
  })
}
