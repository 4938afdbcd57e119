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
import type { LocalCatalog } from '../catalog/local.js'
import { openAddress } from '../keys/address.js'
import { isFormer } from '../keys/delegation.js'
import type { Role } from '../keys/fields.js'
import type { Home } from '../keys/home.js'
import { decodeMessage, encodeMessage } from '../wire/message.js'
import { type Route, type Served, serve } from '../wire/server.js'
import { BROUGHT, type Caller, isPersons, NEW, requireRole, SIGNING, TELLING, WHILE_MOVING } from './access.js'
import { Admission } from './admission.js'
import { CALL_NAMES, CALLS, type CallName, type Request } from './calls.js'
import { describeSkew, readSkew, SKEW_HEADER, TIME_HEADER } from './clock-skew.js'
import { DomainKey } from './domain-key.js'
import { type Asked, catalogHandlers, fleetHandlers, type Given, type Handlers } from './handlers.js'
import { type Moving, moveHandlers, movingOf } from './moving.js'
import { replaced } from './replaced.js'
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

/** Serves until closed. The catalog stays open: whoever opened it closes it. */
export async function serveCoordinator(parts: CoordinatorParts): Promise<ServedCoordinator> {
  const { home, catalog } = parts
  let address = parts.publicAddress ?? parts.listen
  // The catalog is closed after it.
  let isOpen = true
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
      setTimeout(() => isOpen && server.dropExpelled(stays), LINGER_MS).unref()
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
  const moving = movingOf(parts, writing)
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
      isOpen = false
      clearInterval(beating)
      moving.close()
      return server.close()
    },
  }
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
