/**
 * /proc/self/mountinfo (proc(5)): which mounts there are, without touching any of them, because a dead or hung mount
 * must not stop us from finding it. Names are bytes; here they are strings of one character a byte.
 */
import { readFile } from 'node:fs/promises'

/** What `mount` shows as the type: FUSE with the subtype that the addon sets. */
export const FILE_SYSTEM_TYPE = 'fuse.imager'

export interface MountEntry {
  readonly major: number
  readonly minor: number
  readonly mountpoint: Buffer
  readonly type: string
}

/** In the order in which they were mounted: of several on one name the last is the one that is seen. */
export async function readMounts(): Promise<MountEntry[]> {
  return parseMounts(await readFile('/proc/self/mountinfo', 'latin1'))
}

export function parseMounts(text: string): MountEntry[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .flatMap((line) => {
      const fields = line.split(' ')
      const [major, minor] = (fields[2] ?? '').split(':').map(Number)
      const type = fields[fields.indexOf('-', 6) + 1]
      const mountpoint = fields[4]
      if (major === undefined || minor === undefined || !mountpoint || !type) return []
      return [{ major, minor, mountpoint: Buffer.from(unescapeOctal(mountpoint), 'latin1'), type }]
    })
}

/** Blanks, line ends and backslashes are written `\040`. */
function unescapeOctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)))
}

/** The mount that is seen at this name, if it is one of ours. */
export function ourMountAt(mounts: readonly MountEntry[], path: Buffer): MountEntry | undefined {
  const seen = mounts.findLast(({ mountpoint }) => mountpoint.equals(path))
  return seen?.type === FILE_SYSTEM_TYPE ? seen : undefined
}
