/** The key D that new blocks are sealed under: a run takes up what the coordinator gave with its beginning. */
import { hasCode } from '../../base/errors.js'
import { toHex } from '../../base/ids.js'
import { isPrivate, mayDeliver, openEntry, sealToRecovery } from '../../keys/entry.js'
import type { PipelineParts } from './pipeline.js'

const LATE =
  'new blocks are sealed under the former key of the dedupe domain: the coordinator takes no more new keys of this host today'

/**
 * The words must open it before anything is sealed under it: the coordinator has this host's own entry first. Gives what is to be said of
 * a key that was not taken up. Throws FORGED where the coordinator may not give it.
 */
export async function takeDomainKey(
  given: Buffer | undefined,
  { home, catalog }: Pick<PipelineParts, 'home' | 'catalog'>,
): Promise<string[]> {
  if (!given) return []
  const membership = home.membership()
  const { fleet, host, secret, rootKey, rootSealing } = home
  const accept: Parameters<typeof openEntry>[1]['accept'] = (signer, entry) =>
    entry.purpose === 'domain' && !isPrivate(entry) && mayDeliver(signer, entry, membership, rootKey)
  const { key, entry } = openEntry(given, { fleet, reader: host, secret, accept })
  if (entry.key === home.domainEntry?.key) return []
  const isHeld = home.domainKeys.some((held) => toHex(held.id()) === entry.key)
  const maker = { fleet, term: membership.term, rootSealing, identity: secret }
  const own = sealToRecovery('domain', key, maker, entry.rotation)
  try {
    if (!isHeld) await catalog.keepKeys?.([own])
  } catch (error) {
    if (!hasCode(error, 'TOO_MANY_KEYS')) throw error
    return [LATE]
  }
  home.takeKeys([given, own])
  return []
}
