/**
 * A static view of the source (docs/static-view.md). An image file or an unmounted device holds still by itself; a device in
 * use must show a quiet window, or is refused. Afterwards `confirm` proves that nothing was written meanwhile.
 */
import { execFile } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import type { Clock } from '../base/clock.js'
import { ImagerError, reason } from '../base/errors.js'
import { type SourceFacts, writeMark } from './source.js'

export interface ViewOptions {
  readonly quietMs: number
  readonly giveUpMs: number
}

export const DEFAULT_VIEW: ViewOptions = { quietMs: 3_000, giveUpMs: 80_000 }
const POLL_MS = 100

export interface StaticView {
  /** What was obtained, as the snapshot records it. */
  readonly how: string
  /** Throws SOURCE_CHANGED where the source was written since. */
  confirm(): void
}

/** Throws NO_STATIC_VIEW. */
export async function openView(
  source: SourceFacts,
  options: ViewOptions,
  clock: Clock,
  signal: AbortSignal,
): Promise<StaticView> {
  const { path, uses } = source
  let how = source.kind === 'file' ? 'image file' : 'device not in use'
  if (uses.length > 0) {
    for (const mount of uses.filter((use) => use.startsWith('/'))) await command('sync', ['-f', mount])
    await waitForQuiet(path, options, clock, signal)
    // What an earlier reader left in the device's cache may be older than what the file system wrote past it.
    if (source.kind === 'device') await command('blockdev', ['--flushbufs', path])
    how = `quiet for ${options.quietMs / 1000} s while in use (${uses.join(', ')})`
  }
  const before = writeMark(path)
  return {
    how,
    confirm() {
      if (writeMark(path) === before) return
      throw new ImagerError('SOURCE_CHANGED', { path, what: 'its size, times or write counters moved' })
    },
  }
}

async function waitForQuiet(
  path: string,
  { quietMs, giveUpMs }: ViewOptions,
  clock: Clock,
  signal: AbortSignal,
): Promise<void> {
  const started = clock.now()
  let mark = writeMark(path)
  let since = started
  while (clock.now() - since < quietMs) {
    if (clock.now() - started > giveUpMs) throw new ImagerError('NO_STATIC_VIEW', { path, seconds: giveUpMs / 1000 })
    await sleep(POLL_MS, undefined, { signal })
    const now = writeMark(path)
    if (now !== mark) since = clock.now()
    mark = now
  }
}

async function command(name: string, args: readonly string[]): Promise<void> {
  try {
    await promisify(execFile)(name, args)
  } catch (cause) {
    throw new ImagerError('IO', { what: `${name} ${args.join(' ')} failed: ${reason(cause)}` }, { cause })
  }
}
