/** The tip of the chain brought to all witnesses at once, with the links and heads that each of them is missing. */
import { hasCode, ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import { WITNESS_PATIENCE_MS } from '../base/limits.js'
import { MiB } from '../base/units.js'
import type { StoredLink } from '../catalog/chain.js'
import type { LocalCatalog } from '../catalog/local.js'
import { type Checkpoint, openCheckpoint, openCosignature } from '../keys/checkpoint.js'
import { decodeHeadIds, HEAD_ID_BYTES, type HeadId } from '../keys/head-set.js'
import type { Home } from '../keys/home.js'
import { REASONS } from '../peers/judge.js'
import type { Offer } from '../peers/offer.js'
import type { Witness } from './witnesses.js'

export interface OfferParts {
  readonly home: Home
  readonly catalog: LocalCatalog
  readonly isQuorum: (hosts: Iterable<Hex>) => boolean
  /** The witnesses may not have the membership of now yet. */
  readonly isNewMembership: boolean
  /** What each witness signed last, as far as it is known. */
  readonly positions: ReadonlyMap<Hex, number>
  /** Seals a snapshot's row for the witnesses to keep; undefined where there is none. */
  readonly entry: (id: HeadId) => Buffer | undefined
  /** Hears of a cosignature that comes when the others were a quorum already. */
  readonly onLate: (cosignature: Signed) => void
}

export interface Signed {
  readonly n: number
  readonly witness: Hex
  readonly bytes: Buffer
}

/** A witness holds what is not known here. */
export interface Dissent {
  readonly witness: Witness
  readonly why: string
}

export interface Offered {
  readonly reached: boolean
  readonly signed: readonly Signed[]
  readonly dissent: readonly Dissent[]
  /** Names of those who did not sign. */
  readonly unsigned: readonly string[]
}

/** What is kept with the witnesses of snapshots, in one offer. */
const ENTRIES_BYTES = 6 * MiB
const ENTRIES = 1000

/** Returns when a quorum has signed, or all have answered or were waited for long enough. `lost`: who holds a branch that lost. */
export async function offerTip(
  tip: StoredLink,
  witnesses: readonly Witness[],
  lost: ReadonlyMap<Hex, Hex>,
  parts: OfferParts,
): Promise<Offered> {
  const { home, catalog, isQuorum } = parts
  const checkpoint = openCheckpoint(tip.bytes, home.fleet, home.rootKey)
  const signers = new Set(catalog.chain.cosignatures(tip.n).keys())
  const signed: Signed[] = []
  const dissent: Dissent[] = []
  let isOver = false
  const waiting = witnesses.filter(({ host }) => !signers.has(host))
  const offers = new Map<number | undefined, Offer>()
  const offerFrom = (position: number | undefined): Offer => {
    const offer = offers.get(position) ?? makeOffer(tip, position, parts)
    offers.set(position, offer)
    return offer
  }
  await new Promise<void>((resolve, reject) => {
    let left = waiting.length
    if (left === 0 || isQuorum(signers)) resolve()
    for (const witness of waiting) {
      offerTo(witness, { checkpoint, lost: lost.get(witness.host), offerFrom }, parts)
        .then((answer) => {
          if (Buffer.isBuffer(answer)) {
            const cosignature = { n: tip.n, witness: witness.host, bytes: answer }
            if (isOver) return parts.onLate(cosignature)
            signers.add(witness.host)
            signed.push(cosignature)
          } else if (answer !== '') dissent.push({ witness, why: answer })
          if (--left === 0 || isQuorum(signers)) resolve()
        })
        .catch(reject)
    }
  })
  isOver = true
  const unsigned = witnesses.filter(({ host }) => !signers.has(host)).map(({ name }) => name)
  return { reached: isQuorum(signers), signed, dissent, unsigned }
}

interface Offering {
  readonly checkpoint: Checkpoint
  /** What the witness holds, if that is a branch that lost. */
  readonly lost: Hex | undefined
  readonly offerFrom: (position: number | undefined) => Offer
}

/** Its cosignature; or empty where it did not sign and nothing follows from it; else why what it holds must be looked at. */
async function offerTo(witness: Witness, offering: Offering, parts: OfferParts): Promise<Buffer | string> {
  const { chain } = parts.catalog
  const { checkpoint, lost, offerFrom } = offering
  let position = lost === undefined ? parts.positions.get(witness.host) : undefined
  try {
    if (parts.isNewMembership) await witness.sendMembership({ timeoutMs: WITNESS_PATIENCE_MS })
    for (let tries = 0; tries < 2; tries++) {
      const answer = await witness.client.offer(offerFrom(position), { timeoutMs: WITNESS_PATIENCE_MS })
      if ('cosignature' in answer) {
        if (openCosignature(answer.cosignature, checkpoint) === witness.host) return answer.cosignature
        throw new ImagerError('HOST_LIED', { host: witness.name, what: 'a cosignature of another host' })
      }
      const { refused } = answer
      const held = answer.held && openHeld(answer.held.checkpoint, parts)
      if (held && held.hash === lost) return ''
      if (held && refused === 'shrank') await findHeads(witness, held, parts)
      const at = held && chain.links().find(({ hash }) => hash === held.hash)?.n
      // It holds one that is not known here, or a list that is longer.
      if ((held && at === undefined) || refused === 'shrank' || refused === 'term') return REASONS[refused]
      // From where it really is; where that did not help, with everything.
      position = at === position ? undefined : at
    }
    return ''
  } catch (error) {
    if (error instanceof ImagerError) return ''
    throw error
  }
}

async function findHeads(witness: Witness, held: Checkpoint, { catalog }: OfferParts): Promise<void> {
  const set = await witness.fetchHeads(held)
  if (set) catalog.write(() => catalog.chain.find(decodeHeadIds(set.bytes())))
}

function openHeld(bytes: Buffer, { home }: OfferParts): Checkpoint | undefined {
  try {
    return openCheckpoint(bytes, home.fleet, home.rootKey)
  } catch (error) {
    if (hasCode(error, 'FORGED', 'CORRUPT', 'UNSUPPORTED')) return undefined
    throw error
  }
}

/** `position`: the link that the witness signed last; undefined: not known, or on another branch. */
function makeOffer(tip: StoredLink, position: number | undefined, { catalog, entry }: OfferParts): Offer {
  const { chain } = catalog
  const proved = position === undefined ? chain.cosigned() : undefined
  const from = proved ? proved.n - 1 : (position ?? 0)
  const links = chain.links(from).filter(({ n }) => n <= tip.n)
  const added = chain.heads(position ?? 0)
  return {
    base: position === undefined ? 'empty' : 'own',
    links: links.map(({ bytes }) => bytes),
    proof: proved ? { link: 0, cosignatures: [...chain.cosignatures(proved.n).values()].slice(0, 16) } : null,
    added,
    // No head is taken from the list yet, whatever admins ordered: a snapshot that is to be forgotten is shown as such (catalog/ordered.ts).
    ...{ removed: Buffer.alloc(0), forgets: [] },
    entries: entriesOf(added, entry),
  }
}

/** The last ones: those before came along with earlier checkpoints. */
function entriesOf(added: Buffer, entry: OfferParts['entry']): Offer['entries'] {
  const entries: { appliance: Hex; snapshot: Hex; sealed: Buffer }[] = []
  let total = 0
  for (const id of decodeHeadIds(added.subarray(-ENTRIES * HEAD_ID_BYTES)).reverse()) {
    const sealed = entry(id)
    if (!sealed) continue
    total += sealed.length
    if (total > ENTRIES_BYTES) break
    entries.push({ ...id, sealed })
  }
  return entries
}
