/** What is asked for ahead of who reads the files of a tree in the order of its listings. */
import test from 'ava'
import { Tree } from '../../src/mount/tree.js'
import { Body } from '../../src/native.js'
import type { Extent, Stream } from '../../src/retrieve/reader.js'
import { MemorySnapshot } from './memory.js'

const MiB = 1024 * 1024
/** Sixty folders with a picture of 1 MiB, an empty file and a note; files lie apart, so that no two are asked for as one. */
const FOLDERS = 60
const APART = 8 * MiB

interface Lab {
  readonly snapshot: MemorySnapshot
  readonly tree: Tree
  /** What was asked for: offset and length. */
  readonly asked: [number, number][]
  /** In the order of a walk. */
  readonly files: { number: number; disk: number; size: number }[]
}

async function makeLab(): Promise<Lab> {
  const snapshot = new MemorySnapshot()
  const asked: [number, number][] = []
  const files: Lab['files'] = []
  const add = (folder: number, name: string, size: number) => {
    const disk = files.length * APART
    const extent: Extent = { kind: 'plain', rawLength: 0, logical: 0, disk, length: size }
    const stream: Partial<Stream> & { size: number } = { size, valid: size, resident: null, extents: [extent] }
    files.push({ number: snapshot.file(folder, name, { stream }), disk, size })
  }
  for (let at = 0; at < FOLDERS; at++) {
    const folder = snapshot.folder(snapshot.root, `f${String(at).padStart(2, '0')}`)
    snapshot.file(folder, 'empty', Buffer.alloc(0))
    add(folder, 'note', 1000)
    add(folder, 'picture', MiB)
  }
  const reader = Object.assign(snapshot, {
    readDisk: async (_: number, length: number) => new Body(Buffer.alloc(length)),
    prefetch: async (offset: number, length: number) => void asked.push([offset, length]),
  })
  const tree = new Tree(reader, (bytes) => bytes, { uid: 0, gid: 0 })
  return { snapshot, tree, asked, files }
}

async function read({ tree }: Lab, { number, size }: Lab['files'][number]): Promise<void> {
  await tree.read({ volume: 2, number }, 0, size)
  // Hints are given while nobody waits.
  await new Promise(setImmediate)
}

async function list({ tree, snapshot }: Lab): Promise<void> {
  const node = { volume: 2, number: snapshot.root }
  await tree.folder(node, 0, true)
  for (const { number } of await snapshot.children(0, snapshot.root, null, 1000)) {
    await tree.folder({ volume: 2, number }, 0, true)
  }
}

test('a walk: the next files and folders are asked for once each, ahead of the reader and not too far', async (t) => {
  const lab = await makeLab()
  const { asked, files } = lab
  await lab.tree.folder({ volume: 2, number: lab.snapshot.root }, 0, true)
  let furthest = 0
  for (const [at, file] of files.entries()) {
    // As tar does: a folder is listed when it is entered, and not before.
    await lab.tree.folder({ volume: 2, number: await parentOf(lab, at) }, 0, true)
    if (at >= 4)
      t.true(
        asked.some(([offset]) => offset === file.disk),
        `file ${at} was foreseen`,
      )
    await read(lab, file)
    furthest = Math.max(furthest, ...asked.map(([offset]) => offset / APART - at))
  }
  t.true(furthest > 8 && furthest <= 32, `${furthest} files ahead`)
  const offsets = asked.map(([offset]) => offset)
  t.is(new Set(offsets).size, offsets.length)
})

async function parentOf({ snapshot }: Lab, file: number): Promise<number> {
  const folders = await snapshot.children(0, snapshot.root, null, 1000)
  return folders[Math.floor(file / 2)]?.number ?? 0
}

test('a walk: who reads files from all over, or only one, has nothing asked for', async (t) => {
  const lab = await makeLab()
  await list(lab)
  for (let at = 0; at < lab.files.length; at++) await read(lab, lab.files[(at * 37) % lab.files.length] as never)
  t.deepEqual(lab.asked, [])
})

test('a walk: who takes one file of two is not fetched all that it leaves', async (t) => {
  const lab = await makeLab()
  await list(lab)
  for (const file of lab.files.filter(({ size }) => size < MiB)) await read(lab, file)
  const bytes = lab.asked.reduce((sum, [, length]) => sum + length, 0)
  t.true(bytes < (FOLDERS + 4) * MiB, `${bytes} bytes`)
  const ahead = lab.asked.map(([offset]) => offset)
  t.true(Math.max(...ahead) <= (lab.files.length + 1) * APART)
})

test('a walk: a folder that holds itself, and a row that is lost, end no read', async (t) => {
  const lab = await makeLab()
  const { snapshot, files } = lab
  const [folder] = await snapshot.children(0, snapshot.root, null, 1)
  snapshot.link(folder?.number ?? 0, 'loop', folder?.number ?? 0)
  snapshot.lostRows.set(files[3]?.number ?? 0, new Error('away'))
  await list(lab)
  for (const file of files.slice(0, 3)) await read(lab, file)
  await t.throwsAsync(read(lab, files[3] as never), { message: 'away' })
  for (const file of files.slice(4)) await read(lab, file)
  t.true(lab.asked.length <= files.length, 'nothing twice')
})
