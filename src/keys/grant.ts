/**
 * Leave to do one thing on one peer: store one shard of one length, by one bearer, until a time. Signed by the
 * coordinator that the peer's own membership names, so that a peer needs nobody else to decide (docs/formats/grant.md).
 */
import * as v from 'valibot'
import { ImagerError } from '../base/errors.js'
import type { Hex } from '../base/ids.js'
import { SHARD_FILE_BYTES } from '../base/limits.js'
import type { SecretHandle } from '../native.js'
import { Count, Id, Key, Term, Time } from './fields.js'
import type { Membership } from './membership.js'
import { openStatement, signStatement } from './statement.js'

const GrantBody = v.strictObject({
  fleet: Id,
  term: Term,
  operation: v.literal('put'),
  shard: Id,
  /** Of the whole shard file. */
  lengthBytes: v.pipe(Count, v.minValue(1), v.maxValue(SHARD_FILE_BYTES)),
  /** The peer that stores. */
  host: Key,
  /** The host that sends. */
  bearer: Key,
  expires: Time,
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
  now: number
}

/** Throws NOT_ALLOWED with the `field` that does not fit this use; GRANT_EXPIRED, with both times, where it is too late. */
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
  require('shard', grant.shard === use.shard)
  require('lengthBytes', grant.lengthBytes === use.lengthBytes)
  if (use.now < grant.expires) return grant
  throw new ImagerError('GRANT_EXPIRED', { expires: timeOf(grant.expires), now: timeOf(use.now), field: 'expires' })
}

/** In UTC, whatever the two hosts' zones are. */
function timeOf(timeMs: number): string {
  const time = new Date(timeMs)
  return Number.isNaN(time.getTime()) ? `${timeMs} ms` : time.toISOString()
}
