/**
 * The words take a fleet over: every key that its hosts sealed to recovery, and the statements that put another host in
 * the coordinator's place. The term rises, so whatever the former coordinator signs counts for less from then on.
 */
import { hasCode, ImagerError } from '../base/errors.js'
import { type Hex, toHex } from '../base/ids.js'
import type { SecretHandle } from '../native.js'
import { DUTIES, signDelegation } from './delegation.js'
import { type KeyEntry, type KeyPurpose, openEntry, openKeybag, RECOVERY, sealEntry } from './keybag.js'
import { type Membership, openMembership, signMembership, uniqueName } from './membership.js'
import type { Root } from './root.js'

export interface FleetKeys {
  readonly domain: SecretHandle
  readonly catalog: SecretHandle
  /** M_a by appliance. */
  readonly manifests: ReadonlyMap<Hex, SecretHandle>
}

/**
 * What is shared comes from whoever the root made a holder, in whichever term: an earlier recovery may have been cut short
 * before its host's keybag spread. The newest holder counts. Undefined where the shared keys are not among them.
 */
export function openFleetKeys(
  keybags: readonly Uint8Array[],
  membership: Membership,
  root: Root,
): FleetKeys | undefined {
  const shared = new Map<KeyPurpose, { key: SecretHandle; term: number }>()
  const manifests = new Map<Hex, SecretHandle>()
  const accept = (signer: Hex, entry: KeyEntry) =>
    signer === entry.owner && (entry.purpose === 'manifest' || holderTerm(membership, signer) > 0)
  for (const bytes of keybags.flatMap((bag) => openKeybag(bag, membership.fleet).entries)) {
    const opened = openIfMeant(bytes, { fleet: membership.fleet, reader: RECOVERY, secret: root.secret, accept })
    if (!opened) continue
    const { key, entry } = opened
    const term = holderTerm(membership, entry.owner)
    if (entry.purpose === 'manifest') manifests.set(entry.owner, key)
    else if (term > (shared.get(entry.purpose)?.term ?? 0)) shared.set(entry.purpose, { key, term })
  }
  const [domain, catalog] = [shared.get('domain')?.key, shared.get('catalog')?.key]
  return domain && catalog ? { domain, catalog, manifests } : undefined
}

export interface Successor {
  readonly name: string
  /** What fails with it; undefined: nothing. */
  readonly domain?: string | undefined
  /** Where it will listen as coordinator. */
  readonly address: string
}

/**
 * The next membership, and the key statements of the successor: the shared keys sealed to itself and to recovery, every
 * appliance's manifest key sealed to itself by the root. Peers and appliances stay, former coordinators go.
 */
export function succeed(
  before: Membership,
  keys: FleetKeys,
  root: Root,
  { name, domain, address }: Successor,
  identity: SecretHandle,
): { membership: Membership; keys: Buffer[] } {
  const { fleet, term: lastTerm, sequence } = before
  const host = toHex(identity.signingKey())
  const sealing = toHex(identity.sealingKey())
  const term = lastTerm + 1
  // Former holders stay known, so that what they sealed to recovery stays believed.
  const holders = before.body.delegations.filter((_, index) => before.delegations[index]?.duty === 'holder')
  const own = DUTIES.map((duty) => signDelegation({ fleet, term, duty, host }, root.secret).toString('base64'))
  const others = before.hosts.filter((one) => one.role !== 'coordinator' && one.host !== host)
  const unique = uniqueName(
    name,
    others.map((one) => one.name),
  )
  const self = {
    host,
    sealing,
    name: unique,
    role: 'coordinator' as const,
    domain: domain ?? host,
    addresses: [address],
  }
  const body = { fleet, sequence: sequence + 1, term, delegations: [...own, ...holders], hosts: [...others, self] }
  const membership = openMembership(signMembership(body, identity), fleet, root.rootKey)
  const seal = (purpose: KeyPurpose, key: SecretHandle, reader: Hex, readerSealing: Hex) =>
    sealEntry(key, { fleet, purpose, owner: host, reader, readerSealing }, identity)
  const shared = (purpose: KeyPurpose, key: SecretHandle) => [
    seal(purpose, key, host, sealing),
    seal(purpose, key, RECOVERY, root.rootSealing),
  ]
  const manifests = [...keys.manifests].map(([owner, key]) =>
    sealEntry(key, { fleet, purpose: 'manifest', owner, reader: host, readerSealing: sealing }, root.secret),
  )
  return { membership, keys: [...shared('domain', keys.domain), ...shared('catalog', keys.catalog), ...manifests] }
}

function holderTerm(membership: Membership, host: Hex): number {
  const terms = membership.delegations.filter((one) => one.duty === 'holder' && one.host === host)
  return Math.max(0, ...terms.map((one) => one.term))
}

/** Most entries of a keybag are for others. */
function openIfMeant(...args: Parameters<typeof openEntry>): ReturnType<typeof openEntry> | undefined {
  try {
    return openEntry(...args)
  } catch (error) {
    if (error instanceof ImagerError && hasCode(error, 'FORGED', 'CORRUPT', 'UNSUPPORTED')) return undefined
    throw error
  }
}
