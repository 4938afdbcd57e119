/**
 * The old end of a move. The host that is to be the coordinator stands by, and asks this one again and again whether there is
 * something for it. A person says so; then nothing is written any more, the catalog is copied, and the other fetches and checks it. Its
 * last question is for the handover: that is on the disk here before it goes out, and from then on this host signs nothing, whatever
 * befalls either of them. Until then the move is given up by itself where the other falls silent, and all goes on here.
 */
import { rmSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { ImagerError, isOfHost, reason } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import { MiB } from '../base/units.js'
import type { LocalCatalog } from '../catalog/local.js'
import type { Handed } from '../keys/handover.js'
import type { Home } from '../keys/home.js'
import { findHost } from '../keys/membership.js'
import { sealForNext, signHanded } from '../keys/take-up.js'
import { Connection } from '../wire/client.js'
import type { Answer, Request } from './calls.js'
import type { Watch } from './watch.js'
import type { Writing } from './writing.js'

export interface MovingParts {
  readonly home: Home
  /** Undefined where it cannot be opened any more: the handover is made, and the other may not have heard of it. */
  readonly catalog: LocalCatalog | undefined
  /** Ends what is being written, and lets nothing begin. */
  freeze(): Promise<void>
  thaw(): void
  /** The next coordinator has the place: its membership is in the state folder. */
  onTaken(): void
}

interface Offer {
  readonly to: Hex
  readonly name: string
  readonly consent: Buffer | undefined
  /** Undefined while it is being copied. */
  files: Answer<'standBy'>['offer'] | undefined
  /** On the monotonic clock. */
  asked: number
}

/** Of a file, in one answer. */
export const PART_BYTES = 8 * MiB
/** Answered by who stands by. */
export const STANDING_PATH = '/v1/standing'
/** Who stands by asks every second. */
const STANDS_BY_MS = 5_000
/** To check what it has, and to ask its witnesses, the other takes a while. */
const SILENT_MS = 120_000
const LOOK_MS = 1_000

export class Moving {
  readonly #parts: MovingParts
  /** On the monotonic clock. */
  readonly #standing = new Map<Hex, number>()
  #offer: Offer | undefined
  #failed: ImagerError | undefined
  #timer: NodeJS.Timeout | undefined

  constructor(parts: MovingParts) {
    this.#parts = parts
  }

  get #folder(): string {
    return join(this.#parts.home.state, 'leaving')
  }

  /** Why nothing new is taken; undefined: it is. */
  get trouble(): ImagerError | undefined {
    const { home } = this.#parts
    const to = this.#offer?.to ?? home.handedOver?.to
    return to === undefined ? undefined : new ImagerError('COORDINATOR_MOVING', { name: this.#nameOf(to) })
  }

  /** Throws USAGE, NOT_ALLOWED, FORGED, NO_SUCH_HOST, NOT_STANDING_BY; nothing has changed then. */
  async start(wanted: string, consent?: Buffer): Promise<void> {
    const { home, catalog } = this.#parts
    const membership = home.membership()
    const { host: to, name } = findHost(membership.hosts, wanted)
    if (this.#offer?.to === to || home.handedOver?.to === to) return
    if (this.trouble) throw this.trouble
    if (!catalog) return
    // Signed here to see that it can be; the one that counts is made at the end.
    signHanded(membership, to, home.secret, consent)
    await this.#requireStandingBy(to, name)
    if (this.trouble) throw this.trouble
    this.#failed = undefined
    this.#offer = { to, name, consent, files: undefined, asked: performance.now() }
    this.#timer = setInterval(() => this.#look(), LOOK_MS).unref()
    this.#copy(this.#offer, catalog).catch((error: unknown) => this.#giveUp(reason(error)))
  }

  /** How it stands with it. Throws NOT_MOVED where it was given up. */
  stage(wanted: string): Answer<'move'> {
    const { home } = this.#parts
    const { host, name } = findHost(home.membership().hosts, wanted)
    if (this.#failed) throw this.#failed
    if (home.membership().coordinator === host) return { stage: 'moved', name }
    return { stage: home.handedOver?.to === host ? 'handed over' : 'copying', name }
  }

  async #requireStandingBy(to: Hex, name: string): Promise<void> {
    const { home, catalog } = this.#parts
    const missing = (why: string) => new ImagerError('NOT_STANDING_BY', { name, why })
    if (performance.now() - (this.#standing.get(to) ?? Number.NEGATIVE_INFINITY) > STANDS_BY_MS) {
      throw missing('it has not asked for it')
    }
    const addresses = catalog?.members.addresses(to) ?? home.addresses.of(to)
    const connection = new Connection({ tls: home.tls, addresses, host: to, name })
    try {
      await connection.request('POST', STANDING_PATH, { maxBytes: 0 })
    } catch (error) {
      if (!isOfHost(error)) throw error
      throw missing(`it asks for it, but is not reached: ${reason(error)}`)
    } finally {
      connection.close()
    }
  }

  async #copy(offer: Offer, catalog: LocalCatalog): Promise<void> {
    const { home, freeze } = this.#parts
    await freeze()
    const files = await catalog.upkeep.copyTo(this.#folder)
    const { sealing = '' } = home.membership().find(offer.to) ?? {}
    const [domain, catalogKey] = [home.domainKey, home.catalogKey]
    if (!domain || !catalogKey)
      throw new ImagerError('INVALID', { what: "This coordinator does not hold the fleet's keys" })
    const { host, fleet, secret } = home
    const own = { host, fleet, secret, keyStatements: home.keyStatements() }
    const keys = sealForNext(own, offer.to, sealing).map((bytes) => bytes.toString('base64'))
    const tip = catalog.chain.tip()?.hash ?? null
    const ids = { domain: domain.id().toString('hex'), catalog: catalogKey.id().toString('hex') }
    offer.files = { files, keys, ...ids, tip }
    offer.asked = performance.now()
  }

  #look(): void {
    const { home } = this.#parts
    if (!this.#offer || home.handedOver) return
    if (performance.now() - this.#offer.asked > SILENT_MS) this.#giveUp('it fell silent')
  }

  #giveUp(why: string): void {
    const offer = this.#offer
    if (!offer || this.#parts.home.handedOver) return
    this.#failed = new ImagerError('NOT_MOVED', { name: offer.name, why })
    this.#offer = undefined
    clearInterval(this.#timer)
    rmSync(this.#folder, { recursive: true, force: true })
    this.#parts.thaw()
  }

  /** What there is for whoever asks. `failed`: why it could not take what it was offered. */
  standBy(host: Hex, failed: string): Answer<'standBy'> {
    this.#standing.set(host, performance.now())
    const given = this.#parts.home.handedOver
    if (given?.to === host) return { offer: null, handed: handedOf(given) }
    if (this.#offer?.to !== host) return { offer: null }
    this.#offer.asked = performance.now()
    if (failed !== '' && this.#offer.files) this.#giveUp(failed)
    return { offer: this.#offer?.files ?? null }
  }

  /** Of a file that it was offered. */
  async part(host: Hex, name: string, offset: number): Promise<Buffer> {
    const offer = this.#offer
    const file = offer?.files?.files.find((one) => one.name === name)
    if (!offer || offer.to !== host || !file) throw new ImagerError('PROTOCOL', { what: 'a file that was not offered' })
    offer.asked = performance.now()
    const handle = await open(join(this.#folder, name))
    try {
      const buffer = Buffer.alloc(Math.min(PART_BYTES, Math.max(0, file.bytes - offset)))
      const { bytesRead } = await handle.read(buffer, 0, buffer.length, offset)
      return buffer.subarray(0, bytesRead)
    } finally {
      await handle.close()
    }
  }

  /** The commit point. Asked again it says the same. */
  hand(host: Hex): Handed {
    const { home } = this.#parts
    const given = home.handedOver
    if (given?.to === host) return handedOf(given)
    if (!this.#offer?.files || this.#offer.to !== host)
      throw new ImagerError('PROTOCOL', { what: 'no move is under way' })
    const { handed } = signHanded(home.membership(), host, home.secret, this.#offer.consent)
    home.handOver(host, handed)
    return handed
  }

  /** The first membership of the next coordinator. Throws FORGED, CORRUPT. */
  taken(bytes: Buffer): void {
    const { home } = this.#parts
    if (!home.handedOver) throw new ImagerError('PROTOCOL', { what: 'no place was handed over' })
    home.saveMembership(bytes)
    if (home.membership().coordinator === home.host) return
    this.close()
    rmSync(this.#folder, { recursive: true, force: true })
    this.#parts.onTaken()
  }

  close(): void {
    clearInterval(this.#timer)
  }

  #nameOf(host: Hex): string {
    return this.#parts.home.membership().find(host)?.name ?? host.slice(0, 16)
  }
}

function handedOf({ handover, enroller, consent }: Handed): Handed {
  return { handover, enroller, ...(consent !== undefined && { consent }) }
}

/** Of a coordinator with a catalog, its witnesses, and the calls that write to it. */
export function movingOf(
  { home, catalog, watch }: { home: Home; catalog: LocalCatalog; watch?: Watch },
  writing: Writing,
): Moving {
  return new Moving({
    ...{ home, catalog },
    async freeze() {
      await watch?.freeze()
      await writing.ended()
    },
    thaw: () => watch?.thaw(),
    onTaken: () => watch?.leave(),
  })
}

type MoveCall = 'move' | 'standBy' | 'movePart' | 'handOver' | 'takenUp'
interface Asked<N extends MoveCall> {
  readonly caller: { readonly host: Hex }
  readonly body: Request<N>
  readonly attachment: Buffer
}

/** What a coordinator answers of it. */
export function moveHandlers(moving: Moving) {
  return {
    async move({ body: { host, start }, attachment }: Asked<'move'>) {
      if (start) await moving.start(host, attachment.length > 0 ? attachment : undefined)
      return { body: moving.stage(host) }
    },
    standBy: async ({ caller, body }: Asked<'standBy'>) => ({ body: moving.standBy(caller.host, body.failed) }),
    movePart: async ({ caller, body: { name, offset } }: Asked<'movePart'>) => {
      return { body: {}, attachment: await moving.part(caller.host, name, offset) }
    },
    handOver: async ({ caller }: Asked<'handOver'>) => ({ body: { handed: moving.hand(caller.host) } }),
    async takenUp({ attachment }: Asked<'takenUp'>) {
      moving.taken(attachment)
      return { body: {} }
    },
  }
}
