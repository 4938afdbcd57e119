/**
 * Snapshots, rebuilt from the heads that peers keep. The manifest of each is walked down to its map, and must name exactly
 * the births whose hash its appliance signed; so what is imported is what was finished, and can be read now.
 */
import { ImagerError, isOfHost } from '../../base/errors.js'
import { type Hex, toHex } from '../../base/ids.js'
import { forEachAtOnce } from '../../base/queue.js'
import { MiB } from '../../base/units.js'
import type { LocalCatalog } from '../../catalog/local.js'
import type { SnapshotSummary } from '../../catalog/types.js'
import { type Head, headName, openHead } from '../../keys/head.js'
import type { Membership } from '../../keys/membership.js'
import { firstThatOpens } from '../../keys/vault.js'
import { hash, type ManifestPage, type PageRef, ReferenceSet, Routes, type VaultHandle } from '../../native.js'
import type { Peers } from '../../peers/pool.js'
import { type Description, decodeDescription } from '../../retrieve/description.js'
import { Locator } from '../../retrieve/locator.js'
import { ManifestReader, TREE } from '../../retrieve/manifest.js'
import { PATIENCE, PackReader } from '../../retrieve/packs.js'
import { birthOf } from '../../stripes/names.js'
import { LISTED, listed } from '../flaws.js'
import type { Meter } from '../progress.js'
import { ifSound, type Reached } from './reach.js'

export interface HeadParts {
  readonly membership: Membership
  readonly peers: Peers
  readonly catalog: LocalCatalog
  /** For an appliance's snapshots, one for each of its manifest keys; none where no peer holds one. */
  readonly vaults: (appliance: Hex) => readonly VaultHandle[]
  /** Is the key of this dedupe domain known for the appliance's blocks? */
  readonly hasDomain: (appliance: Hex, domain: Hex) => boolean
  readonly meter: (phase: string, totalBytes: number) => Meter
  readonly signal: AbortSignal
}

export interface KeptHead extends Head {
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
  readonly time: number
  readonly why: string
}

const PEERS_AT_ONCE = 16
/** What one map page describes. */
const MAP_PAGE_BYTES = 8 * MiB

/**
 * All that open, each once, oldest first. One that no member signed, or that rotted, is none. Peers may keep different heads of one
 * snapshot, where its appliance signed them: then the one that more of them keep comes first.
 */
export async function collectHeads(reached: readonly Reached[], parts: HeadParts): Promise<KeptHead[]> {
  const { peers, membership, signal } = parts
  const heads = new Map<Hex, KeptHead>()
  await forEachAtOnce(reached, PEERS_AT_ONCE, async ({ host }) => {
    try {
      for await (const { name, bytes } of peers.get(host).fetchDocuments('head', { signal })) {
        const id = toHex(hash(bytes))
        const known = heads.get(id)
        const head = known ?? ifSound(() => openHead(bytes, membership.fleet))
        const role = head && membership.role(head.appliance)
        if (head && headName(head) === name && role !== undefined && role !== 'peer')
          heads.set(id, { ...head, bytes, holders: (known?.holders ?? 0) + 1 })
      }
    } catch (error) {
      // Heads lie on most peers: one that leaves now takes nothing along.
      signal.throwIfAborted()
      if (!isOfHost(error)) throw error
    }
  })
  return [...heads.values()].sort(
    (a, b) => a.time - b.time || a.sequence - b.sequence || b.holders - a.holders || Buffer.compare(a.bytes, b.bytes),
  )
}

/** How many snapshots they are of: an appliance and an id of its own make one. */
export function countSnapshots(heads: readonly KeptHead[]): number {
  return new Set(heads.map(headName)).size
}

/** Imports what can be read now, of each snapshot the first head that can; gives the others, and why not. */
export async function importHeads(heads: readonly KeptHead[], parts: HeadParts): Promise<Imported> {
  const bySnapshot = new Map<string, KeptHead[]>()
  for (const head of heads) bySnapshot.set(headName(head), [...(bySnapshot.get(headName(head)) ?? []), head])
  const imported = { unreadable: [] as UnreadableHead[], rivals: [] as UnreadableHead[] }
  for (const candidates of bySnapshot.values()) {
    const { failed, taken } = await importFirst(candidates, parts)
    const left = candidates.slice(failed.length + 1)
    if (!taken) imported.unreadable.push(...failed)
    else imported.rivals.push(...failed, ...left.map((head) => unreadable(head, NOT_TAKEN, parts)))
  }
  return imported
}

const NOT_TAKEN = 'another head of it can be read, and no fewer peers keep that one'

async function importFirst(candidates: readonly KeptHead[], parts: HeadParts) {
  const failed: UnreadableHead[] = []
  for (const head of candidates) {
    try {
      parts.catalog.importSnapshot({ head: head.bytes, ...(await rebuild(head, parts)) })
      return { failed, taken: true }
    } catch (error) {
      parts.signal.throwIfAborted()
      if (!isOfHost(error)) throw error
      failed.push(unreadable(head, error.message, parts))
    }
  }
  return { failed, taken: false }
}

function unreadable({ snapshot, time, appliance }: KeptHead, why: string, { membership }: HeadParts): UnreadableHead {
  return { snapshot, appliance: membership.find(appliance)?.name ?? appliance.slice(0, 8), time, why }
}

async function rebuild(head: KeptHead, parts: HeadParts) {
  const { catalog, peers, membership, signal } = parts
  const vaults = parts.vaults(head.appliance)
  if (vaults.length === 0) throw new ImagerError('FORGED', { what: 'No peer holds the key of its appliance' })
  const { names } = catalog
  const { stripe, birth } = birthOf(names, head.root)
  const sealed = { key: Buffer.from(head.root.key, 'base64'), birth, names }
  const { vault, root: ref } = firstThatOpens(vaults, sealed)
  const packs = new PackReader({
    catalog,
    routes: new Routes(PATIENCE),
    clock: peers.clock,
    fetch: (host, shard, range, options) => peers.get(host).fetchBody(shard, range, options),
    silentMs: (host) => peers.silentMs(host),
    hostName: (host) => membership.find(host)?.name ?? host.slice(0, 8),
  })
  const manifest = new ManifestReader(new Locator(catalog), packs, vault, names)
  const [known] = await catalog.stripes([stripe])
  if (!known) throw new ImagerError('CORRUPT', { what: 'Its root lies in a stripe of which too few shards are here' })
  const root = await manifest.pageAt(ref, { stripe, ...head.root }, signal)
  const description = decodeDescription(root.description())
  if (!parts.hasDomain(head.appliance, description.domain))
    throw new ImagerError('FORGED', { what: 'No peer holds the key of its blocks' })
  const meter = parts.meter(`reading manifest ${head.snapshot.slice(0, 8)}`, description.sizeBytes)
  const walk = new Walk(manifest, meter, signal)
  walk.references.addBirth(birth)
  await walk.below(root)
  const references = walk.references.encode(names)
  if (toHex(hash(references)) !== head.references) {
    throw new ImagerError('FORGED', { what: 'Its manifest names other blocks than its head' })
  }
  return {
    references,
    source: description.source,
    label: description.label,
    summary: summaryOf(description, head, walk),
  }
}

/** Counts what a manifest names; leaves of files and directories name nothing, and are not fetched. */
class Walk {
  readonly references = new ReferenceSet()
  allocatedBytes = 0
  blocks = 0

  constructor(
    readonly manifest: ManifestReader,
    readonly meter: Meter,
    readonly signal: AbortSignal,
  ) {}

  async below(root: ManifestPage): Promise<void> {
    this.references.addPage(root)
    for (const [at, { tree, level }] of root.tops().entries()) {
      if (level > 0 || tree === TREE.map) await this.#visit([root.top(at)], tree, level)
    }
  }

  async #visit(refs: readonly PageRef[], tree: number, level: number): Promise<void> {
    for (const page of await this.manifest.pages(refs, this.signal)) {
      this.references.addPage(page)
      if (level === 0) this.#countMap(page)
      else {
        const children = page.children(0, Number.MAX_SAFE_INTEGER)
        if (level > 1 || tree === TREE.map) await this.#visit(children, tree, level - 1)
        else await this.#requireKnown(children)
      }
    }
  }

  #countMap(page: ManifestPage): void {
    const { bytes, pieces } = page.mapped()
    this.allocatedBytes += bytes
    this.blocks += pieces
    this.meter.add(MAP_PAGE_BYTES)
  }

  /**
   * Throws CORRUPT where a page lies in no stripe that is known: leaves are not fetched here, but a listing will need
   * them.
   */
  async #requireKnown(refs: readonly PageRef[]): Promise<void> {
    const { stripes } = await this.manifest.locate(refs)
    if (stripes.includes(0)) {
      throw new ImagerError('CORRUPT', { what: 'A page of its files is in no stripe that is here' })
    }
  }
}

/** What only the run itself knew (what was new, what was stored, for how long it ran) is not told by a manifest. */
function summaryOf(description: Description, { root }: Head, walk: Walk): SnapshotSummary {
  return {
    ...{ sourceBytes: description.sizeBytes, allocatedBytes: walk.allocatedBytes, blocks: walk.blocks },
    ...{ readBytes: 0, newBytes: 0, storedBytes: 0, newBlocks: 0, files: 0, seconds: 0 },
    view: description.view,
    volumes: description.volumes.map(({ index, fileSystem, label }) => ({ index, fileSystem, files: 0, label })),
    leftOut: description.leftOut.slice(0, LISTED),
    unreadable: listed(description.unreadable),
    torn: listed(description.torn),
    ...{ perHost: {}, fileTypes: {}, owners: {} },
    notes: ['rebuilt by recover: what was read, new and stored then is not known any more'],
    ...{ tolerate: root.m, k: root.k, m: root.m },
  }
}
