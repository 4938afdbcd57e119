/** From which checkpoint a chain goes on, by what its witnesses hold. Pure. */
import type { Hex } from '../base/ids.js'
import type { Checkpoint } from '../keys/checkpoint.js'
import { isNewer } from '../keys/handover.js'

export type Link = Pick<Checkpoint, 'term' | 'handed' | 'sequence' | 'hash' | 'previous'>

export interface Lineage<L extends Link> {
  readonly base: L
  /** What is known of the links that lead to it, oldest first, itself the last. */
  readonly line: readonly L[]
}

/**
 * The one that most witnesses can follow, and of those the newest: heads are taken over from all, so this decides no more than
 * whose chain goes on. `own`: the own links, oldest first; `held`: what each witness that holds something signed last. Undefined
 * where there is none at all.
 */
export function chooseBase<L extends Link>(own: readonly L[], held: readonly L[]): Lineage<L> | undefined {
  const known = new Map([...held, ...own].map((link) => [link.hash, link]))
  let best: (Lineage<L> & { followers: number }) | undefined
  for (const base of new Set([...own.slice(-1), ...held].map(({ hash }) => known.get(hash) as L))) {
    const line = lineOf(base, known)
    const followers = held.filter((one) => one.term < base.term || line.some(({ hash }) => hash === one.hash)).length
    const isBetter = best && (followers !== best.followers ? followers > best.followers : isNewer(base, best.base))
    if (!best || isBetter) best = { base, line, followers }
  }
  return best && { base: best.base, line: best.line }
}

function lineOf<L extends Link>(base: L, known: ReadonlyMap<Hex, L>): L[] {
  const line = [base]
  for (let link = before(base, known); link; link = before(link, known)) line.unshift(link)
  return line
}

/** Of the same term, and really the one before: a hash cannot lie in a circle. */
function before<L extends Link>({ previous, term, sequence }: L, known: ReadonlyMap<Hex, L>): L | undefined {
  const link = previous === null ? undefined : known.get(previous)
  return link?.term === term && link.sequence === sequence - 1 ? link : undefined
}
