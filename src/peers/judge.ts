/**
 * Whether a witness signs the checkpoint that it is offered. What it relies on: it has durably kept the one that it signed last.
 * What it gives: it never signs two of one term and sequence; so of two checkpoints at one place at most one can have the
 * signatures of a majority that keeps to this. Pure.
 */
import type { Hex } from '../base/ids.js'
import type { Checkpoint } from '../keys/checkpoint.js'
import { isNewer } from '../keys/handover.js'
import { HeadSet } from '../keys/head-set.js'

export type Link = Pick<Checkpoint, 'term' | 'handed' | 'sequence' | 'hash' | 'previous'>

/** Why it is not signed: what the witness holds comes along. */
export const REASONS = {
  gap: 'its links do not follow each other',
  term: 'a newer term has begun',
  handed: 'the coordinator has handed its place over',
  old: 'a newer one was signed here',
  fork: 'another one was signed here at its place, and nothing proves that this one won',
  set: 'its set of heads is not the one that was sent along',
  shrank: 'heads are missing from it, and nobody forgot them',
  removal: 'heads are removed from it without the word of an admin',
  held: 'heads are removed from it that an admin holds',
  revived: 'heads are in it again that were forgotten',
  base: 'it builds on a set that is not the one here',
} as const
export type Reason = keyof typeof REASONS
export type Verdict = 'sign' | 'again' | Reason

/**
 * `chain` ends with what is offered; before it the links that the witness may be missing, oldest first. `proved`: the place in it
 * of a link that a quorum of witnesses signed; `now`: what the membership held here says.
 */
export function judge(
  last: Link | undefined,
  chain: readonly Link[],
  proved: number | undefined,
  now: Pick<Link, 'term' | 'handed'>,
): Verdict {
  const offered = chain.at(-1)
  if (!offered || !chain.every((link, at) => at === 0 || follows(link, chain[at - 1] as Link))) return 'gap'
  if (offered.term < Math.max(now.term, last?.term ?? 0)) return 'term'
  const isLate = (by: Pick<Link, 'term' | 'handed'>) => by.term === offered.term && by.handed > offered.handed
  if (isLate(now) || (last && isLate(last))) return 'handed'
  if (!last) return 'sign'
  if (offered.hash === last.hash) return 'again'
  if (offered.term > last.term) return chain.some(begins) || proved !== undefined ? 'sign' : 'gap'
  if (!isNewer(offered, last)) return 'old'
  if (chain.some((link) => follows(link, last))) return 'sign'
  // What was signed here lost: a majority went on with another one at its place, or after it.
  const winner = proved === undefined ? undefined : chain[proved]
  return winner !== undefined && winner.term === last.term && !isNewer(last, winner) ? 'sign' : 'fork'
}

/** The next one of the same term, of the same coordinator or of one to whom it went; or the first of a later term. */
function follows(link: Link, before: Link): boolean {
  if (link.term === before.term) {
    return link.sequence === before.sequence + 1 && link.previous === before.hash && link.handed >= before.handed
  }
  return link.term > before.term && begins(link)
}

/** The first of its term. Whoever has the words may begin anew; the set of heads does not shrink by that. */
function begins(link: Link): boolean {
  return link.sequence === 1
}

/** What a checkpoint counts, and a witness keeps: the live heads, and those that were let go. */
export interface Heads {
  readonly live: HeadSet
  readonly gone: HeadSet
}

/** The same as a checkpoint says it. */
export type Counted = Pick<Checkpoint, 'heads' | 'removals'>

export interface Change {
  /** Whether `added` and `removed` are all there is, or what changes in the sets that the witness has. */
  readonly base: 'own' | 'empty'
  /** Ids back to back. */
  readonly added: Uint8Array
  readonly removed: Uint8Array
  /** Those of which an admin says that they are to be forgotten: verified. */
  readonly forgotten: HeadSet
}

/**
 * The sets after the change, or why they are not to be signed. `own` is undefined where the witness has lost them. A head goes only if an
 * admin forgot it, and what went stays gone.
 */
export function judgeHeads(
  own: Heads | undefined,
  { base, added, removed, forgotten }: Change,
  offered: Counted,
): Heads | Reason {
  if (base === 'own' && !own) return 'base'
  const before = base === 'own' ? (own as Heads) : NO_HEADS
  const next = { live: before.live.with(added).minus(removed), gone: before.gone.with(removed) }
  const isAs = (set: HeadSet, { count, root }: { count: number; root: Hex }) => set.size === count && set.root === root
  if (!isAs(next.live, offered.heads) || !isAs(next.gone, offered.removals)) return base === 'own' ? 'base' : 'set'
  if (next.live.shared(next.gone).length > 0) return 'revived'
  if (!own) return next
  if (own.gone.without(next.gone).length > 0) return 'revived'
  const leaving = own.live.without(next.live)
  if (leaving.length === 0) return next
  const going = HeadSet.empty.with(leaving)
  if (going.without(next.gone).length > 0) return 'shrank'
  return going.without(forgotten).length > 0 ? 'removal' : next
}

export const NO_HEADS: Heads = { live: HeadSet.empty, gone: HeadSet.empty }
