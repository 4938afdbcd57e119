/** What admins said, and the policy: from every peer that answers, into the catalog of the new coordinator, which brings it to all. */
import { isOfHost } from '../../base/errors.js'
import type { Hex } from '../../base/ids.js'
import { ORDERS_A_SIGNER } from '../../base/limits.js'
import { forEachAtOnce } from '../../base/queue.js'
import { ifSound } from '../../base/sound.js'
import type { LocalCatalog } from '../../catalog/local.js'
import type { Membership } from '../../keys/membership.js'
import { ORDER_KINDS, openOrder, orderName } from '../../keys/orders.js'
import { choosePolicy, openPolicy, type SignedPolicy, signPolicy } from '../../keys/policy.js'
import type { SecretHandle } from '../../native.js'
import type { Document, PeerClient } from '../../peers/client.js'
import type { Peers } from '../../peers/pool.js'
import type { StatementKind } from '../../peers/store.js'

export interface CollectParts {
  /** Whoever any version names: former coordinators, too. */
  readonly known: Membership
  readonly rootKey: Hex
  readonly catalog: LocalCatalog
  readonly peers: Pick<Peers, 'get'>
  readonly signal: AbortSignal
}

export interface OrderParts extends CollectParts {
  /** Of the term that begins. */
  readonly next: Membership
  readonly identity: SecretHandle
  readonly clock: { now(): number }
}

const PEERS_AT_ONCE = 16

/** What was ordered, into the catalog, from those of the hosts that answer. */
export async function collectOrders(hosts: readonly { host: Hex }[], parts: CollectParts): Promise<void> {
  const { known, rootKey, catalog } = parts
  const by = known.adminsBy(rootKey)
  await forEachAtOnce(hosts, PEERS_AT_ONCE, async ({ host }) => {
    for (const kind of ORDER_KINDS) {
      await eachOf(parts.peers.get(host), kind, parts, ({ name, bytes }) => {
        if (catalog.registry.document(kind, name)) return
        const order = ifSound(() => openOrder(kind, bytes, by))
        if (order && orderName(order) === name) catalog.registry.setDocument(kind, name, order.body.time, bytes)
      })
    }
  })
}

export async function importOrders(hosts: readonly { host: Hex }[], parts: OrderParts): Promise<void> {
  const { known, rootKey } = parts
  await collectOrders(hosts, parts)
  const policies: SignedPolicy[] = []
  await forEachAtOnce(hosts, PEERS_AT_ONCE, async ({ host }) => {
    await eachOf(parts.peers.get(host), 'policy', parts, ({ bytes }) => {
      const policy = ifSound(() => openPolicy(bytes, known, rootKey))
      if (policy) policies.push(policy)
    })
  })
  const policy = choosePolicy(policies)
  if (policy) adopt(policy, parts)
}

/** What an admin signed stays as it is; what a coordinator had signed is the new one's word from now on. */
function adopt(policy: SignedPolicy, { next, identity, catalog, clock }: OrderParts): void {
  const { signer, isAdmins, bytes, hash: _, ...body } = policy
  catalog.write(() => {
    catalog.decisions.adopt(policy)
    if (isAdmins) return catalog.registry.setDocument('policy', signer, policy.sequence, bytes)
    const sequence = policy.sequence + 1
    const own = signPolicy({ ...body, term: next.term, sequence, time: clock.now() }, identity)
    catalog.registry.setDocument('policy', identity.signingKey().toString('hex'), sequence, own)
  })
}

/** Of one peer no more than an honest one would hold; one that leaves in the middle has told what it told. */
async function eachOf(
  peer: PeerClient,
  kind: StatementKind,
  { known, signal }: CollectParts,
  take: (document: Document) => void,
): Promise<void> {
  let left = ORDERS_A_SIGNER * (known.admins.length + 1)
  try {
    for await (const document of peer.fetchDocuments(kind, { signal })) {
      if (left-- === 0) return
      take(document)
    }
  } catch (error) {
    signal.throwIfAborted()
    if (!isOfHost(error)) throw error
  }
}
