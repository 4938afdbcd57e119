/**
 * The policy as a signed statement: what the catalog has is signed by the coordinator, unless an admin has signed one; what others
 * have kept of it comes back, to a coordinator that was set back. The catalog's rows follow the statement in force.
 */
import { hasCode, ImagerError } from '../base/errors.js'
import type { LocalCatalog } from '../catalog/local.js'
import type { Decided, VolumeId } from '../catalog/policies.js'
import type { Policy } from '../catalog/types.js'
import type { Home } from '../keys/home.js'
import {
  choosePolicy,
  isNewerPolicy,
  openPolicy,
  type PolicyBody,
  type SignedPolicy,
  signPolicy,
} from '../keys/policy.js'

export interface PolicyParts {
  readonly home: Home
  readonly catalog: LocalCatalog
  readonly clock: { now(): number }
}

const KIND = 'policy'
const NOTHING = { tolerate: null, maxAgeMs: null, keep: null }

/** Undefined where nobody decided anything. */
export function policyInForce({ home, catalog }: Omit<PolicyParts, 'clock'>): SignedPolicy | undefined {
  return choosePolicy(catalog.registry.documents(KIND).flatMap(({ bytes }) => ifSound(home, bytes) ?? []))
}

/** What of it was decided here since is signed, or, where an admin has signed one, taken back. The statement, where it is new. */
export function settlePolicy(parts: PolicyParts): SignedPolicy | undefined {
  const { home, catalog, clock } = parts
  const now = policyInForce(parts)
  const decided = catalog.decisions.decided()
  const isAsSaid = sameRules(decided, now)
  if (now?.isAdmins && !isAsSaid) catalog.write(() => catalog.decisions.adopt(now))
  if (now?.isAdmins || (isAsSaid && (!now || now.signer === home.host))) return undefined
  return keep(parts, signPolicy(changedPolicy(now, home.membership(), decided, clock.now()), home.secret))
}

/** Takes one that an admin signed, or this coordinator before it was set back. False where a newer one is known. Throws FORGED. */
export function takePolicy(parts: PolicyParts, bytes: Buffer): boolean {
  const { home, catalog } = parts
  const offered = openPolicy(bytes, home.membership(), home.rootKey)
  const held = catalog.registry.document(KIND, offered.signer)
  if (!isNewerPolicy(offered, held && ifSound(home, held.bytes))) return false
  const before = policyInForce(parts)
  keep(parts, bytes)
  const after = policyInForce(parts)
  if (!after || after.hash === before?.hash) return true
  catalog.write(() => {
    catalog.decisions.adopt(after)
    const by = home.membership().admins.find(({ key }) => key === after.signer)?.name ?? 'the coordinator'
    catalog.registry.record('fleet', home.host, `The policy is number ${after.sequence} of ${by} now`)
  })
  return true
}

/** What was decided before this coordinator was set back, as peers keep it. */
export function takePolicies(parts: PolicyParts, statements: readonly Buffer[]): void {
  for (const bytes of statements) {
    try {
      takePolicy(parts, bytes)
    } catch (error) {
      if (!hasCode(error, 'FORGED', 'CORRUPT', 'UNSUPPORTED', 'COORDINATOR_READ_ONLY', 'STATE_DAMAGED')) throw error
    }
  }
}

/** Throws NOT_ADMIN where an admin decides, and not this host. */
export function requireNoAdmins(parts: Omit<PolicyParts, 'clock'>): void {
  const now = policyInForce(parts)
  if (!now?.isAdmins) return
  const { name = 'an admin' } = parts.home.membership().admins.find(({ key }) => key === now.signer) ?? {}
  throw new ImagerError('NOT_ADMIN', { what: `The policy is the word of ${name}: it takes the key of an admin` })
}

/** What is decided once this is changed of one disk, or of all without a decision of their own. Pure. */
export function decide(last: PolicyBody | undefined, of: VolumeId | null, change: Partial<Policy>): Decided {
  const { rules, volumes } = last ?? { rules: NOTHING, volumes: [] }
  const plain = ({ tolerate, maxAgeMs }: Policy): Policy => ({ tolerate, maxAgeMs })
  const rows = volumes.map(({ appliance, volume, ...one }) => ({ appliance, volume, ...plain(one) }))
  if (!of) return { rules: { ...plain(rules), ...change }, volumes: rows }
  const own = rows.find((one) => idOf(one) === idOf(of)) ?? { ...of, ...plain(NOTHING) }
  return { rules: plain(rules), volumes: [...rows.filter((one) => one !== own), { ...own, ...change }] }
}

/** The next one, with these decisions; what else the last one said stays. Pure. */
export function changedPolicy(
  last: PolicyBody | undefined,
  { fleet, term }: Pick<PolicyBody, 'fleet' | 'term'>,
  decided: Decided,
  time: number,
): PolicyBody {
  const before = new Map(last?.volumes.map((one) => [idOf(one), one]))
  const listed = decided.volumes.map((one) => ({ ...one, keep: before.get(idOf(one))?.keep ?? null }))
  const known = new Set(decided.volumes.map(idOf))
  const kept = [...before.values()].filter((one) => one.keep !== null && !known.has(idOf(one)))
  return {
    ...{ fleet, term, sequence: (last?.sequence ?? 0) + 1, time },
    rules: { ...(last?.rules ?? NOTHING), ...decided.rules },
    volumes: [...listed, ...kept.map((one) => ({ ...one, tolerate: null, maxAgeMs: null }))],
    quotas: last?.quotas ?? [],
  }
}

function keep({ home, catalog }: PolicyParts, bytes: Buffer): SignedPolicy {
  const policy = openPolicy(bytes, home.membership(), home.rootKey)
  catalog.registry.setDocument(KIND, policy.signer, policy.sequence, bytes)
  return policy
}

function sameRules(decided: Decided, said: PolicyBody | undefined): boolean {
  const rows = (volumes: Decided['volumes']) =>
    volumes
      .filter(({ tolerate, maxAgeMs }) => tolerate !== null || maxAgeMs !== null)
      .map(({ tolerate, maxAgeMs, ...id }) => `${idOf(id)} ${tolerate} ${maxAgeMs}`)
      .sort()
      .join()
  const { tolerate, maxAgeMs } = said?.rules ?? NOTHING
  const { rules, volumes } = decided
  return rules.tolerate === tolerate && rules.maxAgeMs === maxAgeMs && rows(volumes) === rows(said?.volumes ?? [])
}

const idOf = ({ appliance, volume }: { appliance: string; volume: string }) => `${appliance}${volume}`

function ifSound(home: Home, bytes: Buffer): SignedPolicy | undefined {
  try {
    return openPolicy(bytes, home.membership(), home.rootKey)
  } catch (error) {
    if (hasCode(error, 'FORGED', 'CORRUPT', 'UNSUPPORTED')) return undefined
    throw error
  }
}
