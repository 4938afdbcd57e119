/**
 * What is known of a source before it is read: what it is, whether somebody uses it, and a mark that changes when it is
 * written. Nothing here opens it for writing.
 */
import { readdirSync, readFileSync, realpathSync, type Stats, statSync } from 'node:fs'
import { basename, join } from 'node:path'
import { ImagerError, reason } from '../base/errors.js'

export interface SourceFacts {
  readonly path: string
  readonly kind: 'device' | 'file'
  /** For people: model and serial of a disk, or the path. */
  readonly title: string
  /** Where the device or a part of it is mounted, or "swap". */
  readonly uses: readonly string[]
}

/** Throws SOURCE_MISSING or SOURCE_UNREADABLE. */
export function inspectSource(path: string): SourceFacts {
  const stats = statOf(path)
  if (stats.isFile()) return { path, kind: 'file', title: path, uses: usesOfFile(path) }
  if (!stats.isBlockDevice()) {
    throw new ImagerError('SOURCE_UNREADABLE', { path, why: 'it is neither a block device nor a regular file' })
  }
  const name = deviceName(stats)
  return { path, kind: 'device', title: deviceTitle(path, name), uses: usesOf(name) }
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
  return basename(realpathSync(`/sys/dev/block/${major(stats.rdev)}:${minor(stats.rdev)}`))
}

/** Linux' encoding of device numbers (makedev(3)). */
function major(device: number): number {
  return Number(((BigInt(device) >> 8n) & 0xfffn) | ((BigInt(device) >> 32n) & ~0xfffn))
}

function minor(device: number): number {
  return Number((BigInt(device) & 0xffn) | ((BigInt(device) >> 12n) & ~0xffn))
}

function sysfs(name: string, file: string): string | undefined {
  try {
    return readFileSync(join('/sys/class/block', name, file), 'utf8').trim() || undefined
  } catch {
    return undefined
  }
}

/** Mount points and swap on a device, its partitions, and what stands on them (md, dm). */
export function usesOf(name: string): string[] {
  const numbers = new Set([sysfs(name, 'dev')])
  const partitions = readFileSync('/proc/partitions', 'utf8')
  const names = partitions.split('\n').flatMap((line) => line.trim().split(/\s+/)[3] ?? [])
  const above = names.filter((other) => isPart(name, other))
  for (const part of above) numbers.add(sysfs(part, 'dev'))
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8').split('\n')
  const points = mounts.flatMap((line) => {
    const fields = line.split(' ')
    // A FUSE file system (ntfs-3g) names its device behind the dash.
    const device = fields[fields.indexOf('-') + 2] ?? ''
    const ours = numbers.has(fields[2]) || [name, ...above].includes(basename(device))
    return ours && fields[4] !== undefined ? [fields[4]] : []
  })
  const swaps = readFileSync('/proc/swaps', 'utf8').split('\n').slice(1)
  const swapped = swaps.some((line) => [name, ...above].includes(basename(line.split(/\s+/)[0] ?? '')))
  return swapped ? [...points, 'swap'] : points
}

/** The same for the loop devices that an image file is attached to. */
export function usesOfFile(path: string): string[] {
  const real = realpathSync(path)
  const loops = readdirSync('/sys/class/block').filter((name) => sysfs(name, 'loop/backing_file') === real)
  return loops.flatMap(usesOf)
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
