/** Which k+m a snapshot is stored with (docs/placement.md). Pure. */
import { ImagerError } from '../base/errors.js'

export interface Scheme {
  readonly k: number
  readonly m: number
}

export interface Wish {
  /** Hosts that may be missing. */
  readonly tolerate?: number
  readonly scheme?: Scheme
}

export const WIDEST = 32
/** Wider than this gains little, and each restore asks more hosts. */
const DEFAULT_WIDEST = 12
const BY_HOSTS: Readonly<Record<number, Scheme>> = {
  2: { k: 1, m: 1 },
  3: { k: 2, m: 1 },
  4: { k: 2, m: 2 },
  5: { k: 2, m: 3 },
  6: { k: 3, m: 2 },
  7: { k: 3, m: 3 },
}

/** `hosts`: how many are fit to hold a shard each. Throws TOO_FEW_HOSTS. */
export function chooseScheme(hosts: number, wish: Wish): Scheme {
  if (hosts < 2) throw tooFew(hosts, 2, 'so that one may be missing')
  if (wish.scheme) return wish.scheme
  if (wish.tolerate !== undefined) return tolerating(hosts, wish.tolerate)
  const width = Math.min(hosts - 1, DEFAULT_WIDEST)
  const k = Math.floor(width / 2)
  return BY_HOSTS[hosts] ?? { k, m: width - k }
}

/** From six hosts on one is spare, so that a retired PC leaves its shards a home. */
function tolerating(hosts: number, m: number): Scheme {
  if (hosts < m + 1) throw tooFew(hosts, m + 1, `to survive the loss of ${m}`)
  const spare = hosts >= 6 && hosts > m + 2 ? 1 : 0
  return { k: Math.max(1, Math.min(hosts - spare, Math.max(DEFAULT_WIDEST, m + 1)) - m), m }
}

/** `4+2`. Throws INVALID. */
export function parseScheme(text: string): Scheme {
  const [, k, m] = /^(\d{1,2})\+(\d{1,2})$/.exec(text) ?? []
  const scheme = { k: Number(k), m: Number(m) }
  if (k === undefined || scheme.k < 1 || scheme.m < 1 || scheme.k + scheme.m > WIDEST) {
    throw new ImagerError('USAGE', { what: `${text} is no scheme: K+M from 1+1 to ${WIDEST} in all`, verb: 'snapshot' })
  }
  return scheme
}

function tooFew(fit: number, needed: number, why: string): ImagerError {
  return new ImagerError('TOO_FEW_HOSTS', { fit, needed, why })
}
