import { ImagerError } from '../../base/errors.js'
import { formatBytes, formatTime } from '../../base/units.js'
import { fullName } from '../../catalog/choose.js'
import type { FileRow, Kind, SnapshotReader, SnapshotVolume } from '../../retrieve/reader.js'
import { namingSnapshot } from '../arguments.js'
import { defineCommand } from '../command.js'
import { findSnapshot } from '../which-snapshot.js'
import { readWords, takingWords } from '../words-input.js'

/** Entries whose records are fetched together and printed as one piece. */
const CHUNK = 512
/** `2026-11-21 09:05 +01:00`; summer and winter have different zones, and one column. */
const TIME_WIDTH = 23
const TYPE_LETTERS: Record<Kind, string> = {
  file: '-',
  directory: 'd',
  symlink: 'l',
  block: 'b',
  character: 'c',
  fifo: 'p',
  socket: 's',
}

export const command = defineCommand({
  usage: 'ls <snapshot> [path]',
  describe: 'List a folder of a snapshot, or its volumes',
  example: ['imager ls latest /1/etc', 'the folder /etc of partition 1'],
  builder: (yargs) =>
    takingWords(namingSnapshot(yargs)).positional('path', {
      type: 'string',
      default: '/',
      describe: 'As /1/etc: partition number, then the path',
    }),
  async run(args, context) {
    const words = await readWords(args['words-file'], 'ls', context)
    const [{ openReader }, { unlocking }, { findPath, joinPath, childrenOf }, fleet] = await Promise.all([
      import('../../jobs/reader.js'),
      import('../../fleet/unlock.js'),
      import('../../retrieve/paths.js'),
      context.fleet(),
    ])
    const { output, signal } = context
    const unlock = unlocking(fleet, words, signal)
    const found = await findSnapshot(args, fleet.catalog, output)
    const { reader, row } = await openReader(fullName(found), { ...fleet, unlock }, signal)
    if (/^\/*$/.test(args.path)) {
      return output.lines(reader.volumes.map(volumeLine), renderVolume)
    }
    const file = await findPath(reader, Buffer.from(args.path))
    if (!file) throw new ImagerError('NO_SUCH_FILE', { path: args.path, snapshot: row.id.slice(0, 8) })
    const { volume, names, number } = file
    if (file.row.kind !== 'directory') {
      const name = names.at(-1) ?? Buffer.alloc(0)
      const path = joinPath(volume.index, names)
      return output.lines([await entry(reader, volume.index, path, name, file.row)], renderEntry)
    }
    for await (const children of childrenOf(reader, volume.index, number)) {
      for (let from = 0; from < children.length; from += CHUNK) {
        signal.throwIfAborted()
        const some = children.slice(from, from + CHUNK).map(async (child) => {
          const path = joinPath(volume.index, [...names, child.name])
          const file = await reader.file(volume.index, child.number)
          return file && (await entry(reader, volume.index, path, child.name, file))
        })
        const entries = (await Promise.all(some)).filter((one) => one !== undefined)
        output.lines(entries, renderEntry)
      }
    }
  },
})

function volumeLine({ index, name, fileSystem, lengthBytes, rootNumber }: SnapshotVolume) {
  return {
    partition: index,
    ...(name !== undefined && { name }),
    path: `/${index}`,
    kind: 'volume',
    fileSystem,
    size: lengthBytes,
    raw: rootNumber === null,
  }
}

function renderVolume({ path, name, fileSystem, size, raw }: ReturnType<typeof volumeLine>): string {
  const about = [...(name === undefined ? [] : [name]), ...(raw ? ['(raw, cannot be browsed)'] : [])]
  return [path.padEnd(5), fileSystem.padEnd(8), formatBytes(size), ...about].join('  ')
}

interface Entry {
  readonly partition: number
  /** Null where it is no UTF-8. */
  readonly path: string | null
  readonly inode: number
  readonly kind: Kind
  readonly mode: string
  readonly uid: number
  readonly gid: number
  readonly links: number
  readonly size: number
  readonly modified: string
  /** Of a symbolic link: where it leads. */
  readonly target?: string
  /** Its last part as far as it can be written. */
  readonly name: string
}

async function entry(
  reader: SnapshotReader,
  partition: number,
  path: Buffer,
  name: Buffer,
  row: FileRow,
): Promise<Entry> {
  const { utf8, timeMs } = await import('../../retrieve/paths.js')
  const { kind, uid, gid, links, size, mode } = row
  const linkTarget = kind === 'symlink' ? await readLinkTarget(reader, row) : undefined
  const time = new Date(timeMs(row.modified))
  return {
    ...{ partition, path: utf8(path) ?? null, inode: row.number, kind, mode: mode.toString(8).padStart(4, '0') },
    ...{ uid, gid, links, size, modified: Number.isNaN(time.getTime()) ? '' : time.toISOString() },
    ...(linkTarget !== undefined && { target: linkTarget }),
    name: name.toString('utf8'),
  }
}

async function readLinkTarget(reader: SnapshotReader, row: FileRow): Promise<string> {
  const [{ StreamReader }, { decompressUnit }] = await Promise.all([
    import('../../retrieve/stream.js'),
    import('../../native.js'),
  ])
  const stream = row.streams.find(({ name }) => name === '')
  if (!stream) return ''
  return (await new StreamReader(reader, decompressUnit).read(stream, 0, Math.min(stream.size, 4096))).toString('utf8')
}

/** As `ls -l`: type and mode, owner, group, size, time, name. */
function renderEntry({ kind, mode, uid, gid, size, modified, name, target: linkTarget }: Entry): string {
  const owner = `${String(uid).padStart(5)} ${String(gid).padStart(5)}`
  const shown = linkTarget === undefined ? name : `${name} -> ${linkTarget}`
  const time = formatTime(Date.parse(modified)).padEnd(TIME_WIDTH)
  return `${TYPE_LETTERS[kind]}${formatMode(Number.parseInt(mode, 8))} ${owner} ${String(size).padStart(12)} ${time} ${shown}`
}

/** `rwxr-xr-x`, with `s` and `t` where set. */
function formatMode(mode: number): string {
  const letters = Array.from('rwxrwxrwx', (letter, at) => (mode & (0o400 >> at) ? letter : '-'))
  const special: [bit: number, at: number, letter: string][] = [
    [0o4000, 2, 's'],
    [0o2000, 5, 's'],
    [0o1000, 8, 't'],
  ]
  for (const [bit, at, letter] of special) {
    if (mode & bit) letters[at] = letters[at] === 'x' ? letter : letter.toUpperCase()
  }
  return letters.join('')
}
