/**
 * What a restore may write to. Everything is checked, and the target named for people, before it is opened for writing; a
 * refusal creates and truncates nothing.
 */
import { closeSync, existsSync, openSync, readSync, type Stats, statfsSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { ImagerError, reason } from '../base/errors.js'
import { atPath, isLimit } from '../base/system.js'
import { MiB } from '../base/units.js'
import { deviceName, deviceTitle, usesOf, usesOfFile } from './source.js'

export interface TargetFacts {
  readonly path: string
  readonly kind: 'device' | 'file' | 'new file'
  /** Model, serial and path of a disk. */
  readonly title: string
  readonly sizeBytes: number
}

/** What a target must have room for. */
export interface Room {
  /** The whole disk. */
  readonly sizeBytes: number
  /** What of it was in use: a file has holes for the rest. */
  readonly allocatedBytes: number
}

/** Throws TARGET_MISSING, TARGET_MOUNTED, TARGET_TOO_SMALL or TARGET_NOT_EMPTY. */
export function inspectTarget(path: string, room: Room, force: boolean): TargetFacts {
  const stats = existsSync(path) ? statSync(path) : undefined
  if (stats && !stats.isFile() && !stats.isBlockDevice()) {
    throw new ImagerError('TARGET_MISSING', { path, why: 'it is neither a block device nor a regular file' })
  }
  if (stats?.isBlockDevice()) return device(path, stats, room.sizeBytes, force)
  const facts = stats ? existingFile(path, stats, force) : newFile(path)
  // A file system that compresses may have room all the same.
  if (!force) requireRoom(path, room.allocatedBytes, (stats?.blocks ?? 0) * 512)
  return facts
}

/** Whether nothing would be lost: a device by the same samples that make it empty, a file by all its bytes. */
export function isBlank({ path, kind, sizeBytes }: TargetFacts): boolean {
  return kind === 'new file' || (kind === 'device' ? firstContent(path, sizeBytes) === undefined : isZeros(path))
}

function isZeros(path: string): boolean {
  const [buffer, zeros] = [Buffer.alloc(MiB), Buffer.alloc(MiB)]
  const descriptor = openSync(path, 'r')
  try {
    for (let at = 0; ; ) {
      const length = atPath(path, () => readSync(descriptor, buffer, 0, MiB, at))
      if (length === 0) return true
      if (!buffer.subarray(0, length).equals(zeros.subarray(0, length))) return false
      at += length
    }
  } finally {
    closeSync(descriptor)
  }
}

export function notEmpty(path: string, what: string): ImagerError {
  return new ImagerError('TARGET_NOT_EMPTY', { path, what, loss: 'all that is on it will be lost' })
}

/** Free space under a path that may not be there yet, besides what it holds already. Throws TARGET_TOO_SMALL. */
export function requireRoom(path: string, neededBytes: number, heldBytes: number): void {
  let folder = path
  while (!existsSync(folder)) folder = dirname(folder)
  const { bavail, bsize } = statfsSync(folder)
  const targetBytes = bavail * bsize + heldBytes
  if (targetBytes < neededBytes) throw new ImagerError('TARGET_TOO_SMALL', { path, targetBytes, neededBytes })
}

function newFile(path: string): TargetFacts {
  const folder = dirname(path)
  const isFolder = existsSync(folder) && statSync(folder).isDirectory()
  // A mistyped device must not become a file that fills /dev.
  if (!isFolder || folder === '/dev' || folder.startsWith('/dev/')) {
    throw new ImagerError('TARGET_MISSING', { path, why: 'there is no such device, and no folder to create a file in' })
  }
  return { path, kind: 'new file', title: path, sizeBytes: 0 }
}

function existingFile(path: string, stats: Stats, force: boolean): TargetFacts {
  const uses = usesOfFile(path)
  if (uses.length > 0) throw new ImagerError('TARGET_MOUNTED', { path, use: uses.join(', ') })
  if (stats.size > 0 && !force) throw notEmpty(path, `it has ${stats.size} bytes`)
  return { path, kind: 'file', title: path, sizeBytes: stats.size }
}

function device(path: string, stats: Stats, neededBytes: number, force: boolean): TargetFacts {
  const name = deviceName(stats)
  const uses = usesOf(name)
  if (uses.length > 0) throw new ImagerError('TARGET_MOUNTED', { path, use: uses.join(', ') })
  const sizeBytes = readSize(path, name)
  if (sizeBytes < neededBytes) {
    throw new ImagerError('TARGET_TOO_SMALL', { path, targetBytes: sizeBytes, neededBytes })
  }
  const found = force ? undefined : firstContent(path, sizeBytes)
  if (found !== undefined) throw notEmpty(path, `there is data at byte ${found}`)
  return { path, kind: 'device', title: deviceTitle(path, name), sizeBytes }
}

/** Of a device, from the kernel: whole sectors of 512 bytes. */
function readSize(path: string, name: string): number {
  const sectors = Number(readSysfs(name))
  if (Number.isSafeInteger(sectors) && sectors > 0) return sectors * 512
  throw new ImagerError('TARGET_MISSING', { path, why: 'its size is unknown' })
}

function readSysfs(name: string): string {
  const buffer = Buffer.alloc(64)
  const descriptor = openSync(`/sys/class/block/${name}/size`, 'r')
  try {
    return buffer.toString('latin1', 0, readSync(descriptor, buffer)).trim()
  } finally {
    closeSync(descriptor)
  }
}

/** Where tables and superblocks of every kind lie: both ends, and a sample between. Undefined: only zeros there. */
function firstContent(path: string, sizeBytes: number): number | undefined {
  const edgeBytes = MiB
  const last = Math.max(0, sizeBytes - edgeBytes)
  const samples = Array.from({ length: 64 }, (_, at) => Math.floor((last * at) / 63 / 4096) * 4096)
  let descriptor: number
  try {
    descriptor = openSync(path, 'r')
  } catch (cause) {
    if (isLimit(cause)) throw cause
    throw new ImagerError('TARGET_MISSING', { path, why: reason(cause) }, { cause })
  }
  try {
    for (const offset of samples) {
      const buffer = Buffer.alloc(offset === 0 || offset >= last - 4096 ? edgeBytes : 4096)
      const length = atPath(path, () => readSync(descriptor, buffer, 0, buffer.length, offset))
      const at = buffer.subarray(0, length).findIndex((byte) => byte !== 0)
      if (at >= 0) return offset + at
    }
    return undefined
  } finally {
    closeSync(descriptor)
  }
}
