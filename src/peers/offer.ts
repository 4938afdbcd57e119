/** What a coordinator sends a witness, and what comes back (docs/protocol.md): a message whose attachment is cut by these lengths. */
import * as v from 'valibot'
import { ImagerError } from '../base/errors.js'
import { ENTRY_BYTES, HEADS, LINKS } from '../base/limits.js'
import { Count, Id, Key } from '../keys/fields.js'
import { HEAD_ID_BYTES, type HeadId } from '../keys/head-set.js'
import { STATEMENT_BYTES } from '../keys/statement.js'
import { decodeMessage, encodeMessage } from '../wire/message.js'
import { REASONS, type Reason } from './judge.js'

const Length = v.pipe(Count, v.maxValue(STATEMENT_BYTES))
const Named = v.strictObject({ appliance: Key, snapshot: Id, bytes: v.pipe(Count, v.maxValue(ENTRY_BYTES)) })
const OfferHead = v.strictObject({
  base: v.picklist(['own', 'empty']),
  /** The last of them is what is to be signed. */
  links: v.pipe(v.array(Length), v.minLength(1), v.maxLength(LINKS)),
  /** Cosignatures of a quorum over one of the links. */
  proof: v.nullable(v.strictObject({ link: Count, cosignatures: v.pipe(v.array(Length), v.maxLength(16)) })),
  added: v.pipe(Count, v.maxValue(HEADS)),
  removed: v.pipe(Count, v.maxValue(HEADS)),
  /** What lets go of those that are removed. */
  forgets: v.pipe(v.array(Length), v.maxLength(1000)),
  /** What the coordinator wants kept of some of the added ones, sealed. */
  entries: v.pipe(v.array(Named), v.maxLength(1000)),
})
const Verdict = v.strictObject({ refused: v.nullable(v.picklist(Object.keys(REASONS) as Reason[])) })

export interface Offer {
  readonly base: 'own' | 'empty'
  readonly links: readonly Buffer[]
  readonly proof: { readonly link: number; readonly cosignatures: readonly Buffer[] } | null
  /** Ids back to back. */
  readonly added: Buffer
  readonly removed: Buffer
  readonly forgets: readonly Buffer[]
  readonly entries: readonly (HeadId & { readonly sealed: Buffer })[]
}

export function encodeOffer({ base, links, proof, added, removed, forgets, entries }: Offer): Buffer {
  const named = ({ appliance, snapshot }: HeadId, { length }: Buffer) => ({ appliance, snapshot, bytes: length })
  const head = {
    base,
    links: links.map(({ length }) => length),
    proof: proof && { link: proof.link, cosignatures: proof.cosignatures.map(({ length }) => length) },
    added: added.length / HEAD_ID_BYTES,
    removed: removed.length / HEAD_ID_BYTES,
    forgets: forgets.map(({ length }) => length),
    entries: entries.map((one) => named(one, one.sealed)),
  }
  const parts = [
    ...links,
    ...(proof?.cosignatures ?? []),
    added,
    removed,
    ...forgets,
    ...entries.map(({ sealed }) => sealed),
  ]
  return encodeMessage(head, Buffer.concat(parts))
}

/** Throws PROTOCOL, UNSUPPORTED. */
export function decodeOffer(bytes: Uint8Array): Offer {
  const { body, attachment } = decodeMessage(OfferHead, bytes)
  let at = 0
  const take = (length: number): Buffer => {
    if (at + length > attachment.length) throw new ImagerError('PROTOCOL', { what: 'an offer that ends too early' })
    at += length
    return attachment.subarray(at - length, at)
  }
  const links = body.links.map(take)
  const proof = body.proof && { link: body.proof.link, cosignatures: body.proof.cosignatures.map(take) }
  const added = take(body.added * HEAD_ID_BYTES)
  const removed = take(body.removed * HEAD_ID_BYTES)
  const forgets = body.forgets.map(take)
  const entries = body.entries.map(({ bytes, ...id }) => ({ ...id, sealed: take(bytes) }))
  if (at !== attachment.length) throw new ImagerError('PROTOCOL', { what: 'an offer with more than it says' })
  return { base: body.base, links, proof, added, removed, forgets, entries }
}

/** `bytes`: the cosignature; of a refusal, the cosigned checkpoint that the witness holds, or nothing. */
export function encodeVerdict(refused: Reason | null, bytes: Buffer): Buffer {
  return encodeMessage({ refused }, bytes)
}

export function decodeVerdict(bytes: Uint8Array): { refused: Reason | null; bytes: Buffer } {
  const { body, attachment } = decodeMessage(Verdict, bytes)
  return { refused: body.refused, bytes: attachment }
}
