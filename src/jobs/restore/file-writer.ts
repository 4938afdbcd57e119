/**
 * One file, link, node or folder of a snapshot onto this host's file system, with all that its row says. Content goes under
 * a temporary name, which becomes the real one when everything is in place; holes stay holes. What this host or its user
 * cannot keep is counted and said.
 */
import {
  chmodSync,
  closeSync,
  constants,
  fchmodSync,
  lchownSync,
  linkSync,
  lstatSync,
  openSync,
  symlinkSync,
} from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { hasCode, ImagerError } from '../../base/errors.js'
import { MiB } from '../../base/units.js'
import type { Folder } from '../../disk/folder.js'
import { makeNode, setModified, setXattr, unreadablePattern } from '../../native.js'
import type { FileRow, Kind, Stream } from '../../retrieve/reader.js'
import type { StreamReader } from '../../retrieve/stream.js'
import type { Meter } from '../progress.js'
import { dataPieces, type PlannedFile, unnamed } from './files-plan.js'
import type { Leftovers } from './leftovers.js'

const CHUNK_BYTES = 4 * MiB
const SECTOR_BYTES = 512
/** The kernel's PATH_MAX, and its largest attribute value. */
const LINK_BYTES = 4096
const XATTR_BYTES = 65_536
const SPECIAL_BITS = 0o7000
const { O_RDONLY, O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW, S_IFIFO, S_IFBLK, S_IFCHR } = constants
const NODES = { fifo: S_IFIFO, block: S_IFBLK, character: S_IFCHR } as const

export interface FileWriterParts {
  readonly streams: StreamReader
  readonly meter: Meter
  /** Replace files that exist. */
  readonly force: boolean
  /** Replace those that look as an earlier run would have left them. */
  readonly resumed: boolean
  readonly leftovers: Leftovers
  readonly signal: AbortSignal
}

export class FileWriter {
  bytes = 0
  /** Bytes of files for which a marked pattern stands, because the source did not give them. */
  readonly unreadable = new Map<FileRow, number>()
  readonly #streams: StreamReader
  readonly #meter: Meter
  readonly #force: boolean
  readonly #resumed: boolean
  readonly #leftovers: Leftovers
  readonly #signal: AbortSignal
  readonly #root = process.geteuid?.() === 0
  /** What was not kept, and of how many files. */
  readonly #lost = new Map<string, number>()

  constructor({ streams, meter, force, resumed, leftovers, signal }: FileWriterParts) {
    this.#streams = streams
    this.#meter = meter
    this.#force = force
    this.#resumed = resumed
    this.#leftovers = leftovers
    this.#signal = signal
  }

  notes(): string[] {
    return [...this.#lost].map(([what, count]) => `${what}: ${count} ${count === 1 ? 'time' : 'times'}`)
  }

  /** False where it is of a kind that is left out; that is noted. */
  async write(folder: Folder, { name }: PlannedFile, row: FileRow): Promise<boolean> {
    const { kind } = row
    if (kind === 'socket') return this.#skip('sockets were left out, they mean nothing without their program')
    if ((kind === 'block' || kind === 'character') && !this.#root) {
      return this.#skip('device nodes were left out, only root may make them')
    }
    await this.#settled(folder, name, row, async (temporary) => {
      const path = folder.path(temporary)
      if (kind === 'symlink') symlinkSync(await this.#linkTarget(row), path)
      else if (kind === 'file') await this.#content(path, row)
      else if (kind !== 'directory') makeNode(path, NODES[kind] | 0o600, BigInt(row.device))
      await this.#attributes(path, row)
    })
    return true
  }

  /** One more name of a file that was written. */
  async link(from: Folder, first: Buffer, to: Folder, name: Buffer, row: FileRow): Promise<void> {
    await this.#settled(to, name, row, async (temporary) => linkSync(from.path(first), to.path(temporary)))
  }

  async finishFolder(folder: Folder, row: FileRow): Promise<void> {
    await this.#attributes(folder.self, row)
  }

  async #settled(
    folder: Folder,
    name: Buffer,
    row: FileRow,
    make: (temporary: Buffer) => Promise<void>,
  ): Promise<void> {
    const temporary = this.#leftovers.temporary()
    try {
      await make(temporary)
      folder.settle(temporary, name, this.#force || (this.#resumed && looksRestored(folder.path(name), row)))
    } catch (error) {
      folder.drop(temporary)
      throw error
    }
  }

  async #content(path: Buffer, row: FileRow): Promise<void> {
    const file = await open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600)
    try {
      const stream = unnamed(row)
      if (stream) await this.#copy(stream, file, row)
    } finally {
      await file.close()
    }
  }

  async #copy(stream: Stream, file: FileHandle, row: FileRow): Promise<void> {
    for (const { offset, length } of dataPieces(stream)) {
      for (let at = offset; at < offset + length; at += CHUNK_BYTES) {
        this.#signal.throwIfAborted()
        const wanted = Math.min(CHUNK_BYTES, offset + length - at)
        const bytes = await this.#read(stream, at, wanted, row)
        for (let done = 0; done < bytes.length; ) {
          done += (await file.write(bytes, done, bytes.length - done, at + done)).bytesWritten
        }
        this.bytes += bytes.length
        this.#meter.add(bytes.length)
      }
    }
    await file.truncate(stream.size)
  }

  /** Where the source did not give all, a sector at a time, with a marked pattern for those that are lost. */
  async #read(stream: Stream, offset: number, length: number, row: FileRow): Promise<Buffer> {
    try {
      return await this.#streams.read(stream, offset, length, this.#signal)
    } catch (error) {
      if (!hasCode(error, 'NOT_READ')) throw error
      if (length <= SECTOR_BYTES) {
        this.unreadable.set(row, (this.unreadable.get(row) ?? 0) + length)
        return unreadablePattern(Number(error.details.offset), length)
      }
      const starts = Array.from({ length: Math.ceil(length / SECTOR_BYTES) }, (_, at) => at * SECTOR_BYTES)
      const parts: Buffer[] = []
      for (const at of starts) {
        parts.push(await this.#read(stream, offset + at, Math.min(SECTOR_BYTES, length - at), row))
      }
      return Buffer.concat(parts)
    }
  }

  async #linkTarget(row: FileRow): Promise<Buffer> {
    const stream = unnamed(row)
    if (!stream || stream.size === 0 || stream.size >= LINK_BYTES) {
      throw new ImagerError('UNSUPPORTED', { what: `a symbolic link of ${stream?.size ?? 0} bytes` })
    }
    return await this.#streams.read(stream, 0, stream.size, this.#signal)
  }

  /** The owner first: changing it takes special bits and capabilities away. Then what a read-only mode would forbid. */
  async #attributes(path: Buffer, row: FileRow): Promise<void> {
    const { uid, gid, mode, kind, modified } = row
    if (this.#root) lchownSync(path, uid, gid)
    else if (uid !== process.geteuid?.() || gid !== process.getegid?.())
      this.#note('owners were not kept, only root may')
    for (const { name, value } of row.xattrs) this.#xattr(path, name, value)
    for (const stream of row.streams) if (stream.name !== '') await this.#stream(path, stream)
    if (kind !== 'symlink') setMode(path, kind, this.#root ? mode : mode & ~SPECIAL_BITS)
    setModified(path, modified.seconds, modified.nanoseconds)
  }

  async #stream(path: Buffer, stream: Stream): Promise<void> {
    if (stream.size > XATTR_BYTES) return this.#note('named streams of more than 64 KiB were left out')
    const value = await this.#streams.read(stream, 0, stream.size, this.#signal)
    this.#xattr(path, Buffer.from(`user.${stream.name}`), value)
  }

  #xattr(path: Buffer, name: Buffer, value: Buffer): void {
    try {
      setXattr(path, name, value)
    } catch {
      const space = name.toString('latin1').split('.')[0]
      this.#note(`extended attributes (${space}) were not kept, the target's file system or this user cannot`)
    }
  }

  #skip(what: string): false {
    this.#note(what)
    return false
  }

  #note(what: string): void {
    this.#lost.set(what, (this.#lost.get(what) ?? 0) + 1)
  }
}

/**
 * Sets permission bits: of files and folders by a descriptor, so that no link is followed; of others by path, because
 * opening a device or FIFO would have effects.
 */
function setMode(path: Buffer, kind: Kind, mode: number): void {
  if (kind !== 'file' && kind !== 'directory') {
    chmodSync(path, mode)
    return
  }
  const descriptor = openSync(path, O_RDONLY | O_NOFOLLOW)
  try {
    fchmodSync(descriptor, mode)
  } finally {
    closeSync(descriptor)
  }
}

/**
 * Whether what stands there is of the kind, size and time of the snapshot's: then a run that was cut short may have written it, and
 * who writes it once more takes nothing from anybody.
 */
export function looksRestored(
  path: Buffer,
  { kind, modified, streams }: Pick<FileRow, 'kind' | 'modified' | 'streams'>,
) {
  const stats = lstatSync(path, { bigint: true, throwIfNoEntry: false })
  if (
    stats === undefined ||
    stats.mtimeNs !== BigInt(modified.seconds) * 1_000_000_000n + BigInt(modified.nanoseconds)
  ) {
    return false
  }
  const size = BigInt(unnamed({ streams })?.size ?? 0)
  const looks = {
    file: () => stats.isFile() && stats.size === size,
    symlink: () => stats.isSymbolicLink() && stats.size === size,
    fifo: () => stats.isFIFO(),
    block: () => stats.isBlockDevice(),
    character: () => stats.isCharacterDevice(),
    socket: () => false,
    directory: () => false,
  }
  return looks[kind]?.() ?? false
}
