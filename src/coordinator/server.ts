/**
 * The coordinator: the catalog, the master file and admission over the network. No block ever passes through it. Each call
 * is looked up in `CALLS`, its caller's role in `access.ts`, its body in the schema, and only then is it answered; what is
 * refused leaves an event.
 */
import * as v from 'valibot'
import { type Clock, systemClock } from '../base/clock.js'
import { hasCode, ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import { HEARTBEAT_MS, LINGER_MS } from '../base/limits.js'
import type { DeliveredKind } from '../catalog/deliveries.js'
import type { Heartbeat } from '../catalog/hosts.js'
import { encodeLengths } from '../catalog/lengths.js'
import type { LocalCatalog } from '../catalog/local.js'
import { encodeStripes } from '../catalog/snapshots.js'
import { type AddressBody, openAddress } from '../keys/address.js'
import { isFormer } from '../keys/delegation.js'
import { entryName, mayBeKept, readEntry } from '../keys/entry.js'
import type { Role } from '../keys/fields.js'
import type { Home } from '../keys/home.js'
import { Runs } from '../native.js'
import { ID_BYTES } from '../signatures/rows.js'
import { decodeRuns, encodeRuns, nameStripes, Renumbering } from '../stripes/names.js'
import { decodeMessage, encodeMessage } from '../wire/message.js'
import { type Route, type Served, serve } from '../wire/server.js'
import {
  BROUGHT,
  type Caller,
  NEW,
  requireOwn,
  requireRole,
  SIGNING,
  scopeOf,
  TELLING,
  WHILE_MOVING,
} from './access.js'
import { Admission } from './admission.js'
import { type Answer, CALL_NAMES, CALLS, type CallName, EVENT_PAGE, type Request, SNAPSHOT_PAGE } from './calls.js'
import { describeSkew, readSkew, SKEW_HEADER, TIME_HEADER } from './clock-skew.js'
import { DomainKey } from './domain-key.js'
import { Moving, moveHandlers } from './moving.js'
import { keepOrder } from './orders.js'
import { policyInForce, requireNoAdmins, settlePolicy, takePolicy } from './policy.js'
import { replaced } from './replaced.js'
import { retireVolume } from './retirement.js'
import { Returned } from './returned.js'
import type { Watch } from './watch.js'
import { Writing } from './writing.js'

export interface CoordinatorParts {
  home: Home
  catalog: LocalCatalog
  clock?: Clock
  /** `host:port` to listen on; port 0 takes a free one. */
  listen: string
  /** What joining hosts are told, where it is not the address listened on. */
  publicAddress?: string
  /** What the coordinator's own host offers; without a store, nothing. */
  offer?: () => Heartbeat
  /** A signed document that belongs on every peer. */
  onDocument?: (kind: DeliveredKind, name: string, bytes: Buffer) => void
  /** A snapshot is about to be finished: brings its appliance's keys to the peers, as far as that goes in short time. */
  onFinish?: (appliance: Hex) => Promise<void>
  /** What its witnesses say of it; without them nobody watches. */
  watch?: Watch
  /** Sees each call that was answered, with the two bodies. */
  onAnswer?: (call: CallName, received: Buffer, sent: Buffer) => void
}

export interface ServedCoordinator extends Served {
  /** Does what could not be done while nothing could be written. */
  catchUp(): void
  /** Takes over the membership of the state folder, which is newer than the catalog's. */
  adopt(): void
}

interface Asked<N extends CallName> {
  caller: Caller
  body: Request<N>
  attachment: Buffer
}

type Given<N extends CallName> = { body: Answer<N>; attachment?: Uint8Array }
type Handlers = { [N in CallName]: (asked: Asked<N>) => Promise<Given<N>> }

/** Serves until closed. The catalog stays open: whoever opened it closes it. */
export async function serveCoordinator(parts: CoordinatorParts): Promise<ServedCoordinator> {
  const { home, catalog } = parts
  let address = parts.publicAddress ?? parts.listen
  const onDocument = parts.onDocument ?? (() => {})
  const onKey = (name: string, bytes: Buffer) => onDocument('key', name, bytes)
  const domainKey = new DomainKey({ home, catalog, onKey })
  const admission = new Admission({
    home,
    catalog,
    domainKey,
    address: () => address,
    onMembership(bytes) {
      onDocument('membership', home.fleet, bytes)
      // Each request is refused from now on; whoever removed himself hears that he did.
      const stays = (host: Hex) => isPersons(home, host) || roleOf(parts, host) !== undefined
      setTimeout(() => server.dropExpelled(stays), LINGER_MS).unref()
    },
  })
  const returned = new Returned(catalog, home)
  const keepAddress = (host: Hex, sequence: number, bytes: Buffer) => {
    try {
      if (catalog.registry.keepAddress(host, sequence, bytes)) onDocument('address', host, bytes)
    } catch (error) {
      if (!hasCode(error, 'COORDINATOR_READ_ONLY', 'STATE_DAMAGED')) throw error
    }
  }
  const writing = new Writing()
  const moving = new Moving({
    ...{ home, catalog },
    async freeze() {
      await parts.watch?.freeze()
      await writing.ended()
    },
    thaw: () => parts.watch?.thaw(),
    onTaken: () => parts.watch?.leave(),
  })
  const handlers = {
    ...moveHandlers(moving),
    ...catalogHandlers(catalog, parts, returned, domainKey),
    ...fleetHandlers(home, catalog, admission, {
      ...{ onKey, keepAddress, watch: parts.watch, onDocument, clock: parts.clock ?? systemClock },
    }),
  }
  const routes = CALL_NAMES.map((name) => toRoute(name, handlers, { ...parts, moving, writing }))
  const admit = (host: string) => {
    const isMember = roleOf(parts, host) !== undefined
    const { line, parts: said } = home.membership()
    if (!isMember && (isFormer(home.membership(), host) || line.isFormer(host))) returned.note(host)
    else if (!isMember && said.removals.some((one) => one.host === host)) returned.noteRemoved(host)
    // The words, and the key of an admin, let somebody look, wherever they are typed.
    return isMember || isPersons(home, host)
  }
  const tell = (host: Hex) => {
    const { line } = home.membership()
    if (!line.isFormer(host)) return undefined
    return new ImagerError('PLACE_TAKEN', { heir: catalog.members.name(line.heirOf(host)) })
  }
  const server = await serve({ tls: home.tls, listen: parts.listen, routes, admit, tell })
  address = parts.publicAddress ?? server.address
  let beatAt = performance.now()
  const beat = () => {
    // Stopped or suspended in between, it heard nobody.
    if (performance.now() - beatAt > 2 * HEARTBEAT_MS) listenAgain(parts)
    beatAt = performance.now()
    const none = { addresses: [address], freeBytes: 0, usedBytes: 0, capacityBytes: 0, storage: '', store: null }
    catalog.heartbeat(home.host, parts.offer?.() ?? none)
    home.addresses.learn([[home.host, [address]]])
    const own = home.addresses.own(home.fleet, home.host, [address], (parts.clock ?? systemClock).now(), home.secret)
    keepAddress(home.host, openAddress(own, home.fleet).sequence, own)
  }
  listenAgain(parts)
  beat()
  const beating = setInterval(beat, HEARTBEAT_MS)
  return {
    address: server.address,
    catchUp: () => admission.catchUp(),
    adopt: () => admission.adopt(),
    close() {
      clearInterval(beating)
      moving.close()
      return server.close()
    },
  }
}

/** Throws FORGED, CORRUPT; NOT_ALLOWED where it is another host's. */
function addressOf(home: Home, caller: Caller, bytes: Buffer): AddressBody {
  const said = openAddress(bytes, home.fleet)
  if (said.host === caller.host) return said
  throw new ImagerError('NOT_ALLOWED', { what: "That is another host's address", role: 'admin' })
}

/** Is it the root, or an admin? */
function isPersons(home: Home, host: Hex): boolean {
  return home.membership().adminsBy(home.rootKey).isAdmin(host)
}

/** As far as the catalog can be read now. */
function listenAgain({ home, catalog }: CoordinatorParts): void {
  try {
    catalog.members.listen(home.host)
  } catch (error) {
    if (!hasCode(error, 'COORDINATOR_READ_ONLY', 'STATE_DAMAGED')) throw error
  }
}

/** Where the catalog cannot be read now, the membership that was signed last has to do. */
function roleOf({ home, catalog }: CoordinatorParts, host: Hex): Role | undefined {
  try {
    return catalog.members.role(host)
  } catch (error) {
    if (!hasCode(error, 'COORDINATOR_READ_ONLY', 'STATE_DAMAGED')) throw error
    return home.membership().role(host)
  }
}

interface RouteParts extends CoordinatorParts {
  readonly moving: Moving
  readonly writing: Writing
}

function toRoute<N extends CallName>(name: N, handlers: Handlers, parts: RouteParts): Route {
  const { catalog, onAnswer, moving, writing, clock = systemClock } = parts
  const isReading = WHILE_MOVING.has(name)
  const { request: schema, maxBytes, open } = CALLS[name]
  const handler = handlers[name] as (asked: Asked<N>) => Promise<Given<N>>
  return {
    method: 'POST',
    path: `/v1/${name}`,
    open,
    maxBytes,
    async handle(request) {
      const enrolls = parts.home.membership().delegated(request.host, 'enroller')
      const isRoot = request.host === parts.home.rootKey
      const isAdmin = isPersons(parts.home, request.host)
      const caller = { host: request.host, role: roleOf(parts, request.host), enrolls, isRoot, isAdmin }
      try {
        requireRole(caller, name, true)
        if (parts.watch?.isReplaced && !TELLING.has(name)) throw replaced(parts.home)
        if (moving.trouble && !isReading) throw moving.trouble
        if (NEW.has(name)) await parts.watch?.requireCurrent()
        if (SIGNING.has(name)) await parts.watch?.asked
        noteCall(catalog, caller, readSkew(request.headers[SKEW_HEADER]))
        const received = await request.body()
        if (BROUGHT.has(name)) requireRole(caller, name, decodeMessage(v.unknown(), received).attachment.length > 0)
        const { body, attachment } = decodeMessage(schema, received)
        const asked = { caller, body: body as Request<N>, attachment }
        if (moving.trouble && !isReading) throw moving.trouble
        const given = await (isReading ? handler(asked) : writing.during(() => handler(asked)))
        // Else a coordinator that is set back a moment later would not be told of it.
        if (SIGNING.has(name)) await parts.watch?.advanceShortly()
        const sent = encodeMessage(given.body, given.attachment)
        onAnswer?.(name, received, sent)
        return { body: sent, headers: { [TIME_HEADER]: String(clock.now()) } }
      } catch (error) {
        if (hasCode(error, 'NOT_ALLOWED', 'WRONG_KEY', 'FORGED')) recordRefusal(parts.catalog, caller, error)
        throw error
      }
    },
  }
}

/** When a member was last heard of, and its clock. A disk that is full or read-only keeps nobody from reading. */
function noteCall({ members, registry }: LocalCatalog, { host, role }: Caller, clockSkewMs: number | undefined): void {
  if (role === undefined) return
  try {
    if (!members.called(host, clockSkewMs)) return
    registry.record('alarm', host, describeSkew(members.name(host), clockSkewMs ?? 0))
  } catch (error) {
    if (!hasCode(error, 'COORDINATOR_READ_ONLY', 'STATE_DAMAGED')) throw error
  }
}

/** The caller hears why he was refused, whether or not it can be written down. */
function recordRefusal(catalog: LocalCatalog, caller: Caller, { message }: ImagerError): void {
  try {
    const who = caller.role === undefined ? 'a stranger' : catalog.members.name(caller.host)
    catalog.registry.record('refusal', caller.host, `Refused ${who}: ${message}`)
  } catch (error) {
    if (!hasCode(error, 'COORDINATOR_READ_ONLY', 'STATE_DAMAGED')) throw error
  }
}

type MoveCall = 'move' | 'standBy' | 'movePart' | 'handOver' | 'takenUp'
type FleetCall =
  | ('join' | 'heartbeat' | 'invite' | 'remove' | 'appoint' | 'dismiss' | 'rename' | 'retire')
  | ('membership' | 'adopt' | 'events' | 'keys' | 'keysOf' | 'checkpoint' | 'show')
  | ('policies' | 'setPolicy' | 'say')
type CatalogCall = Exclude<CallName, FleetCall | MoveCall>

function catalogHandlers(
  catalog: LocalCatalog,
  { onFinish = async () => {}, watch }: Pick<CoordinatorParts, 'onFinish' | 'watch'>,
  returned: Returned,
  domainKey: DomainKey,
): Pick<Handlers, CatalogCall> {
  const ownLease = (caller: Caller, lease: string) => requireOwn(caller, catalog.leaseOwner(lease))
  return {
    async self({ caller }) {
      const row = (await catalog.hosts()).find(({ host }) => host === caller.host)
      if (!row) throw new ImagerError('NOT_ALLOWED', { what: 'It is no member of the fleet', role: 'peer' })
      return { body: row }
    },
    async condition() {
      const problems = [...(await catalog.condition()), ...(watch?.conditions() ?? []), ...returned.conditions()]
      return { body: { problems } }
    },
    hosts: async () => ({ body: { hosts: await catalog.hosts() } }),
    async begin({ caller, body }) {
      requireOwn(caller, body.appliance)
      const begun = await catalog.begin(body)
      const given = caller.host === body.appliance ? domainKey.forRun(caller.host) : undefined
      return { body: begun, ...(given && { attachment: given }) }
    },
    async lookup({ caller, body: { lease, tolerate }, attachment }) {
      ownLease(caller, lease)
      const births = await catalog.lookup(lease, attachment, tolerate)
      const table = new Runs()
      const named = table.translate(births, catalog.names)
      return { body: { runs: encodeRuns(table) }, attachment: bytesOf(named) }
    },
    async place({ caller, body: { lease, number, ...request } }) {
      ownLease(caller, lease)
      const stripe = catalog.stripeOfLease(lease, number)
      return { body: { grants: await catalog.place(lease, { stripe, ...request }) } }
    },
    async commit({ caller, body: { lease, number, ...request }, attachment }) {
      ownLease(caller, lease)
      const stripe = catalog.stripeOfLease(lease, number)
      await catalog.commit(lease, { stripe, ...request, records: attachment })
      return { body: {} }
    },
    async finish({ caller, body: { lease, headBytes, asked, summary }, attachment }) {
      ownLease(caller, lease)
      const head = attachment.subarray(0, headBytes)
      const references = attachment.subarray(headBytes)
      await onFinish(caller.host)
      const request = { head, references, asked, summary }
      const finished = await catalog.finish(lease, request)
      if (!watch) return { body: finished }
      await watch.advance()
      // Asked again it says how it stands now.
      return { body: await catalog.finish(lease, request), attachment: watch.cosigned() }
    },
    async abandon({ caller, body: { lease, failure } }) {
      ownLease(caller, lease)
      await catalog.abandon(lease, failure)
      return { body: {} }
    },
    runs: async ({ caller }) => ({ body: { runs: await catalog.runs(scopeOf(caller)) } }),
    async snapshots({ caller, body: { skip } }) {
      const rows = await catalog.snapshots(scopeOf(caller))
      return { body: { snapshots: rows.slice(skip, skip + SNAPSHOT_PAGE), total: rows.length } }
    },
    async snapshot({ caller, body: { name, ...among } }) {
      const { head, ...row } = await catalog.snapshot(name, among, scopeOf(caller))
      return { body: row, attachment: head }
    },
    async locate({ body: { runs, except }, attachment }) {
      const count = attachment.length / (ID_BYTES + 8)
      if (!Number.isInteger(count)) throw new ImagerError('PROTOCOL', { what: `${attachment.length} bytes to locate` })
      const ids = attachment.subarray(0, count * ID_BYTES)
      const births = readBirths(catalog, runs, attachment.subarray(ids.length))
      const { stripes, offsets, lengths } = await catalog.locate(ids, births, readStripes(catalog, runs, except))
      const { runs: named, numbers } = nameStripes(catalog.names, Array.from(stripes, Number))
      const found = [BigUint64Array.from(numbers, BigInt), offsets, lengths]
      return { body: { runs: named }, attachment: Buffer.concat(found.map(bytesOf)) }
    },
    async records({ caller, body: { runs, numbers } }) {
      const here = readStripes(catalog, runs, numbers)
      return { body: {}, attachment: encodeLengths(await catalog.records(here, scopeOf(caller))) }
    },
    async stripes({ body: { runs, numbers } }) {
      const here = readStripes(catalog, runs, numbers)
      const asked = new Map(here.map((stripe, at) => [stripe, numbers[at] as number]))
      const rows = await catalog.stripes(here.filter((stripe) => stripe > 0))
      return { body: { stripes: rows.map((row) => ({ ...row, stripe: asked.get(row.stripe) as number })) } }
    },
    async receipts({ body: { runs, numbers } }) {
      const here = readStripes(catalog, runs, numbers)
      const asked = new Map(here.map((stripe, at) => [stripe, numbers[at] as number]))
      const rows = await catalog.receipts(here.filter((stripe) => stripe > 0))
      return { body: { stripes: rows.map((row) => ({ ...row, stripe: asked.get(row.stripe) as number })) } }
    },
    async snapshotStripes({ caller, body: { name } }) {
      const stripes = await catalog.snapshotStripes(name, scopeOf(caller))
      const { runs, numbers } = nameStripes(catalog.names, stripes)
      return { body: { runs }, attachment: encodeStripes(numbers) }
    },
    async learn({ caller, body: { runs, findings, inspected } }) {
      const stripes = findings.map(({ stripe }) => stripe)
      const here = readStripes(catalog, runs, stripes)
      const known = findings.map((finding, at) => ({ ...finding, stripe: here[at] as number }))
      await catalog.learn(known, inspected, caller.host, scopeOf(caller) === undefined)
      return { body: {} }
    },
  }
}

interface FleetParts {
  readonly onKey: (name: string, bytes: Buffer) => void
  readonly keepAddress: (host: Hex, sequence: number, bytes: Buffer) => void
  readonly watch: Watch | undefined
  readonly onDocument: (kind: DeliveredKind, name: string, bytes: Buffer) => void
  readonly clock: Clock
}

function fleetHandlers(
  home: Home,
  catalog: LocalCatalog,
  admission: Admission,
  { onKey, keepAddress, watch, onDocument, clock }: FleetParts,
): Pick<Handlers, FleetCall> {
  return {
    async policies({ caller }) {
      const said = policyInForce({ home, catalog })?.bytes ?? Buffer.alloc(0)
      return { body: await catalog.policies(scopeOf(caller)), attachment: said }
    },
    async setPolicy({ body: { of, policy } }) {
      requireNoAdmins({ home, catalog })
      await catalog.setPolicy(of, policy)
      const signed = settlePolicy({ home, catalog, clock })
      if (signed) onDocument('policy', signed.signer, signed.bytes)
      return { body: {} }
    },
    async say({ body: { kind }, attachment }) {
      if (kind !== 'policy') onDocument(kind, keepOrder(home, catalog, kind, attachment), attachment)
      else if (takePolicy({ home, catalog, clock }, attachment)) onDocument(kind, '', attachment)
      else throw new ImagerError('HOST_REFUSED', { host: 'The coordinator', why: 'it knows a newer policy' })
      return { body: {} }
    },
    checkpoint: async () => ({ body: {}, attachment: watch?.cosigned() ?? Buffer.alloc(0) }),
    show: async ({ body: { kind }, attachment }) => ({ body: (await watch?.show(kind, attachment)) ?? {} }),
    async join({ caller, body, attachment }) {
      const answer = admission.join(caller.host, body, attachment)
      return { body: answer, attachment: home.membership().bytes }
    },
    async heartbeat({ caller, body, attachment }) {
      const said = attachment.length > 0 ? addressOf(home, caller, attachment) : undefined
      if (body.storage !== '' && !body.store) throw new ImagerError('PROTOCOL', { what: 'a store without its id' })
      const addresses = said?.addresses ?? catalog.members.addresses(caller.host)
      catalog.heartbeat(caller.host, { ...body, addresses })
      if (said) keepAddress(caller.host, said.sequence, attachment)
      watch?.heard()
      const { term, handed, sequence } = home.membership()
      const wanted = catalog.knowledge.stock.wants(caller.host)
      return { body: { term, handed, sequence, name: catalog.members.name(caller.host), wanted } }
    },
    async invite({ body, attachment }) {
      if (attachment.length === 0) return { body: admission.invite(body.role) }
      return { body: { token: '', expires: admission.vouch(attachment) } }
    },
    async remove({ body, attachment }) {
      return { body: admission.remove(body.host, body.force, attachment.length > 0 ? attachment : undefined) }
    },
    async appoint({ body, attachment }) {
      const answer = admission.appoint(body, attachment)
      return { body: answer, attachment: home.membership().bytes }
    },
    async dismiss({ body, attachment }) {
      const answer = admission.dismiss(body, attachment)
      return { body: answer, attachment: home.membership().bytes }
    },
    rename: async ({ body }) => ({ body: admission.rename(body.host, body.name) }),
    async retire({ body: { retired, ...volume } }) {
      retireVolume(catalog, volume, retired)
      return { body: {} }
    },
    async adopt({ attachment }) {
      admission.beginTerm(attachment)
      return { body: {} }
    },
    membership: async ({ body }) => ({ body: {}, attachment: admission.after(body.after) }),
    events: async ({ body }) => ({ body: { events: catalog.registry.events(body.after, EVENT_PAGE) } }),
    async keysOf({ body: { host } }) {
      const entries = catalog.registry.keysOf(host).flatMap(({ name }) => {
        return catalog.registry.document('key', name)?.bytes.toString('base64') ?? []
      })
      return { body: { entries } }
    },
    async keys({ caller, body }) {
      const entries = body.entries.map((text) => Buffer.from(text, 'base64'))
      const named = entries.map((bytes) => ({ name: ownKeyName(home, caller, bytes), bytes }))
      for (const { name, bytes } of named) if (catalog.registry.takeKey(name, bytes)) onKey(name, bytes)
      return { body: {} }
    },
  }
}

/** Stripes of a message by the numbers that the catalog has for them here; 0 for one of a run that it does not know. */
function readStripes(catalog: LocalCatalog, runs: readonly string[], stripes: readonly number[]): number[] {
  const table = decodeRuns(runs)
  if (!table) throw new ImagerError('PROTOCOL', { what: 'a run is named twice' })
  const reading = new Renumbering(table, catalog.names, 'none')
  return stripes.map((stripe) => reading.stripe(stripe))
}

/** The name of an entry that peers will keep as well. Throws FORGED, NOT_ALLOWED. */
function ownKeyName(home: Home, { host }: Caller, bytes: Buffer): string {
  const { entry, signer } = readEntry(bytes)
  if (entry.fleet !== home.fleet) throw new ImagerError('FORGED', { what: 'A key belongs to another fleet' })
  const notAllowed = (what: string, role: Role) => new ImagerError('NOT_ALLOWED', { what, role })
  if (entry.owner !== host) throw notAllowed("That is another host's key", 'admin')
  if (mayBeKept(signer, entry, home.membership(), home.rootKey)) return entryName(entry)
  throw notAllowed('No peer would keep this key of the host', 'appliance')
}

/** The same of births; an ordinal of an unknown run's is of no interest. */
function readBirths(catalog: LocalCatalog, runs: readonly string[], bytes: Uint8Array): BigUint64Array {
  const births = new BigUint64Array(new Uint8Array(bytes).buffer)
  const stripes = readStripes(
    catalog,
    runs,
    Array.from(births, (birth) => Number(birth >> 16n)),
  )
  return births.map((birth, at) => (BigInt(stripes[at] as number) << 16n) | (birth & 0xffffn))
}

/** Little-endian, as every machine that runs this is. */
function bytesOf(values: BigUint64Array | Uint32Array): Buffer {
  return Buffer.from(values.buffer, values.byteOffset, values.byteLength)
}
