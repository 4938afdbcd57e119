/** The files of a snapshot, from its file and directory trees. */
import { MiB } from '../base/units.js'
import { type FileRecord, fileAttributes, type ManifestPage } from '../native.js'
import { type Leaf, Leaves, PageCache } from './leaves.js'
import { TREE } from './manifest.js'
import type { OpenSnapshot } from './open.js'
import { ATTRIBUTES_BYTES, type Child, type FileRow, type Kind } from './reader.js'

/** Some hundred thousand files. */
const KEPT_BYTES = 64 * MiB
/** Of the mode, in encoded attributes. */
const MODE_AT = 52
const KINDS: readonly Kind[] = ['file', 'directory', 'symlink', 'block', 'character', 'fifo', 'socket']
const EXTENT_KINDS = ['plain', 'unwritten', 'compressed', 'encrypted', 'packed'] as const

export class Files {
  readonly #snapshot: OpenSnapshot
  readonly #kept = new PageCache(KEPT_BYTES)
  readonly #trees = new Map<string, Leaves>()

  constructor(snapshot: OpenSnapshot) {
    this.#snapshot = snapshot
  }

  async file(volume: number, number: number): Promise<FileRow | undefined> {
    const tree = this.#tree(TREE.files, volume)
    const pages = await Promise.all((await tree.of([number])).map((leaf) => tree.page(leaf)))
    const [first, ...more] = pages.flatMap((page) => page.file(number) ?? [])
    return first && fileRow(first, more)
  }

  async attributes(volume: number, numbers: readonly number[]): Promise<(Buffer | Error | undefined)[]> {
    const tree = this.#tree(TREE.files, volume)
    const leaves = await tree.of(Float64Array.from(numbers).sort())
    const pages: ManifestPage[] = []
    const lost: (Leaf & { error: Error })[] = []
    for (const [at, page] of (await Promise.allSettled(leaves.map((leaf) => tree.page(leaf)))).entries()) {
      if (page.status === 'fulfilled') pages.push(page.value)
      else lost.push({ ...(leaves[at] as Leaf), error: page.reason as Error })
    }
    const encoded = fileAttributes(pages, Float64Array.from(numbers))
    return numbers.map((number, at) => {
      const missing = lost.find(({ first, last }) => first <= number && number <= last)
      if (missing) return missing.error
      const one = encoded.subarray(at * ATTRIBUTES_BYTES, (at + 1) * ATTRIBUTES_BYTES)
      // No file has a mode without a type.
      return one.readUInt32LE(MODE_AT) === 0 ? undefined : one
    })
  }

  async child(volume: number, parent: number, name: Buffer): Promise<number | undefined> {
    const tree = this.#tree(TREE.directories, volume)
    const leaves = await tree.of([parent])
    const leaf = leaves[await leafOf(tree, leaves, parent, name)]
    return (leaf && (await tree.page(leaf)).child(parent, name)) ?? undefined
  }

  async children(volume: number, parent: number, after: Buffer | null, limit: number): Promise<Child[]> {
    const tree = this.#tree(TREE.directories, volume)
    const leaves = await tree.of([parent])
    const found: Child[] = []
    for (const leaf of leaves.slice(after ? await leafOf(tree, leaves, parent, after) : 0)) {
      const { names, ends, numbers, kinds } = (await tree.page(leaf)).names(parent, after, limit - found.length)
      for (const [at, number] of numbers.entries()) {
        found.push({ name: names.subarray(ends[at - 1] ?? 0, ends[at]), number, kind: kindOf(kinds[at] as number) })
      }
      if (found.length >= limit) break
    }
    return found
  }

  #tree(tree: number, volume: number): Leaves {
    const name = `${tree}/${volume}`
    const known = this.#trees.get(name)
    if (known) return known
    const leaves = new Leaves(this.#snapshot.manifest, this.#snapshot.tree(tree, volume), name, this.#kept)
    this.#trees.set(name, leaves)
    return leaves
  }
}

/** Which of a folder's leaves, from 0, holds a name, if any does: a large folder goes on from leaf to leaf. */
async function leafOf(tree: Leaves, leaves: readonly Leaf[], parent: number, name: Buffer): Promise<number> {
  let low = 0
  for (let high = leaves.length - 1; low < high; ) {
    const middle = (low + high + 1) >> 1
    if ((await tree.page(leaves[middle] as Leaf)).beginsBy(parent, name)) low = middle
    else high = middle - 1
  }
  return low
}

function kindOf(kind: number): Kind {
  return KINDS[kind - 1] ?? 'file'
}

/** The record of a file, with the extents of its continuations. */
function fileRow(record: FileRecord, more: readonly FileRecord[]): FileRow {
  const streams = record.streams.map((stream, at) => ({
    ...stream,
    extents: [stream, ...more.flatMap((part) => part.streams[at] ?? [])].flatMap((part) =>
      part.extents.map((extent) => ({ ...extent, kind: EXTENT_KINDS[extent.kind] ?? 'plain' })),
    ),
  }))
  const unnamed = streams.find((stream) => stream.name === '')
  return { ...record, kind: kindOf(record.kind), size: unnamed?.size ?? 0, streams }
}
