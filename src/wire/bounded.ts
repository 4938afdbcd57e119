/** An end for every piece of work: its deadline, or the caller's signal. */
import { ImagerError } from '../base/errors.js'

/** How long a call may take, and who may end it before that. */
export interface CallOptions {
  readonly timeoutMs?: number
  readonly signal?: AbortSignal | undefined
  /** Hears when the other host is asked: what passes before that is this computer's own limit (`peers/limited-transport.ts`). */
  readonly begun?: () => void
}

export interface Bounds {
  readonly timeoutMs: number
  readonly signal?: AbortSignal | undefined
  /** What is thrown at the deadline. */
  late(): ImagerError
}

/** `work` hears of its end by a signal whose reason is thrown here at once, whether it listens or not. */
export async function bounded<T>(bounds: Bounds, work: (stop: AbortSignal) => Promise<T>): Promise<T> {
  const { timeoutMs, signal, late } = bounds
  const stop = new AbortController()
  const ended = new Promise<never>((_, reject) => {
    stop.signal.addEventListener('abort', () => reject(stop.signal.reason), { once: true })
  })
  const interrupt = () => stop.abort(new ImagerError('INTERRUPTED', {}, { cause: signal?.reason }))
  const timer = setTimeout(() => stop.abort(late()), timeoutMs)
  signal?.addEventListener('abort', interrupt, { once: true })
  if (signal?.aborted) interrupt()
  try {
    return await Promise.race([work(stop.signal), ended])
  } finally {
    clearTimeout(timer)
    signal?.removeEventListener('abort', interrupt)
  }
}
