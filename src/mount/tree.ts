/**
 * The mounted tree: `/disk.img`, `/volumes/<n>.img` and `/files/<n>/...`, answered from the snapshot's file table.
 * Listing and stat never read a file's data. What is not there is a Refusal; what cannot be had throws.
 */
import { Body, type BodyHandle } from '../native.js'
import type { Child, FileRow, SnapshotReader, Stream } from '../retrieve/reader.js'
import { type Decompress, diskRanges, planRead, StreamReader } from '../retrieve/stream.js'
import { encodeAttributes, LAST, type Listed, setVolume } from './attributes.js'
import { EINVAL, EISDIR, ENAMETOOLONG, ENODATA, ENOENT, ENOTDIR, Refusal } from './errno.js'
import { Folders, type Some } from './folders.js'
import { Neighbours } from './neighbours.js'
import { Rows } from './rows.js'
import { imageRanges, type NodeId, type Owner, TOP, Top, type TopChild } from './top.js'
import { Walks } from './walk.js'

/** The kernel's PATH_MAX: a longer link target cannot be followed. */
const LINK_BYTES = 4096
/** The kernel's limits on extended attributes. */
const XATTR_VALUE_BYTES = 65_536
const XATTR_NAME_BYTES = 255
const XATTR_LIST_BYTES = 65_536
/** FUSE's limit on a name. */
const NAME_BYTES = 1024
/** Inodes are `volume * 2^48 + number`. */
const NUMBERS = 2 ** 48
/** Entries of one answer: what 32 KiB, the usual buffer, can hold with attributes and without. */
const LISTED_WITH_ATTRIBUTES = 180
const LISTED = 1024

export class Tree {
  readonly #reader: SnapshotReader
  readonly #top: Top
  readonly #rows: Rows
  readonly #streams: StreamReader
  readonly #folders = new Folders()
  readonly #neighbours: Neighbours | undefined
  readonly #walks: Walks | undefined

  constructor(reader: SnapshotReader, decompress: Decompress, owner: Owner) {
    this.#reader = reader
    this.#top = new Top(reader, owner)
    this.#rows = new Rows(reader)
    this.#streams = new StreamReader(reader, decompress)
    const { prefetch } = reader
    if (!prefetch) return
    const hint = (offset: number, length: number) => void prefetch.call(reader, offset, length)
    this.#neighbours = new Neighbours(hint)
    this.#walks = new Walks({
      whereIs: (node) => this.#folders.whereIs(node),
      children: async ({ folder, position }) => (await this.#children(folder, position)).children,
      content: async (node) => unnamed(await this.#row(node)),
      prefetch: hint,
    })
  }

  /** Undefined: there is no such name. */
  async lookup(parent: NodeId, name: Buffer): Promise<Buffer | undefined> {
    const child = parent.volume === TOP ? this.#topChild(parent.number, name) : await this.#child(parent, name)
    return child && (await this.attributes(child))
  }

  /** The images of disk and volumes, as `FuseSession.show` takes them. */
  *images(): Generator<[volume: number, number: number, starts: number[], lengths: number[]]> {
    for (const [number, { pieces }] of this.#top.images()) {
      yield [TOP, number, pieces.map(({ start }) => start), pieces.map(({ length }) => length)]
    }
  }

  /** Encoded. */
  async attributes({ volume, number }: NodeId): Promise<Buffer> {
    if (volume === TOP) {
      const found = this.#top.attributes(number)
      if (!found) throw new Refusal(ENOENT)
      return encodeAttributes(found)
    }
    const [found] = await this.#reader.attributes(volume - 1, [number])
    if (found instanceof Error) throw found
    if (!found) throw new Refusal(ENOENT)
    return setVolume(found, volume)
  }

  async link(node: NodeId, signal?: AbortSignal): Promise<Buffer> {
    const row = await this.#row(node)
    const linkTarget = unnamed(row)
    if (row.kind !== 'symlink' || !linkTarget) throw new Refusal(EINVAL)
    if (linkTarget.size >= LINK_BYTES) throw new Refusal(ENAMETOOLONG)
    return await this.#streams.read(linkTarget, 0, linkTarget.size, signal)
  }

  async read(node: NodeId, offset: number, length: number, signal?: AbortSignal): Promise<BodyHandle> {
    if (node.volume === TOP) return await this.#readImage(node.number, offset, length, signal)
    const row = await this.#row(node)
    if (row.kind === 'directory') throw new Refusal(EISDIR)
    const content = unnamed(row)
    if (!content) return new Body(Buffer.alloc(0))
    const bytes = this.#streams.readBody(content, offset, length, signal)
    // Behind the read itself, which somebody waits for.
    const followed = this.#walks?.read(node, offset + length, content.size)
    const [first] = content.extents
    if (!followed && first && offset === 0 && content.size <= length) this.#neighbours?.read(first.disk)
    return await bytes
  }

  /** Entries after `cookie` (0: from the start, 1: after `.`, 2: after `..`, then one more for each child). */
  async folder(node: NodeId, cookie: number, withAttributes: boolean): Promise<Listed[]> {
    const listed: Listed[] = []
    // The kernel knows the attributes of both, and what `..` shows as its number is of no use to anyone.
    const self = { name: Buffer.from('.'), number: node.number, kind: 'directory' } as const
    if (cookie < 1) listed.push(entryOf(node, self, 1, undefined))
    if (cookie < 2) listed.push(entryOf(node, { ...self, name: Buffer.from('..') }, 2, undefined))
    let position = Math.max(0, cookie - 2)
    for (;;) {
      const { children, ended } = await this.#children(node, position)
      const some = children.slice(0, withAttributes ? LISTED_WITH_ATTRIBUTES : LISTED)
      const attributes = withAttributes ? await this.#attributesOf(node, some) : []
      for (const [at, child] of some.entries()) {
        if (showable(child)) listed.push(entryOf(node, child, position + at + 3, attributes[at]))
      }
      position += some.length
      const last = listed.at(-1)
      const complete = ended && some.length === children.length
      if (last && complete) listed[listed.length - 1] = { ...last, cookie: LAST }
      // An empty answer would mean the end: go on past names that cannot be shown.
      if (last || complete) return listed
    }
  }

  async xattr(node: NodeId, name: Buffer, signal?: AbortSignal): Promise<Buffer> {
    if (node.volume === TOP) throw new Refusal(ENODATA)
    const row = await this.#row(node)
    const own = row.xattrs.find((xattr) => xattr.name.equals(name))
    if (own) return own.value
    const stream = row.streams.find((stream) => shownAsXattr(stream) && xattrName(stream).equals(name))
    if (!stream) throw new Refusal(ENODATA)
    return await this.#streams.read(stream, 0, stream.size, signal)
  }

  /** Every name, each ended by a zero byte; those past the kernel's limit are left out. */
  async xattrNames(node: NodeId): Promise<Buffer> {
    if (node.volume === TOP) return Buffer.alloc(0)
    const row = await this.#row(node)
    const names = [...row.xattrs.map(({ name }) => name), ...row.streams.filter(shownAsXattr).map(xattrName)]
    const parts: Buffer[] = []
    let length = 0
    for (const name of names) {
      if (name.length === 0 || name.length > XATTR_NAME_BYTES || name.includes(0)) continue
      length += name.length + 1
      if (length > XATTR_LIST_BYTES) break
      parts.push(name, Buffer.of(0))
    }
    return Buffer.concat(parts)
  }

  /** Says that what follows `offset` will probably be read, as far as `length`. */
  async prefetch(node: NodeId, offset: number, length: number): Promise<void> {
    if (!this.#reader.prefetch) return
    if (node.volume === TOP) {
      const image = this.#top.image(node.number)
      for (const range of image ? imageRanges(image, offset, length) : []) {
        void this.#reader.prefetch?.(range.start, range.length)
      }
      return
    }
    const content = unnamed(await this.#row(node))
    if (!content) return
    for (const piece of diskRanges(planRead(content, offset, length))) {
      void this.#reader.prefetch?.(piece.disk, piece.length)
    }
  }

  async #readImage(number: number, offset: number, length: number, signal?: AbortSignal): Promise<BodyHandle> {
    const image = this.#top.image(number)
    if (!image) throw new Refusal(this.#top.children(number) ? EISDIR : ENOENT)
    const ranges = imageRanges(image, offset, length)
    const [only] = ranges
    if (only && ranges.length === 1) return await this.#streams.diskBody(only.start, only.length, signal)
    const parts = await Promise.all(ranges.map(({ start, length }) => this.#streams.readDisk(start, length, signal)))
    return new Body(Buffer.concat(parts))
  }

  async #row({ volume, number }: NodeId): Promise<FileRow> {
    const row = await this.#rows.get(volume - 1, number)
    if (!row) throw new Refusal(ENOENT)
    return row
  }

  #topChild(number: number, name: Buffer): NodeId | undefined {
    const children = this.#top.children(number)
    if (!children) throw new Refusal(ENOTDIR)
    return children.find((child) => child.name.equals(name))?.node
  }

  async #child(parent: NodeId, name: Buffer): Promise<NodeId | undefined> {
    const number = await this.#reader.child(parent.volume - 1, parent.number, name)
    return number === undefined || number >= NUMBERS ? undefined : { volume: parent.volume, number }
  }

  async #children(node: NodeId, position: number): Promise<Some<Child | TopChild>> {
    if (node.volume === TOP) {
      const children = this.#top.children(node.number)
      if (!children) throw new Refusal(ENOTDIR)
      return { children: children.slice(position), ended: true }
    }
    return await this.#folders.from(node, position, (after, limit) =>
      this.#reader.children(node.volume - 1, node.number, after, limit),
    )
  }

  /** Undefined for what cannot be had now; it does not hide the others: whoever asks for this one gets the error. */
  async #attributesOf({ volume }: NodeId, children: readonly (Child | TopChild)[]): Promise<(Buffer | undefined)[]> {
    if (volume === TOP) {
      const nodes = children.map((child) => ('node' in child ? child.node : { volume, number: child.number }))
      return await Promise.all(nodes.map((node) => this.attributes(node).catch(() => undefined)))
    }
    const numbers = children.map(({ number }) => number)
    const found = await this.#reader.attributes(volume - 1, numbers).catch(() => [])
    return found.map((one) => (Buffer.isBuffer(one) ? setVolume(one, volume) : undefined))
  }
}

const EPOCH = { seconds: 0, nanoseconds: 0 }
const UNKNOWN = {
  mode: 0,
  uid: 0,
  gid: 0,
  links: 1,
  size: 0,
  allocatedBytes: 0,
  device: 0,
  generation: 0,
  modified: EPOCH,
  changed: EPOCH,
}

function entryOf(folder: NodeId, child: Child | TopChild, cookie: number, attributes: Buffer | undefined): Listed {
  const { name, kind } = child
  if (attributes) return { name, cookie, known: true, attributes }
  const node = 'node' in child ? child.node : { volume: folder.volume, number: child.number }
  return { name, cookie, known: false, attributes: encodeAttributes({ ...UNKNOWN, ...node, kind }) }
}

/** False where the kernel would refuse the name, and with it the whole folder. */
function showable({ name, number }: Child): boolean {
  const dots = (name.length === 1 && name[0] === 0x2e) || (name.length === 2 && name[0] === 0x2e && name[1] === 0x2e)
  const fits = name.length > 0 && name.length <= NAME_BYTES && number > 0 && number < NUMBERS
  return fits && !dots && !name.includes(0) && !name.includes(0x2f)
}

function unnamed(row: FileRow): Stream | undefined {
  return row.streams.find(({ name }) => name === '')
}

function shownAsXattr({ name, size }: Stream): boolean {
  return name !== '' && size <= XATTR_VALUE_BYTES
}

function xattrName({ name }: Stream): Buffer {
  return Buffer.from(`user.${name}`)
}
