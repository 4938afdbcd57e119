/**
 * Key entries, from every peer that answers. Peers keep the first of each name, and a host in wrong hands may have been first
 * with one that does not open on a peer that came later: so all that any peer shows are kept, and opening decides.
 */
import { isOfHost } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import { KEYS_AN_OWNER } from '../base/limits.js'
import { forEachAtOnce } from '../base/queue.js'
import { ifSound } from '../base/sound.js'
import { entryName, mayBeKept, mayDeliver, partsOfEntryName, readEntry } from '../keys/entry.js'
import type { Membership } from '../keys/membership.js'
import type { Root } from '../keys/root.js'
import { openForRecovery } from '../keys/succession.js'
import type { PeerClient } from '../peers/client.js'
import type { Peers } from '../peers/pool.js'

/** By name: each different one, in the order in which they came. */
export type FoundKeys = ReadonlyMap<string, readonly Buffer[]>

export interface KeyParts {
  readonly membership: Membership
  readonly root: Root
  readonly peers: Peers
  readonly signal: AbortSignal
  /** After that a peer which goes on sending is one that does not answer; undefined: never. */
  readonly patienceMs?: number
  /** Hosts whose keys are wanted although they are members no more. */
  readonly owners?: ReadonlySet<Hex>
}

const PEERS_AT_ONCE = 16

/** `hosts`: the peers that are asked; `silent`: those of them that did not answer, or not to the end. */
export async function collectKeys(
  hosts: readonly { host: Hex }[],
  parts: KeyParts,
): Promise<{ found: FoundKeys; silent: Hex[] }> {
  const found = new Map<string, Buffer[]>()
  const silent: Hex[] = []
  const { signal, patienceMs } = parts
  const patience = patienceMs === undefined ? undefined : AbortSignal.timeout(patienceMs)
  const bounded = { ...parts, signal: patience ? AbortSignal.any([signal, patience]) : signal }
  await forEachAtOnce(hosts, PEERS_AT_ONCE, async ({ host }) => {
    try {
      await collectFrom(parts.peers.get(host), bounded, found)
    } catch (error) {
      // Keys lie on most peers: one that leaves now takes nothing along.
      signal.throwIfAborted()
      if (!patience?.aborted && !isOfHost(error)) throw error
      silent.push(host)
    }
  })
  return { found, silent }
}

/** Of one peer no more than an honest one would hold: names come in order, so each comes once. */
async function collectFrom(peer: PeerClient, parts: KeyParts, found: Map<string, Buffer[]>): Promise<void> {
  const { membership, root, signal } = parts
  const ids = new Map<Hex, Set<Hex>>()
  for await (const { name, bytes } of peer.fetchDocuments('key', { signal })) {
    const read = ifSound(() => readEntry(bytes))
    if (!read || read.entry.fleet !== membership.fleet || entryName(read.entry) !== name) continue
    const isWanted =
      parts.owners?.has(read.entry.owner) && mayDeliver(read.signer, read.entry, membership, root.rootKey)
    if (!isWanted && !mayBeKept(read.signer, read.entry, membership, root.rootKey)) continue
    const { owner, key } = partsOfEntryName(name)
    const known = ids.get(owner) ?? new Set()
    ids.set(owner, known.add(key))
    if (known.size > KEYS_AN_OWNER) continue
    const others = found.get(name) ?? []
    if (!others.some((other) => other.equals(bytes))) found.set(name, [...others, bytes])
  }
}

/** One for each name, as the new coordinator keeps and spreads them: one that opens, where the words can tell. */
export function chooseKeys(found: FoundKeys, membership: Membership, root: Root): { name: string; bytes: Buffer }[] {
  return [...found].flatMap(([name, all]) => {
    const bytes = all.find((one) => openForRecovery(one, membership, root)) ?? all[0]
    return bytes ? { name, bytes } : []
  })
}
