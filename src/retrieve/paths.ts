/**
 * Paths as people name them: `/<n>/<path>`, `<n>` the partition's number. They are bytes: a name need not be UTF-8. No
 * symbolic link is followed; a path names what hangs at it.
 */
import type { Child, FileRow, SnapshotReader, SnapshotVolume, Timestamp } from './reader.js'

const SLASH = 0x2f
const PAGE = 1024

/** A file or folder under one of its names. */
export interface Found {
  readonly volume: SnapshotVolume
  /** From the volume's root to here; empty for the root. */
  readonly names: readonly Buffer[]
  readonly number: number
  readonly row: FileRow
}

/** The volume number and the names of a path; undefined where it does not begin with a number. */
export function splitPath(path: Buffer): { volume: number; names: Buffer[] } | undefined {
  const [first, ...names] = splitNames(path)
  if (!first || !/^\d{1,9}$/.test(first.toString('latin1'))) return undefined
  return { volume: Number(first), names }
}

export function joinPath(volume: number, names: readonly Buffer[]): Buffer {
  return Buffer.concat([Buffer.from(`/${volume}`), ...names.flatMap((name) => [Buffer.of(SLASH), name])])
}

/** Undefined where nothing hangs at the path, or where its volume was read raw. */
export async function findPath(reader: SnapshotReader, path: Buffer): Promise<Found | undefined> {
  const wanted = splitPath(path)
  const volume = wanted && reader.volumes.find(({ index }) => index === wanted.volume)
  if (!wanted || !volume || volume.rootNumber === null) return undefined
  let number: number | undefined = volume.rootNumber
  for (const name of wanted.names) {
    number = await reader.child(volume.index, number, name)
    if (number === undefined) return undefined
  }
  const row = await reader.file(volume.index, number)
  return row && { volume, names: wanted.names, number, row }
}

/** All children of a folder, some at a time. */
export async function* childrenOf(reader: SnapshotReader, volume: number, parent: number): AsyncGenerator<Child[]> {
  for (let after: Buffer | null = null; ; ) {
    const children: Child[] = await reader.children(volume, parent, after, PAGE)
    const last = children.at(-1)
    if (!last) return
    yield children
    after = last.name
  }
}

/** The bytes as text where they are UTF-8. */
export function utf8(bytes: Buffer): string | undefined {
  const text = bytes.toString('utf8')
  return Buffer.from(text, 'utf8').equals(bytes) ? text : undefined
}

export function timeMs({ seconds, nanoseconds }: Timestamp): number {
  return seconds * 1000 + Math.floor(nanoseconds / 1e6)
}

function splitNames(path: Buffer): Buffer[] {
  const names: Buffer[] = []
  for (let from = 0; from <= path.length; ) {
    const slash = path.indexOf(SLASH, from)
    const end = slash < 0 ? path.length : slash
    if (end > from) names.push(path.subarray(from, end))
    from = end + 1
  }
  return names
}
