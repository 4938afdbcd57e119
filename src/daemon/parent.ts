/**
 * What a process in the background says to the command that started it, over the channel between them: that it is ready, or
 * why it is not. One message; then the channel is closed and neither holds the other.
 */
import * as v from 'valibot'
import { ERRORS, type ErrorCode, ImagerError, reason } from '../base/errors.js'
import { systemError } from '../base/system.js'

const Detail = v.union([v.string(), v.number(), v.boolean(), v.null(), v.array(v.string())])
const Named = v.object({
  id: v.string(),
  source: v.string(),
  applianceName: v.string(),
  time: v.number(),
  arrived: v.number(),
})
const Ready = v.object({
  status: v.literal('mounted'),
  mountpoint: v.string(),
  pid: v.number(),
  /** The one that was mounted, and those that `latest` could have meant as well. */
  snapshot: v.object({ ...Named.entries, others: v.array(Named) }),
})
const Failed = v.object({
  status: v.literal('error'),
  code: v.nullable(v.string()),
  message: v.string(),
  details: v.record(v.string(), Detail),
})
const Message = v.union([Ready, Failed])
export type Ready = v.InferOutput<typeof Ready>

/** False where no command waits: it was started by a person, or has answered already. */
export function tellParent(what: unknown): boolean {
  if (!process.send || !process.connected) return false
  const message = v.is(Ready, what) ? what : failure(what)
  process.send(message, () => process.disconnect())
  return true
}

/** Throws what the process failed with. */
export function readChild(message: unknown): Ready {
  const said = v.parse(Message, message)
  if (said.status === 'mounted') return said
  if (said.code !== null && said.code in ERRORS) throw new ImagerError(said.code as ErrorCode, said.details)
  throw new Error(said.message)
}

function failure(error: unknown): v.InferOutput<typeof Failed> {
  const known = error instanceof ImagerError ? error : systemError(error)
  const details = v.safeParse(v.record(v.string(), Detail), known?.details ?? {})
  return {
    status: 'error',
    code: known?.code ?? null,
    message: reason(error),
    details: details.success ? details.output : {},
  }
}
