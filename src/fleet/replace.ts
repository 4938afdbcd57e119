/**
 * A new server takes the place of one that is gone. The words sign that it does, and open for it the keys to what that one stored,
 * which the coordinator keeps sealed; an admin signs that it does, and has no keys to give: the history goes on, and what was stored
 * before is read with the words. Nothing is signed while the former one is there.
 */
import type { Clock } from '../base/clock.js'
import { hasCode, ImagerError } from '../base/errors.js'
import { type Hex, toHex } from '../base/ids.js'
import { formatSeconds } from '../base/units.js'
import { RemoteCatalog } from '../coordinator/client.js'
import { tlsIdentity } from '../keys/certificate.js'
import { requireAdmin } from '../keys/enroller.js'
import { sealEntry } from '../keys/entry.js'
import { WORDS } from '../keys/labels.js'
import { findHost, type Membership, type MembershipHost, openMembership } from '../keys/membership.js'
import { signReplacement } from '../keys/replacement.js'
import { type Root, rootFromWords } from '../keys/root.js'
import { openForRecovery } from '../keys/succession.js'
import type { Token } from '../keys/token.js'
import type { SecretHandle } from '../native.js'
import { CoordinatorLink } from './link.js'

export interface Replacing {
  /** Name or key of who is gone. */
  readonly name: string
  /** The words, or the key of an admin. */
  readonly by: string | SecretHandle
  readonly evenIfAlive: boolean
}

/** Who takes the place. */
export interface Heir {
  readonly host: Hex
  readonly sealing: Hex
}

export interface Place {
  readonly name: string
  /** In base64. */
  readonly replacement: string
  /** The keys to what the former ones stored, sealed to the heir; none by an admin's word. */
  readonly keys: readonly Buffer[]
}

/** Throws WRONG_WORDS, NOT_ADMIN, NO_SUCH_HOST, STILL_ALIVE; USAGE where it is no server; CORRUPT where nobody kept its keys. */
export async function takePlace(token: Token, replacing: Replacing, heir: Heir, clock: Clock): Promise<Place> {
  const wrong = (what: string) => new ImagerError('USAGE', { what, verb: 'join' })
  if (token.role !== 'appliance') throw wrong(`Only a server takes the place of one; this token is of a ${token.role}`)
  const { by } = replacing
  const root = typeof by === 'string' ? rootOf(by, token) : undefined
  const secret = root?.secret ?? (by as SecretHandle)
  const link = new CoordinatorLink(tlsIdentity(secret), [token.coordinator.address], token.coordinator.key)
  try {
    const coordinator = new RemoteCatalog(link, undefined, clock)
    const as = { reader: root ? WORDS : toHex(secret.signingKey()), secret }
    const membership = openMembership(await coordinator.membership(), token.fleet, token.rootKey, as)
    if (!root) requireAdmin(membership, secret)
    const former = findFormer(membership, replacing.name, heir)
    if (former.role !== 'appliance') throw wrong(`${former.name} is no server, and has no backups of its own`)
    if (!replacing.evenIfAlive && membership.find(former.host)) await requireGone(coordinator, former, clock)
    const keys = root ? await keysOfLine(former, heir, coordinator, membership, root) : []
    const { fleet } = token
    const replacement = signReplacement({ fleet, former: former.host, heir: heir.host }, secret)
    return { name: former.name, replacement, keys }
  } catch (error) {
    // The coordinator lets in members and admins.
    if (root || !hasCode(error, 'REMOVED')) throw error
    const what = `The key ${toHex(secret.signingKey()).slice(0, 16)}... is no admin's of this fleet`
    throw new ImagerError('NOT_ADMIN', { what }, { cause: error })
  } finally {
    link.close()
  }
}

function rootOf(words: string, token: Token): Root {
  const root = rootFromWords(words)
  if (root.rootKey === token.rootKey) return root
  throw new ImagerError('WRONG_WORDS', { what: 'These are the words of another fleet' })
}

async function keysOfLine(
  former: Pick<MembershipHost, 'host' | 'name'>,
  heir: Heir,
  coordinator: RemoteCatalog,
  membership: Membership,
  root: Root,
): Promise<Buffer[]> {
  const keys: Buffer[] = []
  for (const owner of membership.line.of(former.host)) {
    if (owner !== heir.host) keys.push(...sealTo(heir, await coordinator.keysOf(owner), membership, root))
  }
  if (keys.length === 0) throw new ImagerError('CORRUPT', { what: `Nobody kept the keys of ${former.name}` })
  return keys
}

/** A join that was cut short finds the former one gone, and its heir in the place. */
function findFormer(
  membership: Membership,
  wanted: string,
  { host: heir }: Heir,
): Pick<MembershipHost, 'host' | 'name' | 'role'> {
  const own = membership.line.former.filter((one) => membership.line.heirOf(one) === heir)
  const [last] = own
  const self = membership.find(heir)
  if (last && self && (self.name === wanted || last.startsWith(wanted))) {
    return { host: last, name: self.name, role: self.role }
  }
  return findHost(membership.hosts, wanted)
}

async function requireGone(
  coordinator: RemoteCatalog,
  { host, name }: Pick<MembershipHost, 'host' | 'name'>,
  clock: Clock,
) {
  const row = (await coordinator.hosts()).find((one) => one.host === host)
  if (!row || row.away || row.lastSeen === 0) return
  throw new ImagerError('STILL_ALIVE', { name, ago: formatSeconds(Math.max(0, clock.now() - row.lastSeen) / 1000) })
}

function sealTo({ host, sealing }: Heir, entries: readonly Buffer[], membership: Membership, root: Root): Buffer[] {
  const { fleet, term } = membership
  return entries.flatMap((bytes) => {
    const opened = openForRecovery(bytes, membership, root)
    if (!opened || opened.entry.purpose === 'catalog') return []
    const { purpose, rotation, owner, volume } = opened.entry
    const ofVolume = volume === undefined ? {} : { volume }
    const to = { fleet, term, purpose, rotation, owner, reader: host, readerSealing: sealing, ...ofVolume }
    return sealEntry(opened.key, to, root.secret)
  })
}
