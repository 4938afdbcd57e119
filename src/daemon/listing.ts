/**
 * Hosts whose stores are not what the catalog expects, listed where they differ. What a host lists is cut at what it said that it
 * holds there: one that lists more, or without end, is not believed.
 */
import { ImagerError, isOfHost } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import { INVENTORY_ROWS } from '../base/limits.js'
import { forEachAtOnce } from '../base/queue.js'
import type { ListedBucket } from '../catalog/knowledge.js'
import type { LocalCatalog } from '../catalog/local.js'
import type { Differing } from '../catalog/stock.js'
import type { PeerClient } from '../peers/client.js'
import type { Peers } from '../peers/pool.js'

const HOSTS_AT_ONCE = 8
/** What may come into one bucket between a heartbeat and its listing. */
const COMING = 64

export async function listDiffering(catalog: LocalCatalog, peers: Peers, signal: AbortSignal): Promise<void> {
  const all = [...catalog.knowledge.stock.takeDiffering()]
  await forEachAtOnce(all, HOSTS_AT_ONCE, ([host, differing]) => listHost(host, differing, catalog, peers, signal))
}

/** With the next heartbeat it is tried again. */
async function listHost(host: Hex, differing: Differing, catalog: LocalCatalog, peers: Peers, signal: AbortSignal) {
  const { knowledge } = catalog
  try {
    const listed: ListedBucket[] = []
    for (const [bucket, count] of differing) {
      // What is committed while it answers may be missing from its answer.
      const expected = knowledge.stock.expected(host, bucket)
      listed.push({ bucket, expected, held: await listBucket(peers.get(host), bucket, count, signal) })
    }
    catalog.write(() => knowledge.takeListed(host, listed))
  } catch (error) {
    if (signal.aborted || !isOfHost(error)) throw error
    if (error.code === 'HOST_LIED') catalog.write(() => knowledge.doubt(host, error.message))
  }
}

/** Ids with the lengths of their files. Throws HOST_LIED. */
export async function listBucket(
  peer: Pick<PeerClient, 'fetchInventory' | 'name'>,
  bucket: number,
  count: number,
  signal: AbortSignal,
): Promise<Map<Hex, number>> {
  const prefix = bucket.toString(16).padStart(2, '0')
  const most = count + COMING
  const held = new Map<Hex, number>()
  for (let after: Hex | null = prefix; after !== null; ) {
    const page: Awaited<ReturnType<PeerClient['fetchInventory']>> = await peer.fetchInventory(
      after,
      Math.min(most + 1, INVENTORY_ROWS),
      { signal },
    )
    for (const { shard, bytes } of page.shards) {
      if (!shard.startsWith(prefix)) return held
      held.set(shard, bytes)
      if (held.size > most) throw new ImagerError('HOST_LIED', { host: peer.name, what: 'more shards than it says' })
    }
    after = page.next
  }
  return held
}
