/**
 * A snapshot as a folder: mounts, serves, and lets go. One process serves one mount (the command sees to that), so that
 * neither the daemon nor another mount goes down with it.
 */
import { lstat, readdir, realpath, writeFile } from 'node:fs/promises'
import { basename, dirname, join, resolve, sep } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Clock, systemClock } from '../base/clock.js'
import { hasCode, ImagerError, reason } from '../base/errors.js'
import { isLimit } from '../base/system.js'
import { KiB } from '../base/units.js'
import { type FuseSessionHandle, mountFileSystem } from '../native.js'
import type { SnapshotReader } from '../retrieve/reader.js'
import type { Decompress } from '../retrieve/stream.js'
import { Complaints } from './complaints.js'
import { FuseServer } from './fuse.js'
import { type MountEntry, ourMountAt, readMounts } from './mountinfo.js'
import { Tree } from './tree.js'
import { detach } from './unmount.js'

/** A read that has no answer by then gets EIO. The addon had it for some seconds before, and the kernel reads once more. */
const DEADLINE_MS = 25_000
/** The kernel's own read-ahead, whose default of 128 KiB makes eight times as many requests. */
const READ_AHEAD_KIB = 1024
/** Prefetched of the beginning of each volume: superblocks lie there, that of btrfs farthest behind, at 64 KiB. */
const BEGINNING_BYTES = 128 * KiB
const BEGINNINGS = 16
const BEGINNINGS_MS = 100
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
/** After an abort the kernel lets go within milliseconds. */
const CLOSE_TIMEOUT_MS = 2_000

export interface MountParts {
  /** Shown by `mount` and `df` as the source. */
  readonly name: string
  readonly decompress: Decompress
  /** The mount may neither lie in this folder nor hide it. */
  readonly stateFolder?: string
  readonly deadlineMs?: number
  readonly clock?: Clock
  /** Where failures are told; stderr. */
  readonly write?: (line: string) => void
}

export interface Mounted {
  readonly mountpoint: string
  /** Resolves when the kernel let go, whoever unmounted; with files open that is when the last is closed. */
  readonly unmounted: Promise<void>
  /** Unmounts now. Those who still read get an error. */
  close(): Promise<void>
}

/** Mounts on an existing empty folder. Throws MOUNT_FAILED. */
export async function mountSnapshot(reader: SnapshotReader, path: string, parts: MountParts): Promise<Mounted> {
  const beginnings = prefetchBeginnings(reader)
  const mountpoint = await checkMountpoint(path, parts.stateFolder)
  const write = parts.write ?? ((line: string) => void process.stderr.write(line))
  const owner = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 }
  const tree = new Tree(reader, parts.decompress, owner)
  const server = new FuseServer(tree, {
    complaints: new Complaints(parts.clock ?? systemClock, write),
    deadlineMs: parts.deadlineMs ?? DEADLINE_MS,
  })
  // It is seen when it can be read at once; slow hosts do not hold it up.
  await Promise.race([beginnings, sleep(BEGINNINGS_MS)])
  const session = await serveSession(server, mountpoint, {
    name: `imager:${parts.name.replace(/[^A-Za-z0-9:._-]/g, '_')}`,
    totalBytes: reader.sizeBytes,
  })
  if (reader.diskReader) for (const image of tree.images()) session.handle.show(...image, reader.diskReader)
  const entry = ourMountAt(await readMounts(), Buffer.from(mountpoint))
  if (entry) await widenReadAhead(entry)
  learnInPauses(reader, server).catch(() => undefined)
  const close = () => closeSession(session, server, mountpoint, entry)
  return { mountpoint, unmounted: session.unmounted, close }
}

/** What is looked at first: the partition table and the beginnings of file systems. */
async function prefetchBeginnings(reader: SnapshotReader): Promise<void> {
  const starts = [0, ...reader.volumes.map((volume) => volume.startBytes)].slice(0, BEGINNINGS)
  const lengthAt = (start: number) => Math.min(BEGINNING_BYTES, reader.sizeBytes - start)
  await Promise.all(starts.map(async (start) => reader.prefetch?.(start, lengthAt(start))))
}

/** Fetches the map ahead while no request waits: the first read of anything then costs its block and nothing more. */
async function learnInPauses(reader: SnapshotReader, server: FuseServer): Promise<void> {
  const steps = reader.learn?.()
  while (steps && (await server.pause())) if ((await steps.next()).done) return
}

/** For a process that only serves: waits for the end, and closes the mount when it is told to end itself. */
export async function serveUntilUnmounted(mounted: Mounted): Promise<void> {
  // Without a handler a signal would leave a dead mount behind.
  const close = () => void mounted.close().catch(() => undefined)
  for (const signal of SIGNALS) process.on(signal, close)
  await mounted.unmounted
  for (const signal of SIGNALS) process.off(signal, close)
}

interface Served {
  readonly handle: FuseSessionHandle
  readonly unmounted: Promise<void>
}

async function serveSession(
  server: FuseServer,
  mountpoint: string,
  shown: { name: string; totalBytes: number },
): Promise<Served> {
  let handle: FuseSessionHandle | undefined
  let ended = () => {}
  const unmounted = new Promise<void>((resolve) => {
    ended = resolve
  })
  const pump = () => {
    if (!handle) return
    for (const request of handle.take()) server.serve(request)
    for (const read of handle.takeSequentialReads()) server.hear(read)
    if (!handle.ended) return
    server.stop()
    handle.release()
    ended()
  }
  try {
    handle = await mountFileSystem(Buffer.from(mountpoint), shown, pump)
  } catch (error) {
    if (hasCode(error, 'EXHAUSTED')) throw error
    throw new ImagerError('MOUNT_FAILED', { path: mountpoint, why: reason(error) }, { cause: error })
  }
  // Requests that came before the handle did.
  pump()
  return { handle, unmounted }
}

async function closeSession(
  { handle, unmounted }: Served,
  server: FuseServer,
  mountpoint: string,
  entry: MountEntry | undefined,
): Promise<void> {
  if (handle.ended) return await unmounted
  // Only if the name still shows this very mount: it may have been unmounted while busy, and mounted anew.
  const seen = ourMountAt(await readMounts(), Buffer.from(mountpoint))
  if (entry && seen?.minor === entry.minor && seen.major === entry.major) await detach(mountpoint, 'abort')
  if (entry) await abortConnection(entry)
  server.stop()
  let timer: NodeJS.Timeout | undefined
  const patience = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, CLOSE_TIMEOUT_MS)
  })
  await Promise.race([unmounted, patience])
  clearTimeout(timer)
}

/** For mounts that have no name any more, and for those who may not force an unmount. */
async function abortConnection({ minor }: MountEntry): Promise<void> {
  // fusectl need not be mounted; then the end of this process does the same.
  await writeFile(`/sys/fs/fuse/connections/${minor}/abort`, '1').catch(() => undefined)
}

async function widenReadAhead({ major, minor }: MountEntry): Promise<void> {
  // Only root may; without it everything works, slower.
  await writeFile(`/sys/class/bdi/${major}:${minor}/read_ahead_kb`, `${READ_AHEAD_KIB}`).catch(() => undefined)
}

/** The real name of a folder that can be mounted on. */
async function checkMountpoint(path: string, stateFolder?: string): Promise<string> {
  const refuse = (why: string) => new ImagerError('MOUNT_FAILED', { path, why })
  const absolute = resolve(path)
  const parent = await realpath(dirname(absolute)).catch(() => undefined)
  if (parent && ourMountAt(await readMounts(), Buffer.from(join(parent, basename(absolute))))) {
    throw refuse(`a snapshot is mounted there already; \`imager unmount ${path}\` removes it, dead or alive`)
  }
  let real: string
  try {
    real = await realpath(absolute)
    if (!(await lstat(real)).isDirectory()) throw refuse('it is not a folder')
    if ((await readdir(real)).length > 0) throw refuse('the folder is not empty')
  } catch (error) {
    if (error instanceof ImagerError || isLimit(error)) throw error
    throw refuse((error as NodeJS.ErrnoException).code === 'ENOENT' ? 'there is no such folder' : reason(error))
  }
  const state = stateFolder && (await realpath(stateFolder).catch(() => resolve(stateFolder)))
  if (state && (within(real, state) || within(state, real))) {
    throw refuse(`it overlaps the state folder ${state}`)
  }
  return real
}

/** Is `path` the folder, or in it? */
function within(path: string, folder: string): boolean {
  return path === folder || path.startsWith(folder.endsWith(sep) ? folder : folder + sep)
}
