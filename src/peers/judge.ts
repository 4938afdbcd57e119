/**
 * Whether a witness signs the checkpoint that it is offered. What it relies on: it has durably kept the one that it signed last.
 * What it gives: it never signs two of one term and sequence; so of two checkpoints at one place at most one can have the
 * signatures of a majority that keeps to this. Pure.
 */
import type { Hex } from '../base/ids.js'
import type { Checkpoint } from '../keys/checkpoint.js'
import type { HeadSet } from '../keys/head-set.js'

export type Link = Pick<Checkpoint, 'term' | 'sequence' | 'hash' | 'previous'>

/** Why it is not signed: what the witness holds comes along. */
export const REASONS = {
  gap: 'its links do not follow each other',
  term: 'a newer term has begun',
  old: 'a newer one was signed here',
  fork: 'another one was signed here at its place, and nothing proves that this one won',
  set: 'its set of heads is not the one that was sent along',
  shrank: 'heads are missing from it, and nobody forgot them',
  removal: 'heads are removed, which nobody may do yet',
  base: 'it builds on a set that is not the one here',
} as const
export type Reason = keyof typeof REASONS
export type Verdict = 'sign' | 'again' | Reason

/**
 * `chain` ends with what is offered; before it the links that the witness may be missing, oldest first. `proved`: the place in it
 * of a link that a quorum of witnesses signed; `term`: that of the membership held here.
 */
export function judge(
  last: Link | undefined,
  chain: readonly Link[],
  proved: number | undefined,
  term: number,
): Verdict {
  const offered = chain.at(-1)
  if (!offered || !chain.every((link, at) => at === 0 || follows(link, chain[at - 1] as Link))) return 'gap'
  if (offered.term < Math.max(term, last?.term ?? 0)) return 'term'
  if (!last) return 'sign'
  if (offered.hash === last.hash) return 'again'
  if (offered.term > last.term) return chain.some(begins) || proved !== undefined ? 'sign' : 'gap'
  if (offered.sequence <= last.sequence) return 'old'
  if (chain.some((link) => follows(link, last))) return 'sign'
  // What was signed here lost: a majority went on with another one at its place, or after it.
  const winner = proved === undefined ? undefined : chain[proved]
  return winner !== undefined && winner.term === last.term && winner.sequence >= last.sequence ? 'sign' : 'fork'
}

/** The next one of the same term, or the first of a later one. */
function follows(link: Link, before: Link): boolean {
  if (link.term === before.term) return link.sequence === before.sequence + 1 && link.previous === before.hash
  return link.term > before.term && begins(link)
}

/** The first of its term. Whoever has the words may begin anew; the set of heads does not shrink by that. */
function begins(link: Link): boolean {
  return link.sequence === 1
}

export interface Change {
  /** Whether `added` is all there is, or what comes to the set that the witness has. */
  readonly base: 'own' | 'empty'
  readonly added: Uint8Array
  readonly removed: number
}

/** The set after the change, or why it is not to be signed. `own` is undefined where the witness has lost it. */
export function judgeHeads(
  own: HeadSet | undefined,
  { base, added, removed }: Change,
  offered: { readonly count: number; readonly root: Hex },
  empty: HeadSet,
): HeadSet | Reason {
  if (removed > 0) return 'removal'
  if (base === 'own' && !own) return 'base'
  const next = (base === 'own' ? (own as HeadSet) : empty).with(added)
  if (next.size !== offered.count || next.root !== offered.root) return base === 'own' ? 'base' : 'set'
  if (own && base === 'empty' && own.without(next).length > 0) return 'shrank'
  return next
}
