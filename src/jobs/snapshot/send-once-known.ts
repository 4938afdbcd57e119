/** After a recovery a peer refuses the grants of the new coordinator until it hears of it, with its next heartbeat. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Clock } from '../../base/clock.js'
import { hasCode } from '../../base/errors.js'
import { HEARTBEAT_MS } from '../../base/limits.js'

const KNOWN_WITHIN_MS = HEARTBEAT_MS + 5_000
const AGAIN_MS = 500
/** What does not fit where the peer's membership is not the newest. */
const OLD = ['signer', 'term']

/** Sends a shard, again where the peer may only not know yet who signed the grant. */
export async function sendOnceKnown<T>(
  send: () => Promise<T>,
  { clock, signal }: { readonly clock: Clock; readonly signal: AbortSignal },
): Promise<T> {
  const patience = clock.now() + KNOWN_WITHIN_MS
  for (;;) {
    try {
      return await send()
    } catch (error) {
      const mayLearn = hasCode(error, 'NOT_ALLOWED') && OLD.includes(String(error.details.field))
      if (!mayLearn || clock.now() > patience) throw error
      await sleep(AGAIN_MS, undefined, { signal })
    }
  }
}
