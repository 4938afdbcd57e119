/**
 * How many keys one owner may have kept: a host in wrong hands signs as many as it likes. A host has three, and a few more over
 * the years; what would be the first key id beyond the caps is refused, and what is held stays. Pure.
 */
import { ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import { KEYS_A_DAY, KEYS_AN_OWNER } from '../base/limits.js'
import { partsOfEntryName } from './entry.js'

export interface HeldEntry {
  readonly name: string
  /** When it was taken, by the own clock. */
  readonly since: number
}

const DAY_MS = 86_400_000

/** `host`: who refuses. `held`: all of that owner. Throws TOO_MANY_KEYS. */
export function requireKeyRoom(host: string, name: string, held: readonly HeldEntry[], now: number): void {
  const { owner, key } = partsOfEntryName(name)
  const keys = new Map<Hex, number>()
  for (const one of held) {
    const of = partsOfEntryName(one.name).key
    keys.set(of, Math.min(one.since, keys.get(of) ?? one.since))
  }
  if (keys.has(key)) return
  const refuse = (why: string) => {
    throw new ImagerError('TOO_MANY_KEYS', { host, owner: owner.slice(0, 16), why })
  }
  if (keys.size >= KEYS_AN_OWNER) refuse(`it holds ${keys.size} of them, as many as it takes of one host`)
  // Further ahead than a day: the clock was turned back, and says nothing about today.
  const today = [...keys.values()].filter((since) => Math.abs(now - since) < DAY_MS).length
  if (today >= KEYS_A_DAY) refuse(`it took ${today} new ones within a day`)
}
