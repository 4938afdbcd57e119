/** Files out of a snapshot that was made to do harm, and into a target that was. */
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { ImagerError } from '../../../src/base/errors.js'
import type { SnapshotRow } from '../../../src/catalog/types.js'
import { refusedName } from '../../../src/disk/folder.js'
import type { Opened } from '../../../src/jobs/reader.js'
import { type FilesParts, type FilesReport, runRestoreFiles } from '../../../src/jobs/restore/files.js'
import { planFiles } from '../../../src/jobs/restore/files-plan.js'
import { Leftovers } from '../../../src/jobs/restore/leftovers.js'
import { notRestorable } from '../../../src/stripes/suffice.js'
import { inline, MemorySnapshot } from '../../mount/memory.js'

const BYTES = Buffer.alloc(10_000, 'content ')

function folder(t: ExecutionContext): string {
  const path = mkdtempSync(join(tmpdir(), 'imager-files-'))
  t.teardown(() => rmSync(path, { recursive: true, force: true }))
  return path
}

async function restore(
  reader: MemorySnapshot,
  to: string,
  paths: readonly string[],
  { force = false, resumed = false, signal = new AbortController().signal } = {},
): Promise<FilesReport> {
  const plan = await planFiles(
    reader,
    paths.map((path) => Buffer.from(path)),
    signal,
  )
  const row = { id: 'a'.repeat(32) } as SnapshotRow
  const opened = { row, reader, damaged: new Map() } as unknown as Opened
  const parts = { clock: { now: () => 0 }, report: () => {}, signal } as unknown as FilesParts
  const leftovers = new Leftovers(to, 'host', row.id, [])
  return await runRestoreFiles(
    { ...plan, opened, leftovers, resumed },
    { snapshot: '', files: '', nul: false, to, force },
    parts,
  )
}

test('names that lead elsewhere are left out and said; the others arrive', async (t) => {
  const dir = folder(t)
  const snapshot = new MemorySnapshot()
  for (const name of ['..', '.', 'a/b', '/etc', 'nul\0byte', '']) snapshot.file(snapshot.root, name, BYTES)
  const up = snapshot.folder(snapshot.root, '..')
  snapshot.file(up, 'escaped', BYTES)
  snapshot.file(snapshot.root, 'good', BYTES)
  const report = await restore(snapshot, join(dir, 'out'), ['/1'])
  t.deepEqual(readdirSync(join(dir, 'out', '1')), ['good'])
  t.deepEqual(readFileSync(join(dir, 'out', '1', 'good')), BYTES)
  t.deepEqual(readdirSync(dir), ['out'])
  t.is(report.exit, 1)
  t.true(report.failed.length >= 6)
  t.like(await restore(snapshot, join(dir, 'out2'), ['/1/../escaped']), { files: 0, exit: 1 })
  t.false(existsSync(join(dir, 'escaped')))
})

test('refused names', (t) => {
  for (const name of ['', '.', '..', 'a/b', 'a\0']) t.truthy(refusedName(Buffer.from(name)), JSON.stringify(name))
  for (const name of ['...', '.a', 'a b', '\n', '-rf']) t.is(refusedName(Buffer.from(name)), undefined)
})

test('a link of the snapshot is never written through: what lies behind it stays', async (t) => {
  const dir = folder(t)
  const outside = join(dir, 'outside')
  mkdirSync(outside)
  const first = new MemorySnapshot()
  first.symlink(first.root, 'way', outside)
  first.symlink(first.root, 'file', join(outside, 'file'))
  t.like(await restore(first, join(dir, 'out'), ['/1']), { exit: 0, files: 2 })
  // The next snapshot has a folder and a file where the target now has links.
  const second = new MemorySnapshot()
  const way = second.folder(second.root, 'way')
  second.file(way, 'owned', BYTES)
  second.file(second.root, 'file', BYTES)
  const kept = await restore(second, join(dir, 'out'), ['/1'])
  t.is(kept.exit, 1)
  t.is(readlinkSync(join(dir, 'out', '1', 'file')), join(outside, 'file'))
  const report = await restore(second, join(dir, 'out'), ['/1'], { force: true })
  t.deepEqual(readdirSync(outside), [])
  t.true(lstatSync(join(dir, 'out', '1', 'file')).isFile())
  t.is(report.exit, 1)
  t.regex(report.failed.map(({ path, why }) => `${path} ${why}`).join('\n'), /\/1\/way\/owned .*symbolic link/)
})

test('a folder that leads back into itself, and a list that names things twice, end', async (t) => {
  const dir = folder(t)
  const snapshot = new MemorySnapshot()
  const loop = snapshot.folder(snapshot.root, 'loop')
  snapshot.link(loop, 'again', loop)
  snapshot.link(loop, 'root', snapshot.root)
  const file = snapshot.file(loop, 'file', BYTES, { links: 2 })
  snapshot.link(snapshot.root, 'other name', file)
  const report = await restore(snapshot, dir, ['/1/loop/file', '/1', '/1/loop', '/1/loop/file'])
  t.like(report, { files: 2, exit: 0, bytes: BYTES.length })
  t.is(statSync(join(dir, '1', 'loop', 'file')).ino, statSync(join(dir, '1', 'other name')).ino)
})

test('one file that cannot be had does not keep back the others, and leaves nothing', async (t) => {
  const dir = folder(t)
  const snapshot = new MemorySnapshot()
  snapshot.file(snapshot.root, 'a', Buffer.alloc(5000, 'a'))
  snapshot.file(snapshot.root, 'b', Buffer.alloc(5000, 'b'), { links: 2 })
  snapshot.file(snapshot.root, 'c', inline(Buffer.from('small')))
  snapshot.fault = (offset, length) => {
    if (!snapshot.disk.subarray(offset, offset + length).includes('b')) return undefined
    return Promise.reject(notRestorable({ silent: ['x', 'y', 'z'], suffice: 'any 1 of x, y, z' }))
  }
  const report = await restore(snapshot, dir, ['/1', '/1/not there', '/9', 'nonsense'])
  t.is(report.exit, 5)
  t.deepEqual(
    report.failed.map(({ path }) => path),
    ['/1/b'],
  )
  t.deepEqual([...report.missing], ['/1/not there', '/9', 'nonsense'])
  t.deepEqual(readdirSync(join(dir, '1')).sort(), ['a', 'c'])
})

test('existing files stay unless forced', async (t) => {
  const dir = folder(t)
  mkdirSync(join(dir, '1'))
  writeFileSync(join(dir, '1', 'file'), 'mine')
  const snapshot = new MemorySnapshot()
  snapshot.file(snapshot.root, 'file', BYTES)
  t.is((await restore(snapshot, dir, ['/1'])).exit, 1)
  t.is(readFileSync(join(dir, '1', 'file'), 'utf8'), 'mine')
  t.is((await restore(snapshot, dir, ['/1'], { force: true })).exit, 0)
  t.deepEqual(readFileSync(join(dir, '1', 'file')), BYTES)
  t.deepEqual(readdirSync(join(dir, '1')), ['file'])
})

test('Ctrl-C ends it without a half file', async (t) => {
  const dir = folder(t)
  const snapshot = new MemorySnapshot()
  for (let index = 0; index < 100; index++) snapshot.file(snapshot.root, `file ${index}`, BYTES)
  const controller = new AbortController()
  let reads = 0
  snapshot.fault = () => {
    if (++reads === 20) controller.abort(new ImagerError('INTERRUPTED'))
    return undefined
  }
  await t.throwsAsync(restore(snapshot, dir, ['/1'], { signal: controller.signal }), { code: 'INTERRUPTED' })
  for (const name of readdirSync(join(dir, '1'))) {
    t.false(name.startsWith('.imager'))
    t.deepEqual(readFileSync(join(dir, '1', name)), BYTES)
  }
})
