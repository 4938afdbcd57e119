/** /proc/self/mountinfo (proc(5)), and which file systems a path needs to be reached. */
import { readdirSync, readFileSync, realpathSync, statSync } from 'node:fs'
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
 * The file systems that must work for `path` to be read: its own, those that hold the images of its loop devices, and the
 * layers of an overlay.
 */
export function fileSystemsUnder(path: string, mounts: readonly Mount[], found = new Set<string>()): Set<string> {
  const mount = mountOf(path, mounts)
  if (!mount || found.has(mount.device)) return found
  found.add(mount.device)
  const layers = mount.options.flatMap((option) => /^(?:upper|lower|work)dir=(.*)$/.exec(option)?.[1]?.split(':') ?? [])
  const below = [...imagesUnder(deviceFolder(mount)), ...(mount.type === 'overlay' ? layers : [])]
  for (const one of below) fileSystemsUnder(one, mounts, found)
  return found
}

/** btrfs has device numbers of its own; what it is mounted from is a path. */
function deviceFolder(mount: Mount): string | undefined {
  try {
    if (!mount.device.startsWith('0:')) return realpathSync(`/sys/dev/block/${mount.device}`)
    return mount.source.startsWith('/')
      ? realpathSync(`/sys/class/block/${realpathSync(mount.source).split('/').at(-1)}`)
      : undefined
  } catch {
    return undefined
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
