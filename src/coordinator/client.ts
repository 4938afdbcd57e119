/** The catalog asked over the network. Same interface, same errors as `LocalCatalog`; each answer is checked before use. */
import { randomBytes } from 'node:crypto'
import { type Clock, systemClock } from '../base/clock.js'
import { hasCode, ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import { MESSAGE_BYTES } from '../base/limits.js'
import { isMeant } from '../catalog/choose.js'
import type { Heartbeat } from '../catalog/hosts.js'
import { decodeLengths } from '../catalog/lengths.js'
import type { EventRow } from '../catalog/registry.js'
import { decodeStripes } from '../catalog/snapshots.js'
import type {
  Among,
  BeginRequest,
  Begun,
  Catalog,
  CommitRequest,
  Condition,
  Finding,
  Finished,
  FinishRequest,
  FoundSnapshot,
  HostRow,
  Located,
  PlaceRequest,
  Policy,
  RunRow,
  SignedStripe,
  SnapshotRow,
  StripeRow,
  VolumePolicy,
} from '../catalog/types.js'
import type { DismissalParts } from '../keys/enroller.js'
import type { Handed, Place } from '../keys/handover.js'
import { type JoinRole, type TokenKey, tokenId } from '../keys/token.js'
import { Runs } from '../native.js'
import { ID_BYTES } from '../signatures/rows.js'
import { decodeRuns, encodeRuns, nameStripes, numberOf, Renumbering, type RunsHandle } from '../stripes/names.js'
import type { Requester } from '../wire/client.js'
import { decodeMessage, encodeMessage } from '../wire/message.js'
import {
  type Answer,
  CALLS,
  type CallName,
  EVENT_PAGE,
  FINDINGS_PAGE,
  RECEIPTS_PAGE,
  RECORDS_PAGE,
  type Request,
  STRIPE_PAGE,
} from './calls.js'
import { measureSkew, SKEW_HEADER, TIME_HEADER } from './clock-skew.js'
import { type Patience, Pauses } from './patience.js'

export interface Joining extends Omit<Request<'join'>, 'token'> {
  /** Of the token. */
  key: TokenKey
  /** What that key signed. */
  admission: Buffer
}

interface Given<N extends CallName> {
  body: Answer<N>
  attachment: Buffer
}

export class RemoteCatalog implements Catalog {
  readonly names: RunsHandle = new Runs()
  readonly #connection: Requester
  readonly #patience: Patience | undefined
  readonly #clock: Clock
  readonly #onCheckpoint: (cosigned: Buffer) => void
  #clockSkewMs: number | undefined
  #answered = false

  /**
   * The connection is the caller's to close. Without patience, a call is repeated once, if the coordinator answered before.
   * `onCheckpoint` hears what comes along with a `finish`, as `checkpoint` gives it.
   */
  constructor(
    connection: Requester,
    patience?: Patience,
    clock: Clock = systemClock,
    onCheckpoint: (cosigned: Buffer) => void = () => {},
  ) {
    this.#connection = connection
    this.#patience = patience
    this.#clock = clock
    this.#onCheckpoint = onCheckpoint
  }

  /** The own clock less the coordinator's, as the last answer showed it. It is told with each call. */
  get clockSkewMs(): number | undefined {
    return this.#clockSkewMs
  }

  /** What the coordinator knows of this host. */
  async self(): Promise<HostRow> {
    return (await this.#call('self', {})).body
  }

  async condition(): Promise<Condition[]> {
    return (await this.#call('condition', {})).body.problems
  }

  async hosts(): Promise<HostRow[]> {
    return (await this.#call('hosts', {})).body.hosts
  }

  async begin(request: BeginRequest): Promise<Begun> {
    const drawn = { lease: randomBytes(16).toString('hex'), run: randomBytes(8).toString('hex'), ...request }
    const { body, attachment } = await this.#call('begin', drawn)
    // By the run its stripes are named: a name that was used before is taken.
    if (body.lease !== drawn.lease || body.run !== drawn.run) throw lied('begin', 'another run than was begun')
    return attachment.length > 0 ? { ...body, domainKey: attachment } : body
  }

  async lookup(lease: Hex, ids: Uint8Array, tolerate: number): Promise<BigUint64Array> {
    const { body, attachment } = await this.#call('lookup', { lease, tolerate }, ids)
    requireBytes('lookup', attachment, (ids.length / ID_BYTES) * 8)
    return this.names.translate(new BigUint64Array(aligned(attachment)), runsOf('lookup', body))
  }

  async place(lease: Hex, { stripe, ...request }: PlaceRequest): Promise<string[]> {
    const { grants } = (await this.#call('place', { lease, number: numberOf(stripe), ...request })).body
    if (grants.length !== request.shards.length) throw lied('place', 'grants are missing')
    return grants
  }

  async commit(lease: Hex, { records, stripe, ...request }: CommitRequest): Promise<void> {
    await this.#call('commit', { lease, number: numberOf(stripe), ...request }, records)
  }

  async finish(lease: Hex, { head, references, asked, summary }: FinishRequest): Promise<Finished> {
    const sent = Buffer.concat([head, references])
    const { body, attachment } = await this.#call('finish', { lease, headBytes: head.length, asked, summary }, sent)
    this.#onCheckpoint(attachment)
    return body
  }

  /** The newest that a quorum of witnesses cosigned (`decodeCosigned`); empty where there is none. */
  async checkpoint(): Promise<Buffer> {
    return (await this.#call('checkpoint', {})).attachment
  }

  async abandon(lease: Hex, failure: string): Promise<void> {
    await this.#call('abandon', { lease, failure })
  }

  async runs(): Promise<RunRow[]> {
    return (await this.#call('runs', {})).body.runs
  }

  async snapshots(): Promise<SnapshotRow[]> {
    const rows: SnapshotRow[] = []
    for (;;) {
      const { body } = await this.#call('snapshots', { skip: rows.length })
      rows.push(...body.snapshots)
      if (rows.length >= body.total || body.snapshots.length === 0) return rows
    }
  }

  async snapshot(name: string, { source, host }: Among = {}): Promise<FoundSnapshot> {
    if (name.length > 96 || (host?.length ?? 0) > 64 || (source?.length ?? 0) > 4096)
      throw new ImagerError('NO_SUCH_SNAPSHOT', { snapshot: name.slice(0, 64) })
    const among = { ...(source === undefined ? {} : { source }), ...(host === undefined ? {} : { host }) }
    const { body, attachment } = await this.#call('snapshot', { name, ...among })
    if (!isMeant(name, body, among)) throw lied('snapshot', 'another one than was asked for')
    return { ...body, head: attachment }
  }

  async locate(ids: Uint8Array, births: BigUint64Array, except: readonly number[] = []): Promise<Located> {
    const table = new Runs()
    const named = table.translate(births, this.names)
    // A birth begins with its stripe.
    const stripes = BigUint64Array.from(except, (stripe) => BigInt(stripe) << 16n)
    const tried = Array.from(table.translate(stripes, this.names), (birth) => Number(birth >> 16n))
    const asked = Buffer.concat([ids, new Uint8Array(named.buffer, named.byteOffset, named.byteLength)])
    const { body, attachment } = await this.#call('locate', { runs: encodeRuns(table), except: tried }, asked)
    const count = ids.length / ID_BYTES
    requireBytes('locate', attachment, count * 16)
    const bytes = aligned(attachment)
    const here = this.#reading('locate', body)
    return {
      stripes: new BigUint64Array(bytes, 0, count).map((stripe) => BigInt(stripe && here(Number(stripe)))),
      offsets: new Uint32Array(bytes, count * 8, count),
      lengths: new Uint32Array(bytes, count * 12, count),
    }
  }

  async records(numbers: readonly number[]): Promise<Uint32Array[]> {
    const stripes: Uint32Array[] = []
    for (let from = 0; from < numbers.length; from += RECORDS_PAGE) {
      const page = numbers.slice(from, from + RECORDS_PAGE)
      const asked = nameStripes(this.names, page)
      const lengths = decodeLengths((await this.#call('records', asked)).attachment, page.length)
      if (!lengths) throw lied('records', 'an answer of another length than it says')
      stripes.push(...lengths)
    }
    return stripes
  }

  async stripes(numbers: readonly number[]): Promise<StripeRow[]> {
    const rows: StripeRow[] = []
    for (let from = 0; from < numbers.length; from += STRIPE_PAGE) {
      const asked = nameStripes(this.names, numbers.slice(from, from + STRIPE_PAGE))
      const { stripes } = (await this.#call('stripes', asked)).body
      const here = this.#reading('stripes', asked)
      rows.push(...stripes.map((row) => ({ ...row, stripe: here(row.stripe) })))
    }
    return rows
  }

  async receipts(numbers: readonly number[]): Promise<SignedStripe[]> {
    const rows: SignedStripe[] = []
    for (let from = 0; from < numbers.length; from += RECEIPTS_PAGE) {
      const asked = nameStripes(this.names, numbers.slice(from, from + RECEIPTS_PAGE))
      const { stripes } = (await this.#call('receipts', asked)).body
      const here = this.#reading('receipts', asked)
      rows.push(...stripes.map((row) => ({ ...row, stripe: here(row.stripe) })))
    }
    return rows
  }

  async snapshotStripes(name: string): Promise<number[]> {
    const { body, attachment } = await this.#call('snapshotStripes', { name })
    return decodeStripes(attachment)
      .map(this.#reading('snapshotStripes', body))
      .sort((a, b) => a - b)
  }

  async learn(findings: readonly Finding[], inspected: readonly Hex[]): Promise<void> {
    for (let from = 0; from < findings.length || from === 0; from += FINDINGS_PAGE) {
      const isLast = from + FINDINGS_PAGE >= findings.length
      const page = findings.slice(from, from + FINDINGS_PAGE)
      const { runs, numbers } = nameStripes(
        this.names,
        page.map(({ stripe }) => stripe),
      )
      const named = page.map((finding, at) => ({ ...finding, stripe: numbers[at] as number }))
      await this.#call('learn', { runs, findings: named, inspected: isLast ? [...inspected] : [] })
    }
  }

  async complain(stripes: readonly number[]): Promise<void> {
    for (let from = 0; from < stripes.length; from += STRIPE_PAGE) {
      await this.#call('complain', nameStripes(this.names, stripes.slice(from, from + STRIPE_PAGE)))
    }
  }

  async policies(): Promise<{ fleet: Policy; volumes: VolumePolicy[] }> {
    return (await this.#call('policies', {})).body
  }

  /** The statement that says so; empty where nobody decided anything. */
  async policy(): Promise<Buffer> {
    return (await this.#call('policies', {})).attachment
  }

  /** Brings what an admin signed. */
  async say(kind: Request<'say'>['kind'], statement: Buffer): Promise<void> {
    await this.#call('say', { kind }, statement)
  }

  async setPolicy(of: { appliance: Hex; volume: Hex } | null, policy: Partial<Policy>): Promise<void> {
    await this.#call('setPolicy', { of, policy })
  }

  /** For a host that is no member yet. The token's secret is not sent: what its key signed is good for this host alone. */
  async join({ key, admission, ...who }: Joining): Promise<{ membership: Buffer; keys: Buffer[]; name: string }> {
    const { body, attachment } = await this.#call('join', { token: tokenId(key.signingKey()), ...who }, admission)
    const { name } = body
    return { name, membership: attachment, keys: body.keys.map((text) => Buffer.from(text, 'base64')) }
  }

  /** Tells space, and in a statement of its own the addresses; the answer is the newest membership's term and sequence. */
  async heartbeat(beat: Omit<Heartbeat, 'addresses'>, address?: Buffer): Promise<Answer<'heartbeat'>> {
    const { freeBytes, usedBytes, capacityBytes, storage, store } = beat
    const said = { freeBytes, usedBytes, capacityBytes, storage, store }
    return (await this.#call('heartbeat', said, address)).body
  }

  async keysOf(host: Hex): Promise<Buffer[]> {
    const { entries } = (await this.#call('keysOf', { host })).body
    return entries.map((text) => Buffer.from(text, 'base64'))
  }

  /** `voucher`: of a token that was made here. */
  async invite(role: JoinRole, voucher?: Buffer): Promise<Answer<'invite'>> {
    return (await this.#call('invite', { role }, voucher)).body
  }

  /** By name or key; `force`: even where snapshots are lost with it. `removal`: what an enroller or an admin signed. */
  async remove(host: string, force: boolean, removal?: Buffer): Promise<Answer<'remove'>> {
    return (await this.#call('remove', { host, force }, removal)).body
  }

  /** Brings what the root signed: a person's key is an admin's. */
  async appoint(admin: Request<'appoint'>, delegation: Buffer): Promise<Answer<'appoint'> & { membership: Buffer }> {
    const { body, attachment } = await this.#call('appoint', admin, delegation)
    return { ...body, membership: attachment }
  }

  async dismiss({ dismissal, ...anew }: DismissalParts): Promise<Answer<'dismiss'> & { membership: Buffer }> {
    const { body, attachment } = await this.#call('dismiss', anew, Buffer.from(dismissal, 'base64'))
    return { ...body, membership: attachment }
  }

  async rename(host: string, name: string): Promise<Answer<'rename'>> {
    return (await this.#call('rename', { host, name })).body
  }

  async retire({ appliance, volume }: Omit<Request<'retire'>, 'retired'>, retired: boolean): Promise<void> {
    await this.#call('retire', { appliance, volume, retired })
  }

  /** The newest; `after` what is known: perhaps one before it, which may be taken where the newest may not. */
  async membership(after?: Place): Promise<Buffer> {
    return (await this.#call('membership', after ? { after } : {})).attachment
  }

  /** `consent`: what an enroller signed. */
  async move(host: string, start: boolean, consent?: Buffer): Promise<Answer<'move'>> {
    return (await this.#call('move', { host, start }, consent)).body
  }

  async standBy(failed = ''): Promise<Answer<'standBy'>> {
    return (await this.#call('standBy', { failed })).body
  }

  async movePart(name: string, offset: number): Promise<Buffer> {
    return (await this.#call('movePart', { name, offset })).attachment
  }

  async handOver(): Promise<Handed> {
    return (await this.#call('handOver', {})).body.handed
  }

  /** Brings the first membership that this host signed as coordinator. */
  async takenUp(membership: Buffer): Promise<void> {
    await this.#call('takenUp', {}, membership)
  }

  /** Brings what this host holds to a coordinator that was set back; it answers once it has caught up, or tried for a while. */
  async show(kind: Request<'show'>['kind'], bytes: Uint8Array): Promise<void> {
    await this.#call('show', { kind }, bytes)
  }

  /** Brings a membership that the root signed. */
  async adopt(membership: Buffer): Promise<void> {
    await this.#call('adopt', {}, membership)
  }

  /** All after number `after`, newest last. */
  async events(after = 0): Promise<EventRow[]> {
    const rows: EventRow[] = []
    for (;;) {
      const { events } = (await this.#call('events', { after: rows.at(-1)?.n ?? after })).body
      rows.push(...events)
      if (events.length < EVENT_PAGE) return rows
    }
  }

  async keepKeys(entries: readonly Buffer[]): Promise<void> {
    await this.#call('keys', { entries: entries.map((entry) => entry.toString('base64')) })
  }

  /** From the numbers of a message to those of `names`. */
  #reading(call: CallName, message: { readonly runs: readonly string[] }): (stripe: number) => number {
    const renumbering = new Renumbering(runsOf(call, message), this.names, 'learn')
    return (stripe) => {
      const here = renumbering.stripe(stripe)
      if (here === 0) throw lied(call, 'a stripe of no run that it names')
      return here
    }
  }

  async #call<N extends CallName>(name: N, request: Request<N>, attachment?: Uint8Array): Promise<Given<N>> {
    const message = encodeMessage(request, attachment)
    const pauses = this.#patience && new Pauses(this.#patience)
    for (let times = 1; ; times++) {
      try {
        return await this.#ask(name, message)
      } catch (error) {
        if (!CALLS[name].repeatable) throw error
        // It is on its way to another host, or has just left: whoever is patient finds it there.
        const isMoving = hasCode(error, 'COORDINATOR_MOVING', 'REPLACED')
        if (isMoving && (await pauses?.after(error, true))) continue
        if (!hasCode(error, 'COORDINATOR_UNREACHABLE')) throw error
        // A coordinator that was started anew has dropped the connection: once more, at once.
        const isDropped = this.#answered && times === 1
        if (!isDropped && !(await pauses?.after(error))) throw error
      }
    }
  }

  async #ask<N extends CallName>(name: N, message: Buffer): Promise<Given<N>> {
    try {
      const skew = this.#clockSkewMs
      const headers: Record<string, string> = skew === undefined ? {} : { [SKEW_HEADER]: String(skew) }
      const sent = this.#clock.now()
      const options = { headers, body: message, maxBytes: MESSAGE_BYTES }
      const reply = await this.#connection.request('POST', `/v1/${name}`, options)
      this.#clockSkewMs = measureSkew(sent, this.#clock.now(), Number(reply.headers[TIME_HEADER])) ?? skew
      this.#answered = true
      const { body, attachment } = decodeMessage(CALLS[name].answer, reply.body)
      return { body: body as Answer<N>, attachment }
    } catch (error) {
      if (!hasCode(error, 'HOST_UNREACHABLE')) throw error
      throw new ImagerError('COORDINATOR_UNREACHABLE', error.details, { cause: error })
    }
  }
}

function runsOf(call: CallName, { runs }: { readonly runs: readonly string[] }): RunsHandle {
  const table = decodeRuns(runs)
  if (!table) throw lied(call, 'a run twice')
  return table
}

function requireBytes(call: CallName, attachment: Uint8Array, expected: number): void {
  if (attachment.length !== expected) throw lied(call, `${attachment.length} bytes where ${expected} were due`)
}

function lied(call: CallName, what: string): ImagerError {
  return new ImagerError('HOST_LIED', { host: 'The coordinator', what: `${call}: ${what}` })
}

/** Typed arrays want their offset to be a multiple of their width; an attachment's is not. */
function aligned(bytes: Uint8Array): ArrayBuffer {
  return new Uint8Array(bytes).buffer
}
