/** From what the catalog has of a snapshot to its verified root. */
import { ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import type { Catalog, FoundSnapshot, SnapshotRow } from '../catalog/types.js'
import { type Head, openHead } from '../keys/head.js'
import type { Home } from '../keys/home.js'
import { openRoot, type ReaderKeys } from '../keys/vault.js'
import { type DirectPartsHandle, type ManifestPage, type PageRef, Routes, type VaultHandle } from '../native.js'
import type { Peers } from '../peers/pool.js'
import { birthOf } from '../stripes/names.js'
import { type Description, decodeDescription } from './description.js'
import { Locator } from './locator.js'
import { ManifestReader } from './manifest.js'
import { PATIENCE, PackReader, type PackReaderParts } from './packs.js'
import { tellDamage } from './tell-damage.js'

export interface RetrieveParts {
  readonly home: Home
  readonly catalog: Catalog
  readonly peers: Peers
  /** Hosts that are known not to answer: asked last. */
  readonly avoid?: readonly Hex[]
}

export interface Tree {
  readonly top: PageRef
  readonly level: number
}

export interface OpenSnapshot {
  readonly row: SnapshotRow
  readonly head: Head
  readonly description: Description
  readonly root: ManifestPage
  readonly packs: PackReader
  /** Fetches what it can without JavaScript, by what the packs' routes know. */
  readonly direct: DirectPartsHandle
  readonly manifest: ManifestReader
  /** Opens its blocks. */
  readonly vault: VaultHandle
  /** Undefined where there is nothing of the kind: an empty disk, a raw volume. */
  tree(tree: number, volume: number): Tree | undefined
}

/** Reads packs, with whatever of the catalog the reader is to have. */
export function openPacks(
  { home, catalog, peers }: Pick<RetrieveParts, 'home' | 'peers'> & Pick<PackReaderParts, 'catalog'>,
  routes: InstanceType<typeof Routes>,
  signal: AbortSignal | undefined,
): PackReader {
  return new PackReader({
    ...{ catalog, signal },
    clock: peers.clock,
    fetch: (host, shard, range, options) => peers.get(host).fetchBody(shard, range, options),
    silentMs: (host) => peers.silentMs(host),
    routes,
    hostName: (host) => home.membership().find(host)?.name ?? host.slice(0, 8),
  })
}

/**
 * `found`: as `Catalog.snapshot` gives it; `keys`: to its appliance's snapshots. `signal` ends the opening, and all reads after it.
 * Throws FORGED, NOT_RESTORABLE, and what the keys say where they do not suffice.
 */
export async function openFound(
  found: FoundSnapshot,
  keys: ReaderKeys,
  parts: RetrieveParts,
  signal?: AbortSignal,
): Promise<OpenSnapshot> {
  const { home, catalog } = parts
  const { head: bytes, ...row } = found
  const head = openHead(bytes, home.fleet, () => keys.trailers)
  if (head.snapshot !== row.id)
    throw new ImagerError('FORGED', { what: 'The catalog gives the head of another snapshot' })
  const routes = new Routes(PATIENCE)
  const packs = openPacks(parts, routes, signal)
  for (const host of parts.avoid ?? []) routes.avoid(host)
  const { names } = catalog
  const { stripe, birth } = birthOf(names, head.root)
  const opening = openRoot(keys, { key: Buffer.from(head.root.key, 'base64'), birth, names })
  const manifest = new ManifestReader(new Locator(catalog), packs, opening.pages, names)
  const root = await manifest.pageAt(opening.root, { stripe, ...head.root }, signal).catch(async (error: unknown) => {
    await tellDamage(packs.damaged, catalog)
    throw error
  })
  const description = decodeDescription(root.description())
  if (description.snapshot !== row.id) throw new ImagerError('FORGED', { what: 'The root page is of another snapshot' })
  const tops = root.tops()
  const tree = (kind: number, volume: number) => {
    const at = tops.findIndex((top) => top.tree === kind && top.volume === volume)
    return at < 0 ? undefined : { top: root.top(at), level: tops[at]?.level ?? 0 }
  }
  const vault = opening.vault(description.domains)
  return { row, head, description, root, packs, direct: parts.peers.direct(routes), manifest, vault, tree }
}
