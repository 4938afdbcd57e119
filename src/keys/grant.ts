/**
 * Leave to do one thing on one peer: store one shard of one stripe, of one length, by one bearer. Signed by the coordinator that
 * the peer's own membership names, so that a peer needs nobody else to decide (docs/formats/grant.md). It ends with nothing: a
 * shard is written once, and the writer's own signature is in it.
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

const GrantBody = v.strictObject({
  fleet: Id,
  term: Term,
  operation: v.literal('put'),
  /** For which the stripe is sent. */
  lease: Id,
  /** Whose stripe it is, and which. */
  writer: Key,
  run: Run,
  number: StripeNumber,
  /** Of the shard in it. */
  index: v.pipe(Count, v.maxValue(31)),
  /** Of the whole shard file. */
  lengthBytes: v.pipe(Count, v.minValue(1), v.maxValue(SHARD_FILE_BYTES)),
  /** The peer that stores. */
  host: Key,
  /** The host that sends. */
  bearer: Key,
  /** The server for whose run it is sent, where that is another's than the bearer's, and that run's lease. */
  beneficiary: v.exactOptional(v.strictObject({ host: Key, lease: Id })),
})
export type Grant = v.InferOutput<typeof GrantBody>

export function signGrant(grant: Grant, coordinator: SecretHandle): Buffer {
  return signStatement('grant', grant, coordinator)
}

export interface GrantUse {
  membership: Membership
  fleet: Hex
  host: Hex
  bearer: Hex
  shard: Hex
  lengthBytes: number
}

/** Throws NOT_ALLOWED with the `field` that does not fit this use. */
export function verifyGrant(bytes: Uint8Array, use: GrantUse): Grant {
  const { body: grant, signer } = openStatement('grant', GrantBody, bytes)
  const require = (field: string, fits: boolean) => {
    if (fits) return
    throw new ImagerError('NOT_ALLOWED', { what: `The grant does not fit: ${field}`, field, role: 'appliance' })
  }
  require('signer', signer === use.membership.coordinator)
  require('fleet', grant.fleet === use.fleet)
  require('term', grant.term === use.membership.term)
  require('host', grant.host === use.host)
  require('bearer', grant.bearer === use.bearer)
  require('shard', shardId(runName(grant.writer, grant.run), grant.number, grant.index) === use.shard)
  require('lengthBytes', grant.lengthBytes === use.lengthBytes)
  const { beneficiary } = grant
  const isServer = ({ host }: { host: Hex }) => use.membership.role(host) === 'appliance' && host !== use.bearer
  require('beneficiary', !beneficiary || isServer(beneficiary))
  return grant
}
