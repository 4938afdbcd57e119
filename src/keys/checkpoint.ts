/**
 * A checkpoint says which set of heads is the current one: a link of a chain that the coordinator signs and witnesses cosign
 * (docs/formats/checkpoint.md). It carries the root's delegation, and what was handed over since, so that it proves itself to whoever
 * knows the root's key, also in a later term. Ordered by (term, handovers, sequence); within a term each link is one more over the hash of the one
 * before.
 */
import * as v from 'valibot'
import { ImagerError } from '../base/errors.js'
import { type Hex, toHex } from '../base/ids.js'
import { HEADS } from '../base/limits.js'
import { hash, type SecretHandle } from '../native.js'
import { openDelegation } from './delegation.js'
import { Base64, Count, Id, Key, Term, Time } from './fields.js'
import { Handed, MOST_HANDOVERS, openHandovers } from './handover.js'
import type { Membership, MembershipHost } from './membership.js'
import { openStatement, signStatement } from './statement.js'

const SetOf = v.strictObject({ count: v.pipe(Count, v.maxValue(HEADS)), root: Key })
const CheckpointBody = v.strictObject({
  fleet: Id,
  term: Term,
  sequence: v.pipe(Count, v.minValue(1)),
  /** BLAKE3 of the checkpoint before, the whole statement; null where its signer knew of none. */
  previous: v.nullable(Key),
  /** BLAKE3 of the membership in force. */
  membership: Key,
  /** The live heads, as `HeadSet` counts them. */
  heads: SetOf,
  /** Forgets and removals. */
  removals: SetOf,
  /** BLAKE3 of the policy in force; null: nobody set one. */
  policy: v.nullable(Key),
  time: Time,
  /** The root's delegation of the coordinator of this term. */
  delegation: Base64(1024),
  /** Of this term: to whom that one's place went, the last of them the signer. */
  handovers: v.exactOptional(v.pipe(v.array(Handed), v.minLength(1), v.maxLength(MOST_HANDOVERS))),
})
const CosignatureBody = v.strictObject({
  fleet: Id,
  term: Term,
  sequence: v.pipe(Count, v.minValue(1)),
  /** BLAKE3 of the checkpoint. */
  checkpoint: Key,
  /** By the witness's clock. */
  time: Time,
})
export type CheckpointBody = v.InferOutput<typeof CheckpointBody>
export type CosignatureBody = v.InferOutput<typeof CosignatureBody>

/** Made by `openCheckpoint` only, so that one in hand is a verified one. */
export interface Checkpoint extends CheckpointBody {
  readonly bytes: Buffer
  readonly hash: Hex
  readonly signer: Hex
  /** How often the coordinator's place had been handed over in its term. */
  readonly handed: number
}

export interface Cosigned {
  readonly checkpoint: Buffer
  readonly cosignatures: readonly Buffer[]
}

/** A witness list of more is no list. */
const COSIGNATURES = 16

export function signCheckpoint(body: CheckpointBody, coordinator: SecretHandle): Buffer {
  return signStatement('checkpoint', body, coordinator)
}

/** Throws FORGED where its signer is not the coordinator that the root made in that term; CORRUPT, UNSUPPORTED. */
export function openCheckpoint(bytes: Uint8Array, fleet: Hex, rootKey: Hex): Checkpoint {
  const { body, signer } = openStatement('checkpoint', CheckpointBody, bytes)
  if (body.fleet !== fleet) throw new ImagerError('FORGED', { what: 'A checkpoint belongs to another fleet' })
  const { duty, host: first, term } = openDelegation(Buffer.from(body.delegation, 'base64'), fleet, rootKey)
  const handovers = openHandovers(body.handovers ?? [], { fleet, term, rootKey, first })
  const coordinator = handovers.at(-1)?.to ?? first
  if (duty !== 'coordinator' || coordinator !== signer || term !== body.term) {
    throw new ImagerError('FORGED', { what: 'A checkpoint is not signed by the coordinator of its term' })
  }
  return { ...body, bytes: Buffer.from(bytes), hash: toHex(hash(bytes)), signer, handed: handovers.length }
}

export function signCosignature(checkpoint: Checkpoint, time: number, witness: SecretHandle): Buffer {
  const { fleet, term, sequence, hash } = checkpoint
  return signStatement('cosignature', { fleet, term, sequence, checkpoint: hash, time }, witness)
}

/** Who cosigned it. Throws FORGED where it is of another checkpoint; CORRUPT, UNSUPPORTED. */
export function openCosignature(bytes: Uint8Array, of: Checkpoint): Hex {
  const { body, signer } = openStatement('cosignature', CosignatureBody, bytes)
  const isOf = body.fleet === of.fleet && body.term === of.term && body.sequence === of.sequence
  if (isOf && body.checkpoint === of.hash) return signer
  throw new ImagerError('FORGED', { what: 'A cosignature is of another checkpoint' })
}

/** Which of these witnesses cosigned it; what does not verify counts for nobody. */
export function cosignersOf(of: Checkpoint, cosignatures: readonly Uint8Array[], witnesses: readonly Hex[]): Set<Hex> {
  const signers = cosignatures.slice(0, COSIGNATURES).flatMap((bytes) => {
    try {
      return [openCosignature(bytes, of)]
    } catch (error) {
      if (error instanceof ImagerError) return []
      throw error
    }
  })
  return new Set(signers.filter((signer) => witnesses.includes(signer)))
}

/** How many of so many witnesses make a quorum: their majority. None where there are none. */
export function quorumOf(witnesses: number): number {
  return witnesses === 0 ? 0 : Math.floor(witnesses / 2) + 1
}

export function hasQuorum(of: Checkpoint, cosignatures: readonly Uint8Array[], witnesses: readonly Hex[]): boolean {
  return cosignersOf(of, cosignatures, witnesses).size >= quorumOf(witnesses.length)
}

/** Those whom the membership names: seven, five or three of its peers; none where there are fewer (`chooseWitnesses`). */
export function witnessesOf(membership: Pick<Membership, 'witnesses' | 'find'>): MembershipHost[] {
  return membership.witnesses.flatMap((host) => membership.find(host) ?? [])
}

/** The checkpoint, then its cosignatures, each behind its length (u32 little-endian). */
export function encodeCosigned({ checkpoint, cosignatures }: Cosigned): Buffer {
  return Buffer.concat(
    [checkpoint, ...cosignatures].flatMap((bytes) => {
      const length = Buffer.alloc(4)
      length.writeUInt32LE(bytes.length)
      return [length, bytes]
    }),
  )
}

/** Nothing of it is verified. Throws CORRUPT where it does not end where its lengths say, or has too many parts. */
export function decodeCosigned(bytes: Uint8Array): Cosigned {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const parts: Buffer[] = []
  for (let at = 0; at < buffer.length; ) {
    const end = at + 4 <= buffer.length ? at + 4 + buffer.readUInt32LE(at) : Number.POSITIVE_INFINITY
    if (end > buffer.length || parts.length > COSIGNATURES) {
      throw new ImagerError('CORRUPT', { what: 'A cosigned checkpoint does not fit its lengths' })
    }
    parts.push(buffer.subarray(at + 4, end))
    at = end
  }
  const [checkpoint, ...cosignatures] = parts
  if (!checkpoint) throw new ImagerError('CORRUPT', { what: 'A cosigned checkpoint is empty' })
  return { checkpoint, cosignatures }
}
