/** /proc/self/mountinfo (proc(5)), and which file systems a path needs to be reached. */
import { existsSync, readdirSync, readFileSync, realpathSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'

export interface Mount {
  readonly point: string
  /** `major:minor`: the same for all mounts of one file system. */
  readonly device: string
  readonly type: string
  /** The device's path, as a rule. */
  readonly source: string
  /** The file system itself, not only this mount of it. */
  readonly readOnly: boolean
  readonly options: readonly string[]
}

/** In the order in which they were mounted. */
export function readMounts(): Mount[] {
  const lines = readFileSync('/proc/self/mountinfo', 'latin1').split('\n').filter(Boolean)
  return lines.map((line) => {
    const fields = line.split(' ')
    const [type, source, options] = fields.slice(fields.indexOf('-', 6) + 1)
    const all = (options ?? '').split(',').map(unescapeOctal)
    return {
      point: unescapeOctal(fields[4] ?? ''),
      device: fields[2] ?? '',
      type: type ?? '',
      source: unescapeOctal(source ?? ''),
      readOnly: all.includes('ro'),
      options: all,
    }
  })
}

/** In /proc, blanks, line ends and backslashes of a path are written `\040`. `text` is read as latin1. */
export function unescapeOctal(text: string): string {
  const plain = text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)))
  return Buffer.from(plain, 'latin1').toString()
}

/** The mount that is seen at a path. */
export function mountOf(path: string, mounts: readonly Mount[]): Mount | undefined {
  const real = realpathOf(path)
  const above = mounts.filter(({ point }) => real === point || real.startsWith(point === '/' ? '/' : `${point}/`))
  const longest = Math.max(...above.map(({ point }) => point.length))
  return above.findLast(({ point }) => point.length === longest)
}

/** Where the path will be, if it is not there yet. */
function realpathOf(path: string): string {
  for (let at = path; ; at = dirname(at)) {
    try {
      return realpathSync(at)
    } catch (error) {
      if (at === dirname(at)) throw error
    }
  }
}

/**
 * The file systems (`Mount.device`) that must work for `path` to be read: its own, those that hold the images of its loop
 * devices, and the layers of an overlay. Undefined where they cannot all be known: in a chroot or a container a mount, an
 * image or a layer may lie where nothing of here leads.
 */
export function fileSystemsUnder(path: string, mounts: readonly Mount[]): ReadonlySet<string> | undefined {
  const found = new Set<string>()
  return addUnder(path, mounts, found) ? found : undefined
}

/** Adds the devices of all file systems that the path needs. False where one of them cannot be known. */
function addUnder(path: string, mounts: readonly Mount[], found: Set<string>): boolean {
  const mount = mountOf(path, mounts) ?? unlistedMount(path)
  if (!mount) return false
  if (found.has(mount.device)) return true
  found.add(mount.device)
  const layers = mount.options.flatMap((option) => /^(?:upper|lower|work)dir=(.*)$/.exec(option)?.[1]?.split(':') ?? [])
  const folder = deviceFolder(mount)
  if (folder === null) return false
  const below = [...imagesUnder(folder), ...(mount.type === 'overlay' ? layers : [])]
  return below.every((one) => existsSync(one) && addUnder(one, mounts, found))
}

/** What mountinfo does not show, as the root of a chroot: known where the file system is a block device's own. */
function unlistedMount(path: string): Pick<Mount, 'device' | 'type' | 'source' | 'options'> | undefined {
  const device = deviceNumbers(statSync(realpathOf(path)).dev)
  return device.startsWith('0:') ? undefined : { device, type: '', source: '', options: [] }
}

/** Linux' encoding of device numbers (makedev(3)), as `major:minor`. */
export function deviceNumbers(device: number): string {
  const number = BigInt(device)
  const major = ((number >> 8n) & 0xfffn) | ((number >> 32n) & ~0xfffn)
  const minor = (number & 0xffn) | ((number >> 12n) & ~0xffn)
  return `${major}:${minor}`
}

/**
 * The folder in /sys of the block device that a file system lies on; undefined where it lies on none, null where that
 * device is not to be found. btrfs has device numbers of its own; what it is mounted from is a path.
 */
function deviceFolder({ device, source }: Pick<Mount, 'device' | 'source'>): string | null | undefined {
  try {
    if (!device.startsWith('0:')) return realpathSync(`/sys/dev/block/${device}`)
    return source.startsWith('/')
      ? realpathSync(`/sys/class/block/${realpathSync(source).split('/').at(-1)}`)
      : undefined
  } catch {
    return null
  }
}

/** Image files of the loop devices that a block device stands on. `folder` is its own in /sys. */
function imagesUnder(folder: string | undefined): string[] {
  if (folder === undefined) return []
  const slaves = listed(join(folder, 'slaves')).map((name) => realpathSync(join(folder, 'slaves', name)))
  const disk = listed(folder).includes('partition') ? [dirname(folder)] : []
  const image = listed(folder).includes('loop') ? [readFileSync(join(folder, 'loop/backing_file'), 'utf8').trim()] : []
  return [...image, ...[...slaves, ...disk].flatMap(imagesUnder)]
}

function listed(folder: string): string[] {
  return statSync(folder, { throwIfNoEntry: false })?.isDirectory() ? readdirSync(folder) : []
}
