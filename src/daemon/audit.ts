/** Has another process look through the catalog. */
import { execFile } from 'node:child_process'
import { setPriority } from 'node:os'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import * as v from 'valibot'
import { ImagerError, reason } from '../base/errors.js'
import { MiB } from '../base/units.js'
import type { Audit } from '../catalog/audit.js'

const AUDITOR = fileURLToPath(new URL('./auditor.js', import.meta.url))
/** Of a million stripes whose lengths are damaged. */
const ANSWER_BYTES = 32 * MiB
/** What serves the fleet comes first. */
const NICE = 15

const Answer = v.strictObject({
  findings: v.array(v.strictObject({ path: v.string(), why: v.string(), tables: v.array(v.string()) })),
  records: v.array(v.number()),
})

/** Throws IO where it could not look, as while somebody has the catalog locked. */
export async function auditApart(folder: string, signal: AbortSignal): Promise<Audit> {
  const running = promisify(execFile)(process.execPath, [AUDITOR, folder], { signal, maxBuffer: ANSWER_BYTES })
  try {
    if (running.child.pid !== undefined) setPriority(running.child.pid, NICE)
  } catch {
    // It has ended already, or this system knows no priorities.
  }
  try {
    return v.parse(Answer, JSON.parse((await running).stdout))
  } catch (cause) {
    signal.throwIfAborted()
    throw new ImagerError('IO', { what: `The catalog could not be looked through: ${reason(cause)}` }, { cause })
  }
}
