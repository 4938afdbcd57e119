/**
 * How an ImagerError travels: an HTTP status for whoever looks at the line, and `{code, details}` as JSON, from which the
 * other side makes the same error again. What arrives comes from another host: capped, and cleaned for terminals.
 */
import * as v from 'valibot'
import { ERRORS, type ErrorCode, hasCode, ImagerError } from '../base/errors.js'

const STATUS: Partial<Record<ErrorCode, number>> = {
  PROTOCOL: 400,
  INVALID: 400,
  USAGE: 400,
  UNSUPPORTED: 400,
  NOT_ALLOWED: 403,
  WRONG_KEY: 403,
  MEMBERSHIP_SHRINKS: 403,
  SHARD_MISSING: 404,
  NO_SUCH_SNAPSHOT: 404,
  NO_SUCH_HOST: 404,
  NO_SUCH_VOLUME: 404,
  NO_SUCH_FILE: 404,
  HOST_REFUSED: 409,
  TOO_MANY_KEYS: 409,
  WHOLE_NEEDED: 409,
  NAME_TAKEN: 409,
  WOULD_LOSE: 409,
  CORRUPT: 422,
  FORGED: 422,
  SHARD_CORRUPT: 422,
  HOST_FULL: 507,
  COORDINATOR_READ_ONLY: 503,
}

const Text = v.pipe(v.string(), v.maxLength(2048), v.transform(clean))
const Detail = v.union([Text, v.number(), v.boolean(), v.null(), v.pipe(v.array(Text), v.maxLength(256))])
const Refusal = v.object({ code: v.string(), details: v.record(v.string(), Detail) })

/** Anything that is not ours is our own bug: its text stays here. */
export function encodeRefusal(error: unknown): { status: number; body: Buffer } {
  const ours =
    error instanceof ImagerError ? error : new ImagerError('HOST_REFUSED', { host: 'The host', why: 'internal error' })
  const status = STATUS[ours.code] ?? 500
  return { status, body: Buffer.from(JSON.stringify({ code: ours.code, details: ours.details })) }
}

/** Of the computer that says so: told by another host they would be taken for our own. */
const OWN: readonly string[] = ['EXHAUSTED', 'INTERRUPTED'] satisfies ErrorCode[]

/** The error that the other side met; HOST_REFUSED where this version does not know it, or where it is that host's own. */
export function decodeRefusal(host: string, status: number, body: Uint8Array): ImagerError {
  const result = v.safeParse(Refusal, parse(body))
  if (result.success && Object.hasOwn(ERRORS, result.output.code)) {
    const error = new ImagerError(result.output.code as ErrorCode, result.output.details)
    return OWN.includes(error.code) ? new ImagerError('HOST_REFUSED', { host, why: error.message }) : error
  }
  const why = result.success ? clean(result.output.code.slice(0, 64)) : `status ${status}`
  return new ImagerError('HOST_REFUSED', { host, why })
}

function parse(body: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(body).toString())
  } catch {
    return undefined
  }
}

const NOT_MEMBER = 'This host is not a member of the fleet there'

export function notMember(): ImagerError {
  return new ImagerError('NOT_ALLOWED', { what: NOT_MEMBER, role: 'peer' })
}

/** Did the other side say that it does not know the caller? */
export function isNotMember(error: unknown): boolean {
  return hasCode(error, 'NOT_ALLOWED') && error.details.what === NOT_MEMBER
}

/** Control and direction characters could rewrite a terminal's line. */
function clean(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '?')
}
