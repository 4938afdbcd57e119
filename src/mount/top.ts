/**
 * The fixed part of the mounted tree, which is volume 0 of the inode numbers:
 * `/` (1), `/disk.img` (2), `/volumes` (3), `/files` (4), and `/volumes/<n>.img` (65536 + n).
 *
 * The images hold every file of the disk, whoever owns it: only the mounting user may read them.
 */
import type { Child, DiskRange, Kind, SnapshotReader, SnapshotVolume } from '../retrieve/reader.js'
import type { Attributes } from './attributes.js'

export const TOP = 0
export const ROOT = 1
const DISK = 2
const VOLUMES = 3
const FILES = 4
const IMAGES = 65_536

/** A file or folder of the mounted tree. `volume` is 1 more than the volume's index, or TOP. */
export interface NodeId {
  readonly volume: number
  readonly number: number
}

export interface Owner {
  readonly uid: number
  readonly gid: number
}

/** Pieces of the disk, one behind the other, shown as a file. */
export interface Image {
  readonly pieces: readonly DiskRange[]
  readonly length: number
}

export type TopChild = Child & { readonly node: NodeId }

export class Top {
  readonly #reader: Pick<SnapshotReader, 'sizeBytes' | 'timeMs' | 'volumes'>
  readonly #owner: Owner
  readonly #folders = new Map<number, readonly TopChild[]>()
  readonly #images = new Map<number, Image>()

  constructor(reader: Pick<SnapshotReader, 'sizeBytes' | 'timeMs' | 'volumes'>, owner: Owner) {
    this.#reader = reader
    this.#owner = owner
    this.#images.set(DISK, imageOf([{ start: 0, length: reader.sizeBytes }]))
    for (const { index, startBytes, lengthBytes, pieces } of reader.volumes) {
      this.#images.set(IMAGES + index, imageOf(pieces ?? [{ start: startBytes, length: lengthBytes }]))
    }
    const top = (name: string, number: number, kind: Kind) => entry(name, { volume: TOP, number }, kind)
    this.#folders.set(ROOT, [
      top('disk.img', DISK, 'file'),
      top('files', FILES, 'directory'),
      top('volumes', VOLUMES, 'directory'),
    ])
    this.#folders.set(
      VOLUMES,
      reader.volumes.map(({ index }) => top(`${index}.img`, IMAGES + index, 'file')),
    )
    this.#folders.set(FILES, reader.volumes.flatMap(filesOf))
  }

  /** The children of a folder; undefined where there is no such folder. */
  children(number: number): readonly TopChild[] | undefined {
    return this.#folders.get(number)
  }

  images(): Iterable<[number, Image]> {
    return this.#images
  }

  image(number: number): Image | undefined {
    return this.#images.get(number)
  }

  attributes(number: number): Attributes | undefined {
    const image = this.#images.get(number)
    const children = this.#folders.get(number)
    if (!image && !children) return undefined
    const seconds = Math.floor(this.#reader.timeMs / 1000)
    const taken = { seconds, nanoseconds: Math.floor((this.#reader.timeMs - seconds * 1000) * 1e6) }
    const folders = children?.filter(({ kind }) => kind === 'directory').length ?? 0
    return {
      volume: TOP,
      number,
      kind: image ? 'file' : 'directory',
      mode: image ? 0o400 : 0o555,
      ...this.#owner,
      links: image ? 1 : 2 + folders,
      size: image?.length ?? 0,
      allocatedBytes: image?.length ?? 0,
      device: 0,
      generation: 0,
      modified: taken,
      changed: taken,
    }
  }
}

function imageOf(pieces: readonly DiskRange[]): Image {
  return { pieces, length: pieces.reduce((sum, piece) => sum + piece.length, 0) }
}

/** Where a part of an image lies on the disk; what passes its end is left out. */
export function imageRanges({ pieces }: Image, offset: number, length: number): DiskRange[] {
  const ranges: DiskRange[] = []
  let begin = 0
  for (const piece of pieces) {
    const from = Math.max(offset, begin)
    const to = Math.min(offset + length, begin + piece.length)
    if (from < to) ranges.push({ start: piece.start + from - begin, length: to - from })
    begin += piece.length
  }
  return ranges
}

function entry(name: string, node: NodeId, kind: Kind): TopChild {
  return { name: Buffer.from(name), number: node.number, kind, node }
}

function filesOf({ index, rootNumber }: SnapshotVolume): TopChild[] {
  return rootNumber === null ? [] : [entry(`${index}`, { volume: index + 1, number: rootNumber }, 'directory')]
}
