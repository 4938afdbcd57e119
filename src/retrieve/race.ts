/**
 * Asks hosts for shards, some at once. Whenever one of them fails or is late, others are asked as well; one that is late may
 * still come. Who is late, and what is enough, the caller says.
 */
import { setMaxListeners } from 'node:events'
import { isOfHost } from '../base/errors.js'
import type { RouteShard } from '../native.js'

export interface Race {
  /** In the order in which they are asked. */
  readonly shards: readonly RouteShard[]
  /** So many are asked at once. */
  readonly first: number
  readonly signal: AbortSignal | undefined
  /** So many more are asked when this one fails or is late. */
  more(shard: RouteShard): number
  /** Takes what is needed of a shard; says when its host is asked. Throws where the host does not give it. */
  take(shard: RouteShard, stop: AbortSignal, begun: () => void): Promise<void>
  /** Called when the host is asked. Resolves when others shall be asked too. */
  late(shard: RouteShard, stop: AbortSignal): Promise<void>
  /** Whether the race is over; `pending` were asked, and are neither late nor done. */
  enough(pending: number): boolean
}

/** Ends when enough was taken, or when all that were asked are done; the others are let go. Throws by the signal, and our own bugs. */
export async function race(parts: Race): Promise<void> {
  const { signal } = parts
  const over = new AbortController()
  setMaxListeners(0, over.signal)
  const interrupt = () => over.abort(signal?.reason)
  signal?.addEventListener('abort', interrupt, { once: true })
  try {
    signal?.throwIfAborted()
    await run(parts, over.signal)
  } finally {
    over.abort()
    signal?.removeEventListener('abort', interrupt)
  }
}

function run({ shards, first, signal, more, take, late, enough }: Race, over: AbortSignal): Promise<void> {
  const waiting = [...shards]
  /** Asked and not done; of those, not late either. */
  let [open, pending] = [0, 0]
  return new Promise((resolve, reject) => {
    const ask = (count: number) => {
      for (const shard of waiting.splice(0, over.aborted ? 0 : count)) follow(shard)
      if (open === 0 || enough(pending)) resolve()
    }
    const follow = (shard: RouteShard) => {
      open++
      pending++
      let onTime = true
      const watched = new AbortController()
      over.addEventListener('abort', () => watched.abort(), { once: true })
      const leave = (): boolean => {
        const was = onTime
        if (was) pending--
        onTime = false
        return was
      }
      const done = (others: number) => {
        open--
        // It has come: that others have not is nothing to hold against its host.
        watched.abort()
        ask(leave() ? others : 0)
      }
      const watch = () => {
        late(shard, watched.signal)
          .then(() => ask(leave() ? more(shard) : 0))
          .catch(reject)
      }
      take(shard, over, watch)
        .then(
          () => done(0),
          (error: unknown) => {
            throwIfOurs(error, signal)
            done(more(shard))
          },
        )
        .catch(reject)
    }
    ask(first)
  })
}

/**
 * Swallows what a host did wrong: its shard is an erasure. Throws where the read was cancelled, or the error is this computer's or
 * our own bug.
 */
function throwIfOurs(error: unknown, signal: AbortSignal | undefined): void {
  signal?.throwIfAborted()
  if (!isOfHost(error)) throw error
}
