/** Who may ask what: one table. Everything not in it is refused. */
import { ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import type { Role } from '../keys/fields.js'
import type { Membership } from '../keys/membership.js'
import { CALL_NAMES, type CallName } from './calls.js'

export interface Caller {
  host: Hex
  /** Undefined: no member. */
  role: Role | undefined
  /** Did the root make it an enroller? */
  enrolls?: boolean
  /** It is the root itself: the recovery words, typed somewhere. */
  isRoot?: boolean
  /** It is the key of an admin, typed somewhere. */
  isAdmin?: boolean
}

const EVERY_MEMBER: readonly CallName[] = ['heartbeat', 'membership', 'self']
const READING: readonly CallName[] = [
  'checkpoint',
  'condition',
  'hosts',
  'runs',
  'snapshots',
  'snapshot',
  'snapshotStripes',
  'locate',
  'records',
  'stripes',
  'receipts',
  'learn',
  'complain',
  'policies',
]
const RUNNING: readonly CallName[] = ['begin', 'lookup', 'place', 'commit', 'finish', 'abandon']

/** What an enroller brings, it has signed: this takes no other role. */
const ENROLLING: readonly CallName[] = ['invite', 'remove', 'hosts', 'checkpoint']

/** These prove by their signature whose word they are: every member may bring them for whoever signed. */
export const BROUGHT: ReadonlySet<CallName> = new Set(['invite', 'remove', 'appoint', 'dismiss', 'say', 'move'])
/** What goes on while the coordinator moves: nothing that the copy would lack. */
export const WHILE_MOVING: ReadonlySet<CallName> = new Set([
  ...EVERY_MEMBER,
  ...READING.filter((name) => name !== 'learn'),
  ...(['events', 'keysOf', 'move', 'standBy', 'movePart', 'handOver', 'takenUp'] as const),
])

/** What a coordinator does not take while it may not know what was stored before. */
export const NEW: ReadonlySet<CallName> = new Set(['begin', 'lookup', 'place', 'commit', 'finish'])

/** What signs a membership, and must not sign one beside a newer one. */
export const SIGNING: ReadonlySet<CallName> = new Set([
  ...(['join', 'remove', 'rename', 'appoint', 'dismiss'] as const),
  ...(['setPolicy', 'say'] as const),
])
/** What one still answers whose term is over: by the membership its members learn who is coordinator now. */
export const TELLING: ReadonlySet<CallName> = new Set(['membership', 'heartbeat', 'standBy', 'takenUp'])

/** Whoever has the words looks before he signs. */
const ROOT: readonly CallName[] = ['membership', 'hosts', 'keysOf']
/** So does an admin; what is sealed to the words is nothing to him. */
const ADMIN: readonly CallName[] = ['membership', 'hosts']

const MAY: Record<Role, ReadonlySet<CallName>> = {
  peer: new Set(EVERY_MEMBER),
  appliance: new Set([...EVERY_MEMBER, ...READING, ...RUNNING, 'keys']),
  admin: new Set(CALL_NAMES.filter((name) => name !== 'move')),
  coordinator: new Set(CALL_NAMES),
  restorer: new Set(EVERY_MEMBER),
  lender: new Set(EVERY_MEMBER),
}

/** Throws NOT_ALLOWED naming the least role that may. `brings`: with a statement that somebody signed. */
export function requireRole(
  { role, enrolls = false, isRoot = false, isAdmin = false }: Caller,
  name: CallName,
  brings = false,
): void {
  if (name === 'join' || name === 'show' || (role !== undefined && MAY[role].has(name))) return
  if (role !== undefined && brings && BROUGHT.has(name)) return
  if (role !== undefined && enrolls && ENROLLING.includes(name)) return
  if (isRoot && ROOT.includes(name)) return
  if (isAdmin && ADMIN.includes(name)) return
  const needed = MAY.appliance.has(name) ? 'appliance' : MAY.admin.has(name) ? 'admin' : 'coordinator'
  const what = role === undefined ? `A stranger may not ask for ${name}` : `The role ${role} may not ask for ${name}`
  throw new ImagerError('NOT_ALLOWED', { what, role: needed })
}

/** Whose snapshots a caller sees: an appliance its own, the others all. */
export function scopeOf({ host, role }: Caller): Hex | undefined {
  return role === 'admin' || role === 'coordinator' ? undefined : host
}

/** An appliance acts for itself only. */
export function requireOwn(caller: Caller, owner: Hex | undefined): void {
  const scope = scopeOf(caller)
  if (scope === undefined || owner === undefined || owner === scope) return
  throw new ImagerError('NOT_ALLOWED', { what: 'That belongs to another appliance', role: 'admin' })
}

/** Is it the root, or an admin, a person's key? */
export function isPersons(home: { membership(): Membership; readonly rootKey: Hex }, host: Hex): boolean {
  return home.membership().adminsBy(home.rootKey).isAdmin(host)
}
