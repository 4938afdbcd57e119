/**
 * Leave for one peer to make one shard of one stripe out of others, and to keep it. Signed by the coordinator; the peers that hold
 * the others give them to it for that alone (docs/formats/grant.md). Like a grant it ends with nothing: what may be made is one shard,
 * whose bytes its writer has signed.
 */
import * as v from 'valibot'
import { ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import { SHARD_FILE_BYTES } from '../base/limits.js'
import { type SecretHandle, shardId } from '../native.js'
import { runName } from '../stripes/names.js'
import { Count, Id, Key, Run, StripeNumber, Term } from './fields.js'
import type { Membership } from './membership.js'
import { openStatement, signStatement } from './statement.js'

const WIDTH = 32
const RepairBody = v.strictObject({
  fleet: Id,
  term: Term,
  /** Whose stripe it is, and which. */
  writer: Key,
  run: Run,
  number: StripeNumber,
  /** Of the shard that is wanted. */
  index: v.pipe(Count, v.maxValue(WIDTH - 1)),
  /** Of its whole file. */
  lengthBytes: v.pipe(Count, v.minValue(1), v.maxValue(SHARD_FILE_BYTES)),
  /** The peer that makes it, and keeps it. */
  host: Key,
})
export type Repair = v.InferOutput<typeof RepairBody>

export function signRepair(repair: Repair, coordinator: SecretHandle): Buffer {
  return signStatement('repair', repair, coordinator)
}

/** Throws NOT_ALLOWED where it is not the coordinator's of now, or not for this host. */
export function openRepair(bytes: Uint8Array, membership: Membership, host: Hex): Repair {
  const { body, signer } = openStatement('repair', RepairBody, bytes)
  const require = (field: string, fits: boolean) => {
    if (fits) return
    throw new ImagerError('NOT_ALLOWED', { what: `The leave to repair does not fit: ${field}`, field, role: 'peer' })
  }
  require('signer', signer === membership.coordinator)
  require('fleet', body.fleet === membership.fleet)
  require('term', body.term === membership.term)
  require('host', body.host === host)
  return body
}

/** The ids of all shards that there can be of its stripe, by their index. */
export function shardsOf({ writer, run, number }: Repair): Hex[] {
  return Array.from({ length: WIDTH }, (_, index) => shardId(runName(writer, run), number, index))
}
