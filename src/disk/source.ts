/**
 * What is known of a source before it is read: what it is, whether somebody uses it, and a mark that changes when it is
 * written. Nothing here opens it for writing.
 */
import { readdirSync, readFileSync, realpathSync, type Stats, statSync } from 'node:fs'
import { basename, join } from 'node:path'
import { ImagerError, reason } from '../base/errors.js'
import { deviceNumbers, type Mount, readMounts } from './mounts.js'

/** Of everything in /sys, whatever the device's own sectors. */
const SECTOR_BYTES = 512

export interface SourceFacts {
  readonly path: string
  readonly kind: 'device' | 'file'
  /** For people: model and serial of a disk, or the path. */
  readonly title: string
  /** Where the device or a part of it is mounted, or "swap". */
  readonly uses: readonly string[]
  /** The same mounts, with the byte of the source at which each begins; undefined where it is not a partition of it. */
  readonly mounts: readonly (Mount & { readonly start: number | undefined })[]
  readonly logicalVolume: boolean
}

/** Throws SOURCE_MISSING or SOURCE_UNREADABLE. */
export function inspectSource(path: string): SourceFacts {
  const stats = statOf(path)
  if (stats.isFile())
    return { path, kind: 'file', title: path, ...usesOn(loopsOf(path), loopOffset), logicalVolume: false }
  if (!stats.isBlockDevice()) {
    throw new ImagerError('SOURCE_UNREADABLE', { path, why: 'it is neither a block device nor a regular file' })
  }
  const name = deviceName(stats)
  const logicalVolume = sysfs(name, 'dm/uuid')?.startsWith('LVM-') ?? false
  return { path, kind: 'device', title: deviceTitle(path, name), ...usesOn([name]), logicalVolume }
}

/** `/dev/sdb ATA Samsung_SSD S3Z9NB0K`, as far as the kernel knows. */
export function deviceTitle(path: string, name: string): string {
  const about = ['vendor', 'model', 'serial', 'wwid'].map((key) => sysfs(name, `device/${key}`))
  return [path, ...about].filter(Boolean).join(' ')
}

/** Changes when the source is written: counters of a device, times of a file. */
export function writeMark(path: string): string {
  const stats = statOf(path)
  if (stats.isFile()) {
    const { size, mtimeNs, ctimeNs, ino } = statSync(path, { bigint: true })
    return `${ino} ${size} ${mtimeNs} ${ctimeNs}`
  }
  const name = deviceName(stats)
  // Fields 5 and 7 of the statistics: writes completed, sectors written (kernel documentation, block/stat).
  const fields = sysfs(name, 'stat')?.split(/\s+/) ?? []
  return `${sysfs(name, 'size')} ${fields[4]} ${fields[6]}`
}

function statOf(path: string): Stats {
  try {
    return statSync(path)
  } catch (cause) {
    const missing = (cause as NodeJS.ErrnoException).code === 'ENOENT'
    if (missing) throw new ImagerError('SOURCE_MISSING', { path }, { cause })
    throw new ImagerError('SOURCE_UNREADABLE', { path, why: reason(cause) }, { cause })
  }
}

/** The kernel's name of a block device: sdb, sdb1, loop3. */
export function deviceName(stats: Stats): string {
  return basename(realpathSync(`/sys/dev/block/${deviceNumbers(stats.rdev)}`))
}

function sysfs(name: string, file: string): string | undefined {
  try {
    return readFileSync(join('/sys/class/block', name, file), 'utf8').trim() || undefined
  } catch {
    return undefined
  }
}

/** Mounts and swap on devices, their partitions, and what stands on them (md, dm). */
function usesOn(
  devices: readonly string[],
  offsetOf: (device: string) => number = () => 0,
): Pick<SourceFacts, 'uses' | 'mounts'> {
  const partitions = readFileSync('/proc/partitions', 'utf8').split('\n')
  const all = partitions.flatMap((line) => line.trim().split(/\s+/)[3] ?? [])
  const swaps = readFileSync('/proc/swaps', 'utf8').split('\n').slice(1)
  const swapping = swaps.map((line) => basename(line.split(/\s+/)[0] ?? ''))
  const mounts = devices.flatMap((device) => {
    const above = [device, ...all.filter((other) => isPart(device, other))]
    return readMounts().flatMap((mount) => {
      // btrfs has device numbers of its own, a FUSE file system (ntfs-3g) too: they name the device as their source.
      const name = above.find((one) => sysfs(one, 'dev') === mount.device || one === basename(mount.source))
      return name === undefined ? [] : [{ ...mount, start: startOf(device, name, offsetOf(device)) }]
    })
  })
  const swapped = devices.some((device) => swapping.some((name) => name === device || isPart(device, name)))
  const points = mounts.map(({ point }) => point)
  return { mounts, uses: swapped ? [...points, 'swap'] : points }
}

/** The first byte of a partition (or the device itself) in the source, where the device begins at `offset`. */
function startOf(device: string, name: string, offset: number): number | undefined {
  if (name === device) return offset
  const partition =
    sysfs(name, 'partition') && realpathSync(join('/sys/class/block', name)).split('/').at(-2) === device
  return partition ? offset + Number(sysfs(name, 'start')) * SECTOR_BYTES : undefined
}

export function usesOf(name: string): readonly string[] {
  return usesOn([name]).uses
}

/** The same for the loop devices that an image file is attached to. */
export function usesOfFile(path: string): readonly string[] {
  return usesOn(loopsOf(path)).uses
}

function loopsOf(path: string): string[] {
  const real = realpathSync(path)
  return readdirSync('/sys/class/block').filter((name) => sysfs(name, 'loop/backing_file') === real)
}

function loopOffset(name: string): number {
  return Number(sysfs(name, 'loop/offset') ?? 0)
}

function isPart(disk: string, other: string): boolean {
  if (disk === other) return false
  try {
    const real = realpathSync(join('/sys/class/block', other))
    return real.split('/').includes(disk) || sysfs(other, `slaves/${disk}/dev`) !== undefined
  } catch {
    return false
  }
}
