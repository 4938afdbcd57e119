/** A real disk in a real lab, looked at and taken out file by file. */
import { execFileSync, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import {
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { SnapshotRow } from '../../src/catalog/types.js'
import type { FilesReport } from '../../src/jobs/restore/files.js'
import { lacksFuse, lacksTools, testWhere } from '../machine.js'
import { imager, lastLine, start, TestLab } from './lab.js'
import { diskTest, fill, folderOf, lacksDisk, run, treeOf, withDisk, withMounted, xattrsOf } from './tree.js'

interface Line {
  path: string | null
  name: string
  kind: string
  mode: string
  size: number
  inode: number
  target?: string
}

const lines = (stdout: string) =>
  stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Line)

diskTest('snapshots, show and ls say what was stored', async (t) => {
  const lab = await TestLab.up(t, 3)
  const state = ['--state', lab.lab.appliance.state]
  t.regex((await imager('snapshots', ...state)).stdout, /There are no snapshots yet/)
  t.is((await imager('show', 'latest', ...state)).code, 10)
  const disk = lab.path('disk.img')
  await withDisk(disk, 96, [], fill)
  const id = await lab.snapshot(t, disk)

  const listed = lastLine<{ snapshots: SnapshotRow[] }>(await imager('snapshots', ...state, '--json'))
  t.deepEqual(
    listed.snapshots.map((row) => row.id),
    [id],
  )
  t.regex(
    (await imager('snapshots', ...state)).stdout,
    new RegExp(`^${id.slice(0, 8)}  .*disk.img.* 1 host +protected$`, 'm'),
  )
  const shown = await imager('show', id.slice(0, 6), ...state)
  for (const word of [id, 'image file', '/0  ext4', 'peer-1', 'Owners', 'the loss of any 1 host']) {
    t.true(shown.stdout.includes(word), `${word} in ${shown.stdout}`)
  }
  const row = lastLine<SnapshotRow & { hosts: { name: string; bytes: number }[] }>(
    await imager('show', id, ...state, '--json'),
  )
  t.like(row, { id, survives: 1, state: 'protected' })
  t.deepEqual(row.hosts.map(({ name }) => name).sort(), ['peer-1', 'peer-2', 'peer-3'])

  t.regex((await imager('ls', id, ...state)).stdout, /^\/0 +ext4 +/)
  const etc = lines((await imager('ls', id, '/0/etc/', ...state, '--json')).stdout)
  await withMounted(disk, 'ro', (mounted) => {
    t.is(etc.length, readdirSync(join(mounted, 'etc')).length)
  })
  const of = (name: string) => etc.find((one) => one.name === name)
  t.like(of('small'), { path: '/0/etc/small', kind: 'file', mode: '4751', size: 13 })
  t.like(of('fast link'), { kind: 'symlink', target: 'small' })
  t.like(of('slow link'), { target: `/${'long/'.repeat(40)}` })
  t.is(etc.filter(({ path }) => path === null).length, 1)
  const text = (await imager('ls', id, '/0/etc', ...state)).stdout
  t.is(text.trim().split('\n').length, etc.length)
  t.regex(text, /^-rwsr-x--x +0 +0 +13 .* small$/m)
  t.regex(text, /^drwxrwx--T 100000 70000 .* (2099-12-31|2100-01-01) \d\d:\d\d \S+ +deep$/m)
  t.is(lines((await imager('ls', id, '/0/etc/deep', ...state, '--json')).stdout).length, 302)
  const one = await imager('ls', id, '/0/etc/fast link', ...state, '--json')
  t.deepEqual(lines(one.stdout), [of('fast link') as Line])
  for (const path of ['/0/nope', '/7', 'etc', '/0/etc/small/x', '/0/etc/fast link/x']) {
    const { code, stdout } = await imager('ls', id, path, ...state, '--json')
    t.is(code, 1)
    t.like(JSON.parse(stdout), { code: 'NO_SUCH_FILE' })
  }
  t.is((await imager('ls', 'ffff', ...state)).code, 10)
})

diskTest(
  'files come back with all that belongs to them, a peer missing, and what is not there is listed',
  async (t) => {
    const lab = await TestLab.up(t, 4)
    const state = ['--state', lab.lab.appliance.state]
    const disk = lab.path('disk.img')
    await withDisk(disk, 96, [], fill)
    const id = await lab.snapshot(t, disk)
    await lab.kill(lab.lab.peers[0]?.pid ?? 0)
    const list = lab.path('list')
    writeFileSync(list, '/0/etc\n/0/etc/small\n\n')
    const to = lab.path('out')
    const done = await imager('restore', id, '--files', list, '--to', to, ...state, '--json')
    t.is(done.code, 0, done.stdout)
    const report = lastLine<FilesReport & { status: string }>(done)
    t.like(report, { status: 'done', corrected: 0, missing: [], failed: [], notes: [] })
    await withMounted(disk, 'ro', (mounted) => {
      t.deepEqual(treeOf(join(to, '0', 'etc')), treeOf(join(mounted, 'etc')))
      t.is(xattrsOf(join(to, '0', 'etc')), xattrsOf(join(mounted, 'etc')))
    })
    t.true(statSync(join(to, '0', 'etc', 'sparse')).blocks * 512 < 200_000)
    const same = ['small', 'deep/second name'].map((name) => statSync(join(to, '0', 'etc', name)).ino)
    t.is(same[0], same[1])

    const again = await imager('restore', id, '--files', list, '--to', to, ...state, '--json')
    t.is(again.code, 1)
    t.like(lastLine(again), { code: 'TARGET_NOT_EMPTY' })
    const forced = await imager('restore', id, '--files', list, '--to', to, '--force', ...state)
    t.is(forced.code, 0, forced.stderr)
    await withMounted(disk, 'ro', (mounted) => {
      t.is(xattrsOf(join(to, '0', 'etc')), xattrsOf(join(mounted, 'etc')))
    })

    const main = start([]).spawnargs[1] as string
    const piped = spawnSync(
      process.execPath,
      [main, 'restore', id, '--files', '-', '-0', '--to', lab.path('some'), ...state, '--json'],
      { input: Buffer.from('/0/etc/line\nbreak\0/0/etc/latin \xe9\0/0/none\0', 'latin1'), encoding: 'utf8' },
    )
    t.is(piped.status, 1)
    t.like(lastLine({ code: 1, stdout: piped.stdout, stderr: '' }), { status: 'done', files: 2, missing: ['/0/none'] })
    t.is(readFileSync(join(lab.path('some'), '0', 'etc', 'line\nbreak'), 'utf8'), 'a name of two lines')
    const dry = await imager('restore', id, '--files', list, '--to', lab.path('dry'), '--dry-run', ...state, '--json')
    t.like(lastLine(dry), { status: 'planned', files: report.files, bytes: report.bytes })
    t.false(existsSync(lab.path('dry')))

    for (const peer of lab.lab.peers.slice(1, 3)) await lab.kill(peer.pid)
    const gone = await imager('restore', id, '--files', list, '--to', lab.path('gone'), ...state, '--json')
    t.is(gone.code, 5, gone.stdout)
  },
)

const mountTest = testWhere(lacksDisk, lacksFuse())
mountTest('a mount in the background: ready when it says so, exact, and away when asked', async (t) => {
  const lab = await TestLab.up(t, 4)
  const state = ['--state', lab.lab.appliance.state]
  const disk = lab.path('disk.img')
  await withDisk(disk, 96, ['-L', 'some disk'], fill)
  const id = await lab.snapshot(t, disk)
  await lab.kill(lab.lab.peers[3]?.pid ?? 0)
  const mountpoint = folderOf(t, lab, 'mnt')

  // `imager` returns only when nobody holds its output any more: the process left behind must not.
  const outcome = await imager('mount', 'latest', mountpoint, ...state, '--json')
  t.is(outcome.code, 0, outcome.stdout)
  const ready = lastLine<{ pid: number }>(outcome)
  t.deepEqual(Object.keys(ready), ['status', 'mountpoint', 'pid', 'snapshot'])
  t.like(ready, { status: 'mounted', mountpoint })
  t.deepEqual(readdirSync(mountpoint).sort(), ['disk.img', 'files', 'volumes'])
  const files = join(mountpoint, 'files', '0')
  await withMounted(disk, 'ro', (mounted) => {
    t.deepEqual(readdirSync(files).sort(), readdirSync(mounted).sort())
    t.deepEqual(treeOf(join(files, 'etc')), treeOf(join(mounted, 'etc')))
    t.is(xattrsOf(join(files, 'etc')), xattrsOf(join(mounted, 'etc')))
  })
  t.is(statSync(join(mountpoint, 'disk.img')).size, statSync(disk).size)
  await withMounted(join(mountpoint, 'volumes', '0.img'), 'ro', (inner) => {
    t.deepEqual(treeOf(join(inner, 'etc')), treeOf(join(files, 'etc')))
  })
  t.is(
    execFileSync('blkid', ['-s', 'LABEL', '-o', 'value', join(mountpoint, 'disk.img')], { encoding: 'utf8' }),
    'some disk\n',
  )

  const twice = await imager('mount', id, mountpoint, ...state, '--json')
  t.is(twice.code, 1)
  t.like(lastLine(twice), { code: 'MOUNT_FAILED' })
  t.is((await imager('unmount', mountpoint)).code, 0)
  t.true(await ends(ready.pid))
  t.deepEqual(readdirSync(mountpoint), [])
  const not = await imager('unmount', mountpoint, '--json')
  t.is(not.code, 1)
  t.like(lastLine(not), { code: 'NOT_MOUNTED' })

  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    const { pid } = lastLine<{ pid: number }>(await imager('mount', id, mountpoint, ...state, '--json'))
    process.kill(pid, signal)
    t.true(await ends(pid), signal)
    t.deepEqual(readdirSync(mountpoint), [])
  }
  const nowhere = await imager('mount', id, lab.path('nowhere'), ...state, '--json')
  t.like(lastLine(nowhere), { code: 'MOUNT_FAILED' })
  t.is((await imager('mount', 'ffff', mountpoint, ...state)).code, 10)
  t.is((await imager('mount', id, mountpoint, '--state', lab.path('none'))).code, 10)
})

const ntfsTest = testWhere(lacksDisk, lacksFuse(), lacksTools('ntfs-3g', 'mkntfs'))
ntfsTest('files of an NTFS volume: streams, compressed units, holes, hard links', async (t) => {
  const lab = await TestLab.up(t, 3)
  const state = ['--state', lab.lab.appliance.state]
  const disk = lab.path('disk.img')
  writeFileSync(disk, '')
  truncateSync(disk, 40 << 20)
  run('mkntfs', '-q', '-F', disk)
  const ntfs = ['-t', 'ntfs-3g', '-o', 'streams_interface=xattr,compression']
  await withMounted(
    disk,
    'rw',
    (root) => {
      mkdirSync(join(root, 'folder'))
      mkdirSync(join(root, 'packed'))
      run('setfattr', '-h', '-n', 'system.ntfs_attrib', '-v', '0x00080000', join(root, 'packed'))
      writeFileSync(join(root, 'folder', 'tiny'), 'resident')
      writeFileSync(join(root, 'folder', 'large'), randomBytes(900_000))
      writeFileSync(join(root, 'packed', 'text'), 'a line of text that repeats\n'.repeat(20_000))
      writeFileSync(join(root, 'ünïcode ☃'), 'x')
      truncateSync(join(root, 'ünïcode ☃'), 5 << 20)
      linkSync(join(root, 'folder', 'tiny'), join(root, 'second name'))
      run('setfattr', '-n', 'user.stream', '-v', 'in a named stream', join(root, 'folder', 'tiny'))
    },
    ntfs,
  )
  const id = await lab.snapshot(t, disk)
  const list = lab.path('list')
  writeFileSync(list, '/0\n')
  const to = lab.path('out')
  const done = await imager('restore', id, '--files', list, '--to', to, ...state, '--json')
  t.is(done.code, 0, done.stdout)
  await withMounted(
    disk,
    'ro',
    (root) => {
      t.deepEqual(treeOf(join(to, '0')), treeOf(root))
      for (const name of ['folder/tiny', 'second name']) {
        const values = [root, join(to, '0')].map((one) =>
          run('getfattr', '--only-values', '-n', 'user.stream', join(one, name)),
        )
        t.deepEqual(values, ['in a named stream', 'in a named stream'])
      }
    },
    ntfs,
  )
})

async function ends(pid: number): Promise<boolean> {
  for (let tries = 0; tries < 250; tries++) {
    if (!existsSync(`/proc/${pid}`)) return true
    await sleep(20)
  }
  return false
}
