/**
 * What a peer brings that was away during a recovery: snapshots and keys that nobody else has. No words are at hand then, so of a
 * snapshot that no witness left an entry of, only what its head says is known: whose, of which disk, when; it restores as others do.
 */
import { hasCode, ImagerError, isOfHost } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import { ifSound } from '../base/sound.js'
import { openCatalogEntry } from '../catalog/entry.js'
import type { LocalCatalog } from '../catalog/local.js'
import { referencedStripes } from '../catalog/references.js'
import { summaryOfHead } from '../catalog/summary.js'
import { Witness } from '../coordinator/witnesses.js'
import { Bitmaps } from '../jobs/recover/bitmaps.js'
import { collectHeads, type KeptHead } from '../jobs/recover/heads.js'
import { everybody, newestFirst } from '../jobs/recover/members.js'
import type { Reached } from '../jobs/recover/reach.js'
import { mayBeKept, readEntry } from '../keys/entry.js'
import type { Head } from '../keys/head.js'
import type { Home } from '../keys/home.js'
import type { Membership } from '../keys/membership.js'
import type { Peers } from '../peers/pool.js'

export interface LateParts {
  readonly home: Home
  readonly catalog: LocalCatalog
  readonly peers: Peers
  /** Everybody whom any membership names that a peer holds. */
  readonly known: Membership
  readonly signal: AbortSignal
}

/** Everybody who may have written, by the memberships that these hold. */
export async function knownTo(reached: readonly Reached[], { home, peers, signal }: Omit<LateParts, 'known'>) {
  const versions = [home.membership()]
  for (const { host } of reached) {
    await fromPeer(signal, async () => {
      for await (const { bytes } of peers.get(host).fetchDocuments('membership', { signal })) {
        const one = ifSound(() => home.openMembership(bytes))
        if (one) versions.push(one)
      }
    })
  }
  return everybody(newestFirst(versions))
}

/** Their keys, for all peers to have, and their snapshots as far as all stripes of these are here. Gives how many of these. */
export async function importLate(reached: readonly Reached[], parts: LateParts): Promise<number> {
  const { home, catalog, peers, known, signal } = parts
  for (const { host } of reached) await fromPeer(signal, () => keepKeys(host, parts))
  const trailerKeysOf = (host: Hex) => home.trailerKeysOf(host)
  const heads = await collectHeads(reached, { membership: known, peers, trailerKeysOf, signal })
  const hosts = reached.map(({ host }) => host)
  const bitmaps = new Bitmaps({ hosts, peer: (host) => peers.get(host), heads, signal })
  const here = new Set(
    (await catalog.snapshots()).map(({ id, appliance, takenBy }) => (takenBy?.host ?? appliance) + id),
  )
  const witnesses = reached.map((one) => new Witness(home, one, one.addresses))
  let imported = 0
  try {
    for (const head of heads) {
      if (head.inside instanceof ImagerError || here.has(head.appliance + head.snapshot)) continue
      if (await importOne({ ...head, inside: head.inside }, witnesses, bitmaps, parts)) {
        here.add(head.appliance + head.snapshot)
        imported++
      }
    }
  } finally {
    for (const witness of witnesses) witness.close()
  }
  return imported
}

async function keepKeys(host: Hex, { home, catalog, peers, known, signal }: LateParts): Promise<void> {
  for await (const { name, bytes } of peers.get(host).fetchDocuments('key', { signal })) {
    const read = ifSound(() => readEntry(bytes))
    if (!read || read.entry.fleet !== home.fleet || !mayBeKept(read.signer, read.entry, known, home.rootKey)) continue
    try {
      catalog.registry.takeKey(name, bytes)
    } catch (error) {
      if (!hasCode(error, 'TOO_MANY_KEYS')) throw error
    }
  }
}

/** False where it cannot be: a stripe of it is not here yet, or no peer has its bitmap. */
async function importOne(
  kept: KeptHead & { inside: Head },
  witnesses: readonly Witness[],
  bitmaps: Bitmaps,
  { home, catalog, known }: LateParts,
): Promise<boolean> {
  const { appliance, snapshot, inside: head, bytes } = kept
  const references = await bitmaps.of(head)
  if (!references) return false
  const stripes = referencedStripes(references, catalog.names)
  if ((await catalog.stripes(stripes)).length < stripes.length) return false
  for (const witness of witnesses) {
    const sealed = await witness.fetchEntry({ appliance, snapshot })
    const { catalogKey } = home
    const entry = sealed && catalogKey && ifSound(() => openCatalogEntry(sealed, { appliance, snapshot }, catalogKey))
    if (!entry?.head.equals(bytes)) continue
    catalog.write(() => {
      know(known, appliance, catalog)
      catalog.entries.import(entry)
    })
    return true
  }
  const rows = await catalog.snapshots(appliance)
  const [last] = rows.filter(({ volume }) => volume === head.volume).slice(-1)
  const source = last?.source ?? `disk ${head.volume.slice(0, 8)}`
  catalog.write(() => {
    know(known, appliance, catalog)
    const notes = ['brought by a PC that was away during a recovery: what it holds is sealed, and shown by `imager ls`']
    catalog.importSnapshot({ head: bytes, references, source, label: '', summary: summaryOfHead(head, { notes }) })
  })
  return true
}

/** Who wrote and is no member any more has a name all the same. */
function know(known: Membership, host: Hex, { members }: LocalCatalog): void {
  const who = known.find(host)
  if (who && members.role(host) === undefined) members.know(who)
}

/** One that leaves now is asked when it comes back. */
async function fromPeer(signal: AbortSignal, work: () => Promise<void>): Promise<void> {
  try {
    await work()
  } catch (error) {
    signal.throwIfAborted()
    if (!isOfHost(error)) throw error
  }
}
