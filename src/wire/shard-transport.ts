/**
 * How the file of a shard gets to a peer and back. Two ways do it, `peers/data-transport.ts` and `peers/https-transport.ts`;
 * they share no state, and one conformance suite holds both to what is said here (test/peers/conformance.ts).
 *
 * What comes is not verified: whoever asked compares it with a root or a signature.
 */
import type { Hex } from '../base/ids.js'
import type { BodyHandle, StripeShard } from '../native.js'
import type { CallOptions } from './bounded.js'

/** What can be put: bytes, which must not change meanwhile, or a shard that the addon holds. */
export type ShardFile = Uint8Array | StripeShard

/** Of a shard's file; end exclusive. */
export type ShardRange = readonly [start: number, end: number]

/**
 * Both calls end by `timeoutMs` (default TRANSFER_TIMEOUT_MS), waiting for a connection included, and at once by `signal`.
 * Both throw
 * - what the peer answered: NOT_ALLOWED, SHARD_MISSING, SHARD_CORRUPT, HOST_FULL, CORRUPT, FORGED, ...;
 * - HOST_UNREACHABLE where it does not answer in time, or the connection is cut;
 * - HOST_LIED where another key answers: nothing was sent to it;
 * - PROTOCOL or HOST_LIED where an answer is none, or is longer or shorter than what was asked for;
 * - INTERRUPTED by the signal;
 * - `NotCarried` where the host is there but not for this way of asking. Nothing was stored, and another way may do.
 */
export interface ShardTransport {
  /** What the host says of it, once the shard is durable there; not verified. `grant` in base64, as the coordinator gave it. */
  put(shard: Hex, file: ShardFile, grant: string, options?: CallOptions): Promise<Buffer>
  /** Exactly the bytes of the range; without one the whole file, which is at most SHARD_FILE_BYTES long. */
  fetch(shard: Hex, range: ShardRange | undefined, options?: CallOptions): Promise<BodyHandle>
}

/** The host answers, but does not carry data this way. */
export class NotCarried extends Error {}
