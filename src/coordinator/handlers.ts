/** What each call is answered with, once server.ts has let it through. */
import type { Clock } from '../base/clock.js'
import { ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import type { DeliveredKind } from '../catalog/deliveries.js'
import { encodeLengths } from '../catalog/lengths.js'
import type { LocalCatalog } from '../catalog/local.js'
import { encodeStripes } from '../catalog/snapshots.js'
import { type AddressBody, openAddress } from '../keys/address.js'
import { entryName, mayBeKept, readEntry } from '../keys/entry.js'
import type { Role } from '../keys/fields.js'
import type { Home } from '../keys/home.js'
import { Runs } from '../native.js'
import { ID_BYTES } from '../signatures/rows.js'
import { decodeRuns, encodeRuns, nameStripes, Renumbering } from '../stripes/names.js'
import { type Caller, requireOwn, scopeOf } from './access.js'
import type { Admission } from './admission.js'
import { type Answer, type CallName, EVENT_PAGE, type Request, SNAPSHOT_PAGE } from './calls.js'
import type { DomainKey } from './domain-key.js'
import { keepOrder } from './orders.js'
import { policyInForce, requireNoAdmins, settlePolicy, takePolicy } from './policy.js'
import { retireVolume } from './retirement.js'
import type { Returned } from './returned.js'
import type { Watch } from './watch.js'

export interface Asked<N extends CallName> {
  caller: Caller
  body: Request<N>
  attachment: Buffer
}

export type Given<N extends CallName> = { body: Answer<N>; attachment?: Uint8Array }
export type Handlers = { [N in CallName]: (asked: Asked<N>) => Promise<Given<N>> }

type MoveCall = 'move' | 'standBy' | 'movePart' | 'handOver' | 'takenUp'
type FleetCall =
  | ('join' | 'heartbeat' | 'invite' | 'remove' | 'appoint' | 'dismiss' | 'rename' | 'retire')
  | ('membership' | 'adopt' | 'events' | 'keys' | 'keysOf' | 'checkpoint' | 'show')
  | ('policies' | 'setPolicy' | 'say')
type CatalogCall = Exclude<CallName, FleetCall | MoveCall>

export interface RunParts {
  /** A snapshot is about to be finished: brings its appliance's keys to the peers, as far as that goes in short time. */
  readonly onFinish?: ((appliance: Hex) => Promise<void>) | undefined
  readonly watch?: Watch | undefined
}

export function catalogHandlers(
  catalog: LocalCatalog,
  { onFinish = async () => {}, watch }: RunParts,
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
    async complain({ caller, body: { runs, numbers } }) {
      await catalog.complain(readStripes(catalog, runs, numbers), caller.host, scopeOf(caller) === undefined)
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

export function fleetHandlers(
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

/** Throws FORGED, CORRUPT; NOT_ALLOWED where it is another host's. */
function addressOf(home: Home, caller: Caller, bytes: Buffer): AddressBody {
  const said = openAddress(bytes, home.fleet)
  if (said.host === caller.host) return said
  throw new ImagerError('NOT_ALLOWED', { what: "That is another host's address", role: 'admin' })
}
