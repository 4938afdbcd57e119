/** The small parts of the mount, without FUSE. */
import test from 'ava'
import { ImagerError } from '../../src/base/errors.js'
import { LAST } from '../../src/mount/attributes.js'
import { Complaints } from '../../src/mount/complaints.js'
import { ourMountAt, parseMounts } from '../../src/mount/mountinfo.js'
import { ReadAhead } from '../../src/mount/readahead.js'
import { Rows } from '../../src/mount/rows.js'
import { ROOT, TOP } from '../../src/mount/top.js'
import { Tree } from '../../src/mount/tree.js'
import type { FileRow } from '../../src/retrieve/reader.js'
import { notRestorable } from '../../src/stripes/suffice.js'
import { MemorySnapshot } from './memory.js'

const MiB = 1024 * 1024

test('mountinfo: names are bytes with octal escapes, optional fields may be absent or many', (t) => {
  const mounts = parseMounts(
    [
      '36 35 98:0 / /mnt\\040a\\012b\\134c rw,noatime master:1 propagate_from:2 - ext3 /dev/root rw',
      '40 27 0:39 / /m/\xc3\xa9 ro,nosuid,nodev - fuse.imager imager:x ro',
      '41 27 0:40 / /m/x ro shared:7 - fuse.imager imager:y ro',
      '42 27 0:41 / /m/x rw - tmpfs tmpfs rw',
      '',
    ].join('\n'),
  )
  t.is(mounts[0]?.mountpoint.toString(), '/mnt a\nb\\c')
  t.is(mounts[0]?.type, 'ext3')
  t.is(ourMountAt(mounts, Buffer.from('/m/é'))?.minor, 39)
  t.is(ourMountAt(mounts, Buffer.from('/m/x')), undefined, 'something else lies on top')
})

test('complaints: each kind once a minute', (t) => {
  let now = 0
  const lines: string[] = []
  const complaints = new Complaints({ now: () => now }, (line) => lines.push(line))
  const missing = notRestorable({ silent: ['a', 'b', 'c'], suffice: 'a and b' })
  for (now = 0; now < 60_000; now += 1000) complaints.tell(missing, 'read')
  complaints.tell(new Error('other'), 'read')
  t.is(lines.length, 2)
  t.regex(lines[0] ?? '', /3 hosts do not answer: a, b, c\..*Bring back a and b\.\n$/)
  complaints.tell(missing, 'read')
  t.is(lines.length, 3)
})

test('read-ahead: only for a sequential reader, far ahead, each byte once', (t) => {
  const asked: [number, number][] = []
  const ahead = new ReadAhead({
    prefetch: async (_, offset, length) => {
      asked.push([offset, length])
      throw new Error('a hint may fail')
    },
  })
  const node = { volume: 1, number: 5 }
  for (let index = 0; index < 50; index++) ahead.read(node, ((index * 37) % 50) * 10 * MiB, 4096)
  t.deepEqual(asked, [])
  for (let offset = 0; offset < 64 * MiB; offset += MiB) ahead.read(node, offset, MiB)
  t.true(asked.length > 2 && asked.length < 20)
  for (let index = 1; index < asked.length; index++) {
    const [before, bytes] = asked[index - 1] as [number, number]
    t.is(asked[index]?.[0], before + bytes)
  }
})

test('rows: shared while they are fetched, failures are asked again, memory is bounded', async (t) => {
  let calls = 0
  const extents = Array.from({ length: 100_000 }, () => ({})) as never[]
  const row = { xattrs: [], streams: [{ name: '', resident: null, extents }] } as unknown as FileRow
  const rows = new Rows({
    file: async (_, number) => {
      calls++
      if (number === 9) throw new Error('away')
      return row
    },
  })
  await Promise.all([rows.get(1, 1), rows.get(1, 1)])
  t.is(calls, 1)
  await t.throwsAsync(rows.get(1, 9))
  await t.throwsAsync(rows.get(1, 9))
  t.is(calls, 3)
  for (let number = 10; number < 30; number++) await rows.get(1, number)
  calls = 0
  await rows.get(1, 29)
  t.is(calls, 0)
  await rows.get(1, 10)
  t.is(calls, 1, 'the oldest was let go')
})

test('rows: a fetch that hangs is begun again, not joined for good', async (t) => {
  let now = 0
  let calls = 0
  const rows = new Rows(
    { file: () => (++calls === 1 ? new Promise(() => undefined) : Promise.resolve(undefined)) },
    () => now,
  )
  void rows.get(1, 1)
  void rows.get(1, 1)
  t.is(calls, 1)
  now = 20_000
  t.is(await rows.get(1, 1), undefined)
  now = 90_000
  await rows.get(1, 1)
  t.is(calls, 2)
})

function tree(snapshot: MemorySnapshot): Tree {
  return new Tree(snapshot, (bytes) => bytes, { uid: 0, gid: 0 })
}

test('a folder goes on from any place, also one that was long ago', async (t) => {
  const snapshot = new MemorySnapshot()
  const names = Array.from({ length: 3000 }, (_, index) => `n${String(index).padStart(5, '0')}`)
  for (const name of names) snapshot.file(snapshot.root, name, Buffer.alloc(0))
  const mounted = tree(snapshot)
  const node = { volume: 2, number: snapshot.root }
  const seen: string[] = []
  const cookies: number[] = []
  for (let cookie = 0; cookie !== LAST; ) {
    const some = await mounted.folder(node, cookie, seen.length > 1000)
    for (const { name } of some) seen.push(name.toString())
    cookie = some.at(-1)?.cookie ?? 0
    cookies.push(cookie)
  }
  t.deepEqual(seen, ['.', '..', ...names])
  const back = await mounted.folder(node, cookies[0] as number, false)
  t.is(back[0]?.name.toString(), seen[cookies[0] as number])
  const anew = await tree(snapshot).folder(node, 2002, false)
  t.is(anew[0]?.name.toString(), 'n02000')
  t.deepEqual(await tree(snapshot).folder(node, 3002, false), [])
})

test('names that the kernel would choke on are left out, the others stay', async (t) => {
  const snapshot = new MemorySnapshot()
  for (const name of ['a/b', '.', '..', 'nul\0', 'x'.repeat(1025)]) snapshot.file(snapshot.root, name, Buffer.alloc(0))
  const node = { volume: 2, number: snapshot.root }
  t.deepEqual(await tree(snapshot).folder(node, 2, true), [])
  snapshot.file(snapshot.root, 'é'.repeat(300), Buffer.alloc(0))
  const some = await tree(snapshot).folder(node, 2, true)
  t.deepEqual(
    some.map(({ name }) => name.length),
    [600],
  )
})

test('listing reads no data and survives one lost row', async (t) => {
  const snapshot = new MemorySnapshot()
  snapshot.file(snapshot.root, 'good', Buffer.from('x'))
  const lost = snapshot.file(snapshot.root, 'lost', Buffer.from('x'))
  snapshot.lostRows.set(lost, new ImagerError('NOT_RESTORABLE', {}))
  const some = await tree(snapshot).folder({ volume: 2, number: snapshot.root }, 2, true)
  t.deepEqual(
    some.map(({ known }) => known),
    [true, false],
  )
  t.deepEqual(snapshot.reads, [])
})

test('the top: images, browsable volumes only, no children elsewhere', async (t) => {
  const mounted = tree(new MemorySnapshot())
  const names = async (number: number) =>
    (await mounted.folder({ volume: TOP, number }, 2, true)).map(({ name }) => name.toString())
  t.deepEqual(await names(ROOT), ['disk.img', 'files', 'volumes'])
  const number = async (name: string) =>
    (await mounted.lookup({ volume: TOP, number: ROOT }, Buffer.from(name)))?.readUInt32LE(0) ?? 0
  t.deepEqual(await names(await number('volumes')), ['1.img', '3.img'])
  t.deepEqual(await names(await number('files')), ['1'])
  t.is(await mounted.lookup({ volume: TOP, number: ROOT }, Buffer.from('etc')), undefined)
  await t.throwsAsync(names(99))
})
