/**
 * All of a source as it was at one moment, although it is written while it is read (docs/static-view.md): it is read once,
 * and then, while it holds still, what moved since is found by its tables and read again.
 *
 * Invariant: the last tables were read, and copied, in one moment that held. Every file is as they say, or is named torn.
 */
import { statfs } from 'node:fs/promises'
import type { Clock } from '../../base/clock.js'
import { hasCode, ImagerError } from '../../base/errors.js'
import { GiB } from '../../base/units.js'
import type { SourceFacts } from '../../disk/source.js'
import { type Moment, openView, type StaticView, type ViewOptions, type ViewParts } from '../../disk/view.js'
import { type DiskScanHandle, type FileRecords, type Reread, type Reuse, scanDisk } from '../../native.js'
import type { Pipeline } from './pipeline.js'

/** Moments that may be tried; each leaves less to be read in the next. */
const MOMENTS = 5
/** What is copied in one moment, at most: a few seconds' worth of a fast disk. Half of the free space where that is less. */
const COPY_BYTES = 4 * GiB

export interface Still {
  readonly view: StaticView
  readonly scan: DiskScanHandle
  /** When its tables were read, in seconds since 1970. */
  readonly taken: number
}

export interface StoreParts {
  readonly clock: Clock
  /** Nothing in use is left out. */
  readonly everything: boolean
  /** Takes the copies of what changed. */
  readonly folder: string
  /** What the last snapshot of this disk holds already. */
  readonly reuse: Reuse | null
}

/** The view that was asked for and the tables as it shows them. Throws NO_STATIC_VIEW, VIEW_REFUSED. */
export async function openStill(
  source: SourceFacts,
  options: ViewOptions,
  everything: boolean,
  parts: ViewParts,
): Promise<Still> {
  const view = await openView(source, options, parts)
  let looked: Omit<Still, 'view'> | undefined
  try {
    looked = await look(view, everything, parts.clock)
    if (looked?.scan.sizeBytes === 0)
      throw new ImagerError('SOURCE_UNREADABLE', { path: source.path, why: 'it is empty' })
    if (looked) return { view, ...looked }
    throw new ImagerError('VIEW_REFUSED', {
      view: 'freeze',
      path: source.path,
      why: 'reading its tables takes too long',
    })
  } catch (error) {
    looked?.scan.close()
    await view.close()
    const other = options.choice === 'auto' && view.live && hasCode(error, 'VIEW_REFUSED')
    if (other) return openStill(source, { ...options, choice: 'quiet' }, everything, parts)
    throw error
  }
}

/** A device that is still open cannot be removed. */
export async function closeStill({ view, scan }: Still): Promise<void> {
  scan.close()
  await view.close()
}

/** The tables of one moment; undefined where it did not last. */
async function look(view: StaticView, everything: boolean, clock: Clock): Promise<Omit<Still, 'view'> | undefined> {
  for (let moment = 0; moment < MOMENTS; moment++) {
    const taken = clock.now() / 1000
    const { value, held } = await view.hold(async ({ broken }) => {
      const scan = await scanDisk(view.path, everything, [...view.flushed])
      return broken() ? undefined : scan
    })
    if (value && held) return { scan: value, taken }
    value?.release()
  }
  return undefined
}

/** Stores all blocks. `torn`: ranges of files that never held still. Throws SOURCE_CHANGED, VIEW_LOST, NO_STATIC_VIEW. */
export async function storeStill(
  { view, scan: first, taken }: Still,
  pipeline: Pipeline,
  parts: StoreParts,
): Promise<{ scan: DiskScanHandle; taken: number; torn: BigUint64Array }> {
  await pipeline.storeBlocks(first.reader(parts.reuse))
  if (pipeline.surprises > 0) {
    pipeline.beginFullPass(first)
    await pipeline.storeBlocks(first.reader(), 'reading everything')
  }
  let scan = first
  let lastTaken = taken
  let torn: BigUint64Array = new BigUint64Array()
  let before: FileRecords | undefined
  for (let moment = 1; view.live && view.moved(); moment++) {
    before ??= await scan.records(taken)
    scan.release()
    const found = await lookAgain(view, before, parts)
    const last = moment >= MOMENTS
    if (!found && last) throw new ImagerError('SOURCE_CHANGED', { path: view.path, what: 'it never held still' })
    if (!found) continue
    const { again } = found
    scan = found.scan
    lastTaken = found.taken
    pipeline.beginPass(again)
    const copied = again.copied()
    const left = again.rest()
    await pipeline.storeBlocks(copied, 'storing what changed')
    again.release()
    if (left.totalBytes === 0) break
    await pipeline.storeBlocks(left, 'reading again what changed')
    if (last && view.moved()) {
      const tables = again.tablesLeft
      if (tables > 0)
        throw new ImagerError('SOURCE_CHANGED', { path: view.path, what: `${tables} bytes of its tables moved` })
      torn = again.rangesLeft()
      break
    }
    before = await scan.records(found.taken)
  }
  await view.confirm()
  return { scan, taken: lastTaken, torn }
}

/** The tables once more, and a copy of what changed, as much as one moment allows. */
async function lookAgain(
  view: StaticView,
  before: FileRecords,
  { clock, everything, folder }: StoreParts,
): Promise<{ scan: DiskScanHandle; again: Reread; taken: number } | undefined> {
  const { bavail, bsize } = await statfs(folder)
  const room = Math.min(COPY_BYTES, (bavail * bsize) / 2)
  const taken = clock.now() / 1000
  const { value, held } = await view.hold(async (moment) => {
    const scan = await scanDisk(view.path, everything, [...view.flushed])
    const again = await scan.reread(before, folder)
    if (moment.broken()) return undefined
    await copy(again, moment, room)
    return { scan, again, taken }
  })
  if (held) return value
  value?.again.release()
  return undefined
}

async function copy(again: Reread, { open, broken }: Moment, room: number): Promise<void> {
  while (again.copiedBytes < room && open()) {
    const more = await again.step()
    if (broken()) again.dropLast()
    if (broken() || !more) return
  }
}
