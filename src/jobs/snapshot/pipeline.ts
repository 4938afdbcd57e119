/**
 * The snapshot's pipeline: batches are read, looked up, sealed and appended, several in flight; full packs become stripes
 * while the next ones fill; then the manifest's pages go the same way, and the head goes to the peers.
 *
 * Invariants: claims and appends happen in the order of the batches, which the packer needs. The first failure of any part
 * ends the run at its next step.
 */
import type { Clock } from '../../base/clock.js'
import { hasCode, ImagerError, reason } from '../../base/errors.js'
import { type Hex, toHex } from '../../base/ids.js'
import { Slots } from '../../base/queue.js'
import type { Begun, Catalog, Flaws } from '../../catalog/types.js'
import { type Head, headName, signHead } from '../../keys/head.js'
import type { Home } from '../../keys/home.js'
import {
  type Batch,
  type BlockSource,
  type DiskScanHandle,
  hash,
  Manifest,
  type Pack,
  Packer,
  type Reread,
  type VaultHandle,
} from '../../native.js'
import type { PeerClient } from '../../peers/client.js'
import type { Peers } from '../../peers/pool.js'
import { numberOf, partsOfRunName, runName, runOf } from '../../stripes/names.js'
import type { Group } from '../../stripes/place.js'
import { type SendShard, type SentStripe, StripeSender } from '../../stripes/send.js'
import { Meter, type Report } from '../progress.js'
import { Leveller } from './compression-level.js'
import type { SentBitmap } from './last-bitmap.js'
import { Proofs } from './proofs.js'
import { sendOnceKnown } from './send-once-known.js'

/** Batches of 8 MiB between reading and appending: two being worked on by the two cores, one ready. */
const BATCHES_IN_FLIGHT = 3
/** Packs of up to k * 4 MiB being encoded and sent. */
const STRIPES_IN_FLIGHT = 2
/** Ranges, and files, that the description of a snapshot names. */
const FLAWS_DESCRIBED = 1000

export interface PipelineParts {
  readonly home: Home
  readonly catalog: Catalog
  readonly peers: Peers
  readonly clock: Clock
  readonly report: Report
  readonly signal: AbortSignal
}

export interface PipelinePlan {
  readonly scan: DiskScanHandle
  readonly group: Group
  /** The same disk has the same one, whatever its name. */
  readonly volume: Hex
  /** zstd's; undefined where the run decides as it goes. */
  readonly level: number | undefined
}

/** One run, from the first block to the head. */
export class Pipeline {
  readonly packer: InstanceType<typeof Packer>
  readonly manifest: InstanceType<typeof Manifest>
  readonly bytesByHost = new Map<Hex, number>()
  /** What hosts signed of the stripes of this run. */
  readonly sent = new Map<number, Pick<SentStripe, 'k' | 'shards'>>()
  /** Blocks that changed although nothing said so. */
  surprises = 0
  readonly counts = { allocatedBytes: 0, readBytes: 0, newBytes: 0, storedBytes: 0, blocks: 0, newBlocks: 0 }
  readonly #plan: PipelinePlan
  readonly #begun: Begun
  readonly #vault: VaultHandle
  readonly #parts: PipelineParts
  readonly #sender: StripeSender
  readonly #leveller: Leveller
  readonly #proofs: Proofs
  readonly #slots = new Slots(STRIPES_IN_FLIGHT)
  readonly #sending = new Set<Promise<void>>()
  #failure: { error: unknown } | undefined
  #last: { pack: Pack; sent: SentStripe } | undefined

  constructor(plan: PipelinePlan, begun: Begun, vault: VaultHandle, parts: PipelineParts) {
    this.#plan = plan
    this.#begun = begun
    this.#vault = vault
    this.#parts = parts
    const { catalog, peers, home } = parts
    const { names } = catalog
    this.packer = new Packer(vault, plan.group.k, names, names.number(runName(home.host, begun.run)))
    const send: SendShard = (host, shard, bytes, grant, signal) =>
      sendOnceKnown(() => peers.get(host).sendShard(shard, bytes, grant, { signal }), { clock: parts.clock, signal })
    this.#sender = new StripeSender(catalog, begun.lease, plan.group, vault, home, send)
    this.manifest = new Manifest(home.state, names)
    this.#leveller = new Leveller(parts.clock)
    this.#proofs = new Proofs(vault, parts)
  }

  /** Batches overlap up to their sealing; claims and appends keep their order, which the packer needs. */
  async storeBlocks(reader: BlockSource, what = 'reading and storing'): Promise<void> {
    const { clock, report } = this.#parts
    const meter = new Meter(what, reader.totalBytes, clock, report)
    const inFlight: Promise<void>[] = []
    let claimed = Promise.resolve()
    let appended = Promise.resolve()
    for (let batch = reader.next(); batch; batch = reader.next()) {
      this.#check()
      const ready = batch.prepare(this.#vault).then(() => this.#lookUp(batch))
      const claiming = Promise.all([ready, claimed]).then(([births]) => this.packer.claim(batch, births))
      claimed = claiming
      const sealed = claiming.then(() => batch.seal(this.#vault, this.#level()))
      appended = Promise.all([sealed, appended]).then(() => this.#append(batch, meter))
      // Each failure is met where its promise is awaited; the others of the chain fail with it.
      for (const step of [claiming, appended]) step.catch(() => {})
      inFlight.push(appended)
      if (inFlight.length >= BATCHES_IN_FLIGHT) await inFlight.shift()
    }
    await Promise.all(inFlight)
  }

  /** What the source refused to give. Once it is complete, before the manifest is stored. */
  unreadable(): Flaws {
    return this.flaws(this.manifest.unreadable())
  }

  /** Ranges (start and length alternate) with the files that lie in them. */
  flaws(flat: BigUint64Array): Flaws {
    const ranges = Array.from({ length: flat.length / 2 }, (_, at) => {
      return { start: Number(flat[2 * at]), length: Number(flat[2 * at + 1]) }
    })
    const bytes = ranges.reduce((sum, range) => sum + range.length, 0)
    return { bytes, ranges: ranges.slice(0, FLAWS_DESCRIBED), files: this.manifest.filesAt(flat, FLAWS_DESCRIBED) }
  }

  /** The blocks stored from now on, of what is read again, count instead of those before. */
  beginPass(again: Reread): void {
    this.manifest.beginPass(again)
  }

  /** For the next snapshot: what this one holds, and what the records of its files say. Before `complete`. */
  async keep(path: string, snapshot: Hex, scan: DiskScanHandle, taken: number): Promise<void> {
    this.manifest.keep(path, Buffer.from(snapshot, 'hex'), taken, await scan.records(taken))
  }

  /** All blocks are stored once more, and those count. */
  beginFullPass(scan: DiskScanHandle): void {
    this.manifest.beginFullPass(scan)
  }

  /** All blocks are stored: `scan` says what of them the snapshot holds. Takes its file maps. */
  complete(scan: DiskScanHandle): void {
    const allocated = scan.allocated()
    this.counts.allocatedBytes = allocated.reduce((sum, length, at) => (at % 2 === 1 ? sum + Number(length) : sum), 0)
    this.manifest.complete(scan)
  }

  async storeManifest(description: string): Promise<void> {
    for (let pages = this.manifest.nextPages(); pages; pages = this.manifest.nextPages()) await this.#storePages(pages)
    await this.#storePages(this.manifest.root(description))
    const last = this.packer.flush()
    if (last) await this.#send(last)
    await Promise.all(this.#sending)
    this.#check()
    await this.#proofs.settle()
  }

  /** Signed, and its inside sealed for this appliance, the coordinator and a recovery. */
  signHead(references: Uint8Array, time: number): Buffer {
    const { home } = this.#parts
    const trailerKey = home.trailerKey
    if (!trailerKey) throw new Error('the vault was opened with it')
    return signHead({ ...this.headFacts(references), time }, home.secret, trailerKey)
  }

  headFacts(references: Uint8Array): Omit<Head, 'time'> {
    const { home, catalog } = this.#parts
    const { pack, sent } = this.#last ?? {}
    const [offset, length] = pack?.lastRecord() ?? []
    if (!sent || offset === undefined || length === undefined) throw new Error('the root was stored')
    const { birth, key } = this.manifest.sealedRoot(this.#vault, catalog.names)
    const { k, m } = this.#plan.group
    const { stripe, packBytes, shards } = sent
    const name = catalog.names.name(runOf(stripe))
    if (!name || birth >> 16n !== BigInt(stripe)) throw new Error('the root is the last record of the last pack')
    return {
      fleet: home.fleet,
      appliance: home.host,
      volume: this.#plan.volume,
      sequence: this.#begun.sequence,
      snapshot: this.#begun.snapshot,
      parent: this.#begun.parent,
      root: {
        key: key.toString('base64'),
        ...{ ...partsOfRunName(name), number: numberOf(stripe), ordinal: Number(birth & 0xffffn) },
        ...{ k, m, packBytes, offset, length },
        shards: shards.map(({ index, host }) => ({ index, host })),
      },
      references: toHex(hash(references)),
    }
  }

  /** With its bitmap, to max(k+1, majority) of the peers before anybody hears of success. */
  async storeHead(head: Uint8Array, bitmap: SentBitmap): Promise<void> {
    const { peers, signal, home } = this.#parts
    const name = headName({ appliance: home.host, snapshot: this.#begun.snapshot })
    const { group } = this.#plan
    const hosts = [...new Set([...group.members, ...group.spares])]
    const needed = Math.min(Math.max(group.k + 1, Math.floor(hosts.length / 2) + 1), hosts.length)
    const held = await Promise.allSettled(
      hosts.map(async (host) => {
        const peer = peers.get(host)
        await peer.sendDocument('head', name, head, { signal })
        await sendBitmap(peer, name, bitmap, signal)
      }),
    )
    signal.throwIfAborted()
    const placed = held.filter((one) => one.status === 'fulfilled').length
    const failed = held.find((one) => one.status === 'rejected')
    if (placed < needed) {
      throw new ImagerError(
        'NOT_PLACED',
        { placed, total: hosts.length, needed, why: reason(failed?.reason) },
        { cause: failed?.reason },
      )
    }
  }

  /** What went wrong and was overcome, for people. */
  failures(): string[] {
    const refused = [...this.#sender.failures].map(([host, error]) => {
      const name = this.#parts.home.membership().find(host)?.name ?? host.slice(0, 8)
      return `${name} could not take shards: ${error instanceof Error ? error.message : String(error)}`
    })
    return [...refused, ...this.#proofs.notes()]
  }

  async #storePages(pages: Batch): Promise<void> {
    this.#check()
    await pages.prepare(this.#vault)
    this.packer.claim(pages, await this.#lookUp(pages))
    await pages.seal(this.#vault, this.#level())
    await this.#pack(pages)
  }

  /** In the domain of new blocks; what is unknown there, in the older ones that this host has the keys of. */
  async #lookUp(batch: Batch): Promise<BigUint64Array> {
    const ids = batch.ids()
    if (ids.length === 0) return new BigUint64Array(0)
    const { catalog } = this.#parts
    const lookUp = (wanted: Buffer) => catalog.lookup(this.#begun.lease, wanted, this.#tolerated())
    let births = await this.#proofs.only(batch, { ids }, await lookUp(ids))
    for (let older = 0; older < this.#vault.olderDomains && births.includes(0n); older++) {
      const ids = await batch.olderIds(this.#vault, older, births)
      const items = [...births.keys()].filter((nth) => births[nth] === 0n)
      if (ids.length === 0) continue
      births = batch.takeOlder(births, await this.#proofs.only(batch, { ids, older, items }, await lookUp(ids)))
    }
    return births
  }

  /** Blocks that survive less than what this run can reach are stored again. */
  #tolerated(): number {
    const { wanted, reach } = this.#plan.group
    return Math.max(1, Math.min(wanted, reach))
  }

  async #append(batch: Batch, meter: Meter): Promise<void> {
    const { plainBytes, items, fresh, freshBytes, reusedBlocks, reusedBytes, surprises } = batch.facts
    this.surprises += surprises
    await this.#pack(batch)
    this.counts.readBytes += plainBytes
    this.counts.blocks += items + reusedBlocks
    this.counts.newBlocks += fresh
    this.counts.newBytes += freshBytes
    meter.add(plainBytes + reusedBytes)
    this.#leveller.batchDone()
  }

  #level(): number {
    return this.#plan.level ?? this.#leveller.level
  }

  async #pack(batch: Batch): Promise<void> {
    for (const pack of this.packer.append(batch, this.manifest)) await this.#send(pack)
  }

  /** Returns when there is room for the next one; `#sending` holds what is under way. */
  async #send(pack: Pack): Promise<void> {
    this.#check()
    const sending = this.#slots.run(async () => {
      const sent = await this.#sender.sendPack(pack, this.#parts.signal)
      this.sent.set(sent.stripe, sent)
      this.#proofs.stored(pack)
      for (const [host, bytes] of sent.bytesByHost) {
        this.bytesByHost.set(host, (this.bytesByHost.get(host) ?? 0) + bytes)
        this.counts.storedBytes += bytes
      }
      if (!this.#last || pack.stripe > this.#last.pack.stripe) this.#last = { pack, sent }
    })
    const watched: Promise<void> = sending
      .catch((error: unknown) => {
        this.#failure ??= { error }
      })
      .finally(() => this.#sending.delete(watched))
    this.#sending.add(watched)
    if (this.#sending.size >= STRIPES_IN_FLIGHT) await this.#leveller.waiting(Promise.race(this.#sending))
  }

  #check(): void {
    this.#parts.signal.throwIfAborted()
    if (this.#failure) throw this.#failure.error
  }
}

/** What changed is enough for a peer that holds the parent's; another asks for the whole. */
async function sendBitmap(peer: PeerClient, name: string, { whole, delta }: SentBitmap, signal: AbortSignal) {
  if (delta) {
    try {
      return await peer.sendDocument('bitmap', name, delta, { signal })
    } catch (error) {
      if (!hasCode(error, 'WHOLE_NEEDED')) throw error
    }
  }
  await peer.sendDocument('bitmap', name, whole, { signal })
}
