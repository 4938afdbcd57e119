/** The real mount over a snapshot in memory, looked at with the programs that people use. */
import { constants, createReadStream } from 'node:fs'
import {
  mkdir,
  open,
  readdir,
  readFile,
  readlink,
  rmdir,
  stat,
  statfs,
  symlink,
  unlink,
  writeFile,
} from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { readMounts } from '../../src/mount/mountinfo.js'
import { notRestorable } from '../../src/stripes/suffice.js'
import { inline, MemorySnapshot } from './memory.js'
import { isMounted, mounted, mountpoint, run, fuseTest as test } from './mounting.js'

const MiB = 1024 * 1024

function pattern(length: number, seed = 1): Buffer {
  const bytes = Buffer.alloc(length)
  for (let at = 0, value = seed; at < length; at++) {
    value = (Math.imul(value, 1_103_515_245) + 12_345) >>> 0
    bytes[at] = value >>> 16
  }
  return bytes
}

/** Whether opening a file again leaves its pages with the kernel; one that is short of memory drops some now and then. */
async function isKept({ reads }: MemorySnapshot, path: string): Promise<boolean> {
  for (let attempt = 0; attempt < 20; attempt++) {
    const before = reads.length
    await readFile(path)
    if (reads.length === before) return true
  }
  return false
}

test('the whole tree: ls, find, stat, owners, modes, times, links, devices', async (t) => {
  const snapshot = new MemorySnapshot()
  const etc = snapshot.folder(snapshot.root, 'etc', { uid: 7, gid: 8, mode: 0o1751, links: 3 })
  const passwd = snapshot.file(etc, 'passwd', Buffer.from('root:x\n'), { mode: 0o4711, links: 2, uid: 70_000 })
  snapshot.link(etc, 'passwd-', passwd)
  snapshot.symlink(etc, 'way', '../etc/passwd')
  snapshot.add(etc, 'tty', 'character', undefined, { device: (4 << 8) | 1 })
  snapshot.add(etc, 'pipe', 'fifo')
  snapshot.add(etc, 'sock', 'socket')
  snapshot.file(etc, 'old', Buffer.from('x'), { modified: { seconds: -86_401, nanoseconds: 250_000_000 } })
  const { mountpoint: path } = await mounted(t, snapshot)

  const { stdout } = await run('find', [path, '-printf', '%P %y %m %U %G %n %s\n'])
  t.deepEqual(stdout.split('\n').sort().slice(1), [
    ' d 555 0 0 4 0',
    'disk.img f 400 0 0 1 16777216',
    'files d 555 0 0 3 0',
    'files/1 d 755 0 0 1 0',
    'files/1/etc d 1751 7 8 3 0',
    'files/1/etc/old f 644 0 0 1 1',
    'files/1/etc/passwd f 4711 70000 0 2 7',
    'files/1/etc/passwd- f 4711 70000 0 2 7',
    'files/1/etc/pipe p 644 0 0 1 0',
    'files/1/etc/sock s 644 0 0 1 0',
    'files/1/etc/tty c 644 0 0 1 0',
    'files/1/etc/way l 777 0 0 1 13',
    'volumes d 555 0 0 2 0',
    'volumes/1.img f 400 0 0 1 16773120',
    'volumes/3.img f 400 0 0 1 8192',
  ])
  const folder = join(path, 'files/1/etc')
  t.regex((await run('ls', ['-lR', path])).stdout, /way -> \.\.\/etc\/passwd/)
  t.is(await readlink(join(folder, 'way')), '../etc/passwd')
  t.is(await readFile(join(folder, 'way'), 'utf8'), 'root:x\n')
  const file = await stat(join(folder, 'passwd'), { bigint: true })
  t.is(file.ino, 2n ** 49n + BigInt(passwd))
  t.is(file.ino, (await stat(join(folder, 'passwd-'), { bigint: true })).ino)
  t.is(file.mtimeNs, (1_700_000_000n + BigInt(passwd)) * 10n ** 9n + 123_456_789n)
  t.is((await stat(join(folder, 'old'), { bigint: true })).mtimeNs, -86_400_750_000_000n)
  t.is((await stat(join(folder, 'tty'))).rdev, (4 << 8) | 1)
  t.is((await statfs(path)).blocks * (await statfs(path)).bsize, snapshot.sizeBytes)
  t.is((await run('stat', ['-f', '-c', '%a %f', path])).stdout, '0 0\n')
})

test('cat, and dd from anywhere, give the bytes; nothing else is fetched', async (t) => {
  const snapshot = new MemorySnapshot(32 * MiB)
  const bytes = pattern(5 * MiB + 123)
  snapshot.file(snapshot.root, 'big', bytes)
  snapshot.file(snapshot.root, 'small', inline(Buffer.from('resident')))
  snapshot.file(snapshot.root, 'empty', Buffer.alloc(0))
  const { mountpoint: path } = await mounted(t, snapshot)
  const files = join(path, 'files/1')
  await run('ls', ['-lR', path])
  t.is((await run('cat', [join(files, 'small')])).stdout, 'resident')
  t.is((await run('cat', [join(files, 'empty')])).stdout, '')
  t.deepEqual(snapshot.reads, [])
  const file = await open(join(files, 'big'), constants.O_RDONLY)
  t.teardown(() => file.close())
  for (const [offset, length] of [
    [0, 1],
    [4095, 2],
    [1_000_003, 70_001],
    [5 * MiB, 4096],
    [6 * MiB, 10],
  ] as const) {
    const into = Buffer.alloc(length)
    const { bytesRead } = await file.read(into, 0, length, offset)
    t.deepEqual(into.subarray(0, bytesRead), bytes.subarray(offset, offset + length))
  }
  t.true((await readFile(join(files, 'big'))).equals(bytes))
  t.true((await readFile(join(path, 'disk.img'))).equals(snapshot.disk))
  t.true((await readFile(join(path, 'volumes/1.img'))).equals(snapshot.disk.subarray(4096)))
  t.true(await isKept(snapshot, join(files, 'big')), 'the kernel kept it')
  const direct = await run('dd', [`if=${join(files, 'big')}`, 'iflag=direct', 'bs=64k', 'skip=3', 'count=2'], {
    encoding: 'buffer',
  })
  t.true(direct.stdout.equals(bytes.subarray(3 * 65_536, 5 * 65_536)))
})

test('the map is learned while nothing is asked, and no more after the end', async (t) => {
  const snapshot = new MemorySnapshot()
  let steps = 0
  async function* learn() {
    for (;;) yield void steps++
  }
  const mount = await mounted(t, Object.assign(snapshot, { learn }))
  const learnedWhileBusy = async () => {
    const [before, until] = [steps, performance.now() + 300]
    for (let at = 0; performance.now() < until; at++) {
      await t.throwsAsync(stat(join(mount.mountpoint, `files/1/no-${at}`)), { code: 'ENOENT' })
    }
    return steps - before
  }
  // Idle, it would be some fourteen; a process that is not given the processor looks idle to itself.
  const tries: number[] = []
  while (tries.length < 20 && !tries.some((learned) => learned <= 3)) tries.push(await learnedWhileBusy())
  t.true((tries.at(-1) as number) <= 3, tries.join(' '))
  for (const wanted = steps + 3; steps < wanted; ) await sleep(10)
  await mount.close()
  await mount.unmounted
  const end = steps
  await sleep(200)
  t.true(steps <= end + 1)
})

test('holes, unwritten extents and bytes past the valid length are zeros, without a read', async (t) => {
  const snapshot = new MemorySnapshot()
  const bytes = pattern(8192)
  const extents = [
    { kind: 'plain' as const, rawLength: 0, logical: 4096, disk: snapshot.store(bytes), length: 8192 },
    { kind: 'unwritten' as const, rawLength: 0, logical: 12_288, disk: 0, length: 8192 },
  ]
  snapshot.file(snapshot.root, 'sparse', { stream: { size: 3 * MiB, valid: 10_000, extents } })
  const { mountpoint: path } = await mounted(t, snapshot)
  const wanted = Buffer.alloc(3 * MiB)
  bytes.copy(wanted, 4096, 0, 10_000 - 4096)
  t.true((await readFile(join(path, 'files/1/sparse'))).equals(wanted))
  t.deepEqual(snapshot.reads, [{ offset: extents[0]?.disk, length: 10_000 - 4096 }])
  t.is((await run('du', ['-k', join(path, 'files/1/sparse')])).stdout.split('\t')[0], '16')
})

test('extended attributes and named streams', async (t) => {
  const snapshot = new MemorySnapshot()
  const xattrs = [{ name: Buffer.from('user.mime'), value: Buffer.from('text/plain') }]
  const named = {
    'Zone.Identifier': Buffer.from('[Zone]\r\n'),
    huge: Buffer.alloc(65_537),
    full: Buffer.alloc(65_536, 'f'),
  }
  snapshot.file(snapshot.root, 'f', Buffer.from('x'), { xattrs, named })
  const { mountpoint: path } = await mounted(t, snapshot)
  const file = join(path, 'files/1/f')
  const { stdout } = await run('getfattr', ['--absolute-names', '-d', '-e', 'text', file])
  t.true(stdout.includes('user.mime="text/plain"'))
  t.true(stdout.includes('user.Zone.Identifier="[Zone]'))
  t.false(stdout.includes('huge'))
  const full = await run('getfattr', ['--absolute-names', '--only-values', '-n', 'user.full', file], { maxBuffer: MiB })
  t.is(full.stdout, 'f'.repeat(65_536))
  await t.throwsAsync(run('getfattr', ['-n', 'user.none', file]), { message: /No such attribute/ })
  await t.throwsAsync(run('getfattr', ['-n', 'user.none', path]), { message: /No such attribute/ })
})

test('what is not there is ENOENT, what cannot be had is EIO and never zeros', async (t) => {
  const snapshot = new MemorySnapshot()
  const lines: string[] = []
  const bad = snapshot.file(snapshot.root, 'bad', pattern(100_000))
  const lost = snapshot.file(snapshot.root, 'lost', pattern(10))
  snapshot.file(snapshot.root, 'good', inline(Buffer.from('good')))
  const { mountpoint: path } = await mounted(t, snapshot, { write: (line) => lines.push(line) })
  const files = join(path, 'files/1')
  snapshot.lostRows.set(lost, notRestorable({ silent: ['ada', 'bob'], suffice: 'ada and bob' }))
  const away = notRestorable({ silent: ['ada', 'bob'], suffice: 'ada and bob' })
  snapshot.fault = () => Promise.reject(away)
  for (const name of ['files/1/none', 'none', 'files/2', 'volumes/2.img', 'files/1/good/x']) {
    await t.throwsAsync(stat(join(path, name)), { code: name.endsWith('/x') ? 'ENOTDIR' : 'ENOENT' })
  }
  t.deepEqual(lines, [])
  for (let again = 0; again < 5; again++) await t.throwsAsync(readFile(join(files, 'bad')), { code: 'EIO' })
  t.is(lines.length, 1)
  t.regex(lines[0] ?? '', /Bring back ada and bob/)
  t.deepEqual(await readdir(files), ['bad', 'good', 'lost'])
  await t.throwsAsync(run('ls', ['-l', files]), { message: /lost.*Input\/output error/ })
  t.is(await readFile(join(files, 'good'), 'utf8'), 'good')
  snapshot.fault = undefined
  snapshot.lostRows.delete(lost)
  t.true((await readFile(join(files, 'bad'))).equals(pattern(100_000)), 'an error is not kept')
  t.is((await stat(join(files, 'lost'))).size, 10)
  t.truthy(bad)
})

test('nothing can be written', async (t) => {
  const snapshot = new MemorySnapshot()
  snapshot.file(snapshot.root, 'f', Buffer.from('x'))
  const { mountpoint: path } = await mounted(t, snapshot)
  await t.throwsAsync(writeFile(join(path, 'files/1/f'), 'y'), { code: 'EROFS' })
  await t.throwsAsync(writeFile(join(path, 'files/1/new'), 'y'), { code: 'EROFS' })
  await t.throwsAsync(unlink(join(path, 'files/1/f')), { code: 'EROFS' })
})

test('other users see what the files allow, and never the images', async (t) => {
  const snapshot = new MemorySnapshot()
  snapshot.file(snapshot.root, 'open', inline(Buffer.from('for all')), { mode: 0o644 })
  snapshot.file(snapshot.root, 'secret', inline(Buffer.from('for root')), { mode: 0o600 })
  const { mountpoint: path } = await mounted(t, snapshot)
  const nobody = (name: string) => run('cat', [join(path, name)], { uid: 65_534, gid: 65_534 })
  t.is((await nobody('files/1/open')).stdout, 'for all')
  await t.throwsAsync(nobody('files/1/secret'), { message: /Permission denied/ })
  await t.throwsAsync(nobody('disk.img'), { message: /Permission denied/ })
})

test('a folder of 10,000 names, listed twice, and with their attributes', async (t) => {
  const snapshot = new MemorySnapshot()
  const many = snapshot.folder(snapshot.root, 'many')
  const names = Array.from(
    { length: 10_000 },
    (_, index) => `file with a longer name ${String(index).padStart(6, '0')}`,
  )
  for (const name of names) snapshot.file(many, name, inline(Buffer.from(name)))
  const { mountpoint: path } = await mounted(t, snapshot)
  const folder = join(path, 'files/1/many')
  t.deepEqual((await readdir(folder)).sort(), names)
  t.deepEqual((await readdir(folder)).sort(), names)
  const { stdout } = await run('find', [folder, '-type', 'f', '-size', '-100c', '-printf', '%s %f\n'], {
    maxBuffer: 16 * MiB,
  })
  t.deepEqual(stdout.trimEnd().split('\n').sort(), names.map((name) => `${name.length} ${name}`).sort())
  t.deepEqual(snapshot.reads, [])
})

test('names of any bytes', async (t) => {
  const snapshot = new MemorySnapshot()
  const odd = [
    Buffer.from([0xff, 0xfe, 0x41]),
    Buffer.from('a\nb'),
    Buffer.from(' "$(x)\'\\'),
    Buffer.from('é'.repeat(127)),
  ]
  for (const name of odd) snapshot.file(snapshot.root, name, inline(name))
  const { mountpoint: path } = await mounted(t, snapshot)
  const files = Buffer.from(join(path, 'files/1/'))
  const names = await readdir(files, 'buffer')
  t.deepEqual(
    names.sort((a, b) => a.compare(b)),
    odd.sort((a, b) => a.compare(b)),
  )
  for (const name of odd) t.deepEqual(await readFile(Buffer.concat([files, name])), name)
})

test('mount points with blanks, quotes, line ends and beyond ASCII', async (t) => {
  for (const name of ['a b', `quote"s'`, 'line\nend', '$(touch x)', 'täg\\040', ',ro']) {
    const parent = await mountpoint(t)
    const path = join(parent, name)
    await mkdir(path)
    const mount = await mounted(t, new MemorySnapshot(), {}, path)
    t.true(await isMounted(path))
    t.deepEqual(await readdir(path), ['disk.img', 'files', 'volumes'])
    await mount.close()
    t.false(await isMounted(path))
    await rmdir(path)
  }
})

test('several mounts at once, read side by side', async (t) => {
  const snapshots = [1, 2, 3, 4].map((seed) => {
    const snapshot = new MemorySnapshot()
    snapshot.file(snapshot.root, 'f', pattern(3 * MiB, seed))
    return snapshot
  })
  const mounts = await Promise.all(snapshots.map((snapshot) => mounted(t, snapshot)))
  const contents = await Promise.all(mounts.map(({ mountpoint: path }) => readFile(join(path, 'files/1/f'))))
  for (const [index, content] of contents.entries()) t.true(content.equals(pattern(3 * MiB, index + 1)))
  await mounts[0]?.close()
  t.is((await readFile(join(mounts[1]?.mountpoint ?? '', 'files/1/f'))).length, 3 * MiB)
})

test('how it is mounted: read-only, nosuid, nodev, with its name and a wide read-ahead', async (t) => {
  const { mountpoint: path } = await mounted(t, new MemorySnapshot(), { name: 'a1b2,dev,suid x' })
  const { stdout } = await run('findmnt', ['-no', 'SOURCE,FSTYPE,OPTIONS', path])
  t.regex(stdout, /^imager:a1b2_dev_suid_x fuse\.imager ro,nosuid,nodev,/)
  const mount = (await readMounts()).find((entry) => entry.mountpoint.equals(Buffer.from(path)))
  t.is(await readFile(`/sys/class/bdi/${mount?.major}:${mount?.minor}/read_ahead_kb`, 'utf8'), '1024\n')
})

test('mount points that are refused', async (t) => {
  const folder = await mountpoint(t)
  const refused = async (path: string, why: RegExp, stateFolder?: string) => {
    const parts = stateFolder === undefined ? {} : { stateFolder }
    await t.throwsAsync(mounted(t, new MemorySnapshot(), parts, path), { code: 'MOUNT_FAILED', message: why })
  }
  await refused(join(folder, 'none'), /no such folder/)
  await refused('/etc/hostname', /not a folder/)
  await refused('/etc', /not empty/)
  await refused(folder, /overlaps the state folder/, folder)
  const inside = join(folder, 'state')
  await mkdir(inside)
  await refused(inside, /overlaps the state folder/, folder)
  const link = `${folder}-link`
  await symlink(inside, link)
  t.teardown(() => unlink(link))
  await refused(link, /overlaps the state folder/, folder)
  const mount = await mounted(t, new MemorySnapshot(), { stateFolder: `${folder}/sta` }, inside)
  await refused(inside, /already/)
  await mount.close()
  await rmdir(inside)
})

test('a reader of everything at once does not hold everything in memory', async (t) => {
  const snapshot = new MemorySnapshot(64 * MiB)
  const { mountpoint: path } = await mounted(t, snapshot)
  let underWay = 0
  let most = 0
  snapshot.fault = async (offset, length) => {
    underWay += length
    most = Math.max(most, underWay)
    await new Promise((resolve) => setTimeout(resolve, 2))
    underWay -= length
    return snapshot.disk.subarray(offset, offset + length)
  }
  const streams = Array.from({ length: 24 }, async () => {
    for await (const chunk of createReadStream(join(path, 'disk.img'), { highWaterMark: MiB })) void chunk
  })
  await Promise.all(streams)
  t.true(most <= 64 * MiB)
})
