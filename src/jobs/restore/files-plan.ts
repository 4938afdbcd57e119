/**
 * What a restore of files will write: the folders (parents first) with their files, each file once, further names of it as
 * links. Names that must not be written are left out here and said; so are folders that lead back into themselves.
 */
import { refusedName } from '../../disk/folder.js'
import { childrenOf, type Found, findPath, joinPath, utf8 } from '../../retrieve/paths.js'
import type { FileRow, Kind, SnapshotReader, Stream } from '../../retrieve/reader.js'
import { planRead } from '../../retrieve/stream.js'

/** The kernel's PATH_MAX allows no more. */
const DEPTH = 2048

export interface PlannedFile {
  readonly name: Buffer
  readonly number: number
  readonly kind: Kind
  /** Bytes to read; holes are not. */
  readonly bytes: number
  /** Where they begin on the disk: neighbours there are fetched together. */
  readonly disk: number
  /** The first name of the same file, where this is another. */
  readonly link: { readonly folder: PlannedFolder; readonly file: PlannedFile } | undefined
}

export interface PlannedFolder {
  readonly volume: number
  /** From the target: the volume's number first. */
  readonly names: readonly Buffer[]
  readonly number: number
  readonly files: Map<string, PlannedFile>
}

/** What could not be restored, and why. */
export interface Failure {
  readonly path: string
  readonly why: string
}

export interface FilesPlan {
  readonly folders: readonly PlannedFolder[]
  readonly files: number
  readonly bytes: number
  /** Paths of the list that are not in the snapshot. */
  readonly missing: readonly string[]
  readonly failed: readonly Failure[]
}

export function shownPath(volume: number, names: readonly Buffer[]): string {
  const path = joinPath(volume, names)
  return utf8(path) ?? path.toString('utf8')
}

/** Pieces of a stream that hold data, ascending; the rest is holes and zeros. */
export function dataPieces(stream: Stream): { offset: number; length: number }[] {
  const pieces: { offset: number; length: number }[] = []
  let offset = 0
  for (const { kind, length } of planRead(stream, 0, stream.size)) {
    const last = pieces.at(-1)
    if (kind !== 'zeros' && last && last.offset + last.length === offset) last.length += length
    else if (kind !== 'zeros') pieces.push({ offset, length })
    offset += length
  }
  return pieces
}

export function unnamed(row: Pick<FileRow, 'streams'>): Stream | undefined {
  return row.streams.find(({ name }) => name === '')
}

export async function planFiles(
  reader: SnapshotReader,
  paths: readonly Buffer[],
  signal: AbortSignal,
): Promise<FilesPlan> {
  const planner = new Planner(reader, signal)
  for (const path of paths) await planner.add(path)
  return planner.plan()
}

class Planner {
  readonly #reader: SnapshotReader
  readonly #signal: AbortSignal
  readonly #folders = new Map<string, PlannedFolder>()
  /** Folders whose whole tree was taken. */
  readonly #walked = new Set<string>()
  /** The first name of each file that has several. */
  readonly #firsts = new Map<string, { folder: PlannedFolder; file: PlannedFile }>()
  readonly #missing: string[] = []
  readonly #failed: Failure[] = []

  constructor(reader: SnapshotReader, signal: AbortSignal) {
    this.#reader = reader
    this.#signal = signal
  }

  async add(path: Buffer): Promise<void> {
    const found = await findPath(this.#reader, path)
    if (!found) {
      this.#missing.push(path.toString('utf8'))
    } else if (found.names.some((name) => this.#refuse(found.volume.index, found.names, refusedName(name)))) {
      // Said by #refuse.
    } else if (found.row.kind === 'directory') {
      await this.#walk(found)
    } else {
      const folder = await this.#chain(found.volume.index, found.names.slice(0, -1))
      this.#take(folder, found.names.at(-1) as Buffer, found.row)
    }
  }

  plan(): FilesPlan {
    const folders = [...this.#folders.values()]
    const bytes = folders.flatMap(({ files }) => [...files.values()].map((file) => (file.link ? 0 : file.bytes)))
    return {
      folders,
      files: bytes.length,
      bytes: bytes.reduce((sum, one) => sum + one, 0),
      missing: this.#missing,
      failed: this.#failed,
    }
  }

  /** The folders on the way to `names`, and that folder. */
  async #chain(volume: number, names: readonly Buffer[]): Promise<PlannedFolder> {
    let number = this.#reader.volumes.find(({ index }) => index === volume)?.rootNumber ?? 0
    let folder = this.#folder(volume, [], number)
    for (const [at, name] of names.entries()) {
      number = (await this.#reader.child(volume, number, name)) ?? 0
      folder = this.#folder(volume, names.slice(0, at + 1), number)
    }
    return folder
  }

  #folder(volume: number, names: readonly Buffer[], number: number): PlannedFolder {
    const key = joinPath(volume, names).toString('latin1')
    const known = this.#folders.get(key)
    if (known) return known
    const folder = { volume, names: [Buffer.from(`${volume}`), ...names], number, files: new Map() }
    this.#folders.set(key, folder)
    return folder
  }

  async #walk({ volume: { index: volume }, names, number }: Found): Promise<void> {
    await this.#chain(volume, names)
    const waiting = [{ names, number }]
    for (let next = waiting.pop(); next; next = waiting.pop()) {
      const key = `${volume} ${next.number}`
      const again = this.#walked.has(key)
      this.#walked.add(key)
      // A tree listed twice, or a folder that leads back into itself.
      if (again || this.#refuse(volume, next.names, tooDeep(next.names))) continue
      const folder = this.#folder(volume, next.names, next.number)
      for await (const children of childrenOf(this.#reader, volume, next.number)) {
        this.#signal.throwIfAborted()
        const rows = await Promise.all(children.map((child) => this.#reader.file(volume, child.number)))
        for (const [at, { name, number: child }] of children.entries()) {
          const path = [...next.names, name]
          const row = rows[at]
          if (this.#refuse(volume, path, refusedName(name) ?? (row ? undefined : 'its record is missing'))) continue
          if (row?.kind === 'directory') waiting.push({ names: path, number: child })
          else if (row) this.#take(folder, name, row)
        }
      }
    }
  }

  #take(folder: PlannedFolder, name: Buffer, row: FileRow): void {
    const { number, kind, links } = row
    const key = `${folder.volume} ${number}`
    const content = kind === 'file' ? unnamed(row) : undefined
    const first = links > 1 ? this.#firsts.get(key) : undefined
    const same = first?.folder === folder && first.file.name.equals(name)
    const file: PlannedFile = {
      ...{ name, number, kind, link: same ? undefined : first },
      bytes: content ? dataPieces(content).reduce((sum, piece) => sum + piece.length, 0) : 0,
      disk: content?.extents[0]?.disk ?? 0,
    }
    const known = name.toString('latin1')
    if (folder.files.has(known)) return
    folder.files.set(known, file)
    if (links > 1 && !first) this.#firsts.set(key, { folder, file })
  }

  #refuse(volume: number, names: readonly Buffer[], why: string | undefined): boolean {
    if (why !== undefined) this.#failed.push({ path: shownPath(volume, names), why })
    return why !== undefined
  }
}

function tooDeep(names: readonly Buffer[]): string | undefined {
  return names.length > DEPTH ? `it lies ${names.length} folders deep` : undefined
}
