/** A disk with LVM from end to end: its logical volumes are volumes of the snapshot, whole and file by file. */
import {
  closeSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { MiB } from '../../src/base/units.js'
import { lacksFuse, lacksTools, testWhere } from '../machine.js'
import { imager, TestLab } from './lab.js'
import { fill, lacksDisk, run, treeOf, withDisk, withMounted } from './tree.js'

const test = testWhere(lacksDisk, lacksFuse(), lacksTools('lvm', 'sfdisk'))

const EXTENT = MiB
const START = 4 * MiB

/** `lvm` without the kernel's device-mapper; the logical volumes are written where it says that they lie. */
class Group {
  readonly #device: string

  constructor(readonly path: string) {
    writeFileSync(path, '')
    truncateSync(path, 200 * MiB)
    const second = `label: dos\n1: start=1MiB, size=3MiB, type=83\n2: start=${START / MiB}MiB, type=8e\n`
    writeFileSync(`${path}.table`, second)
    run('sh', '-c', `sfdisk --quiet ${path} < ${path}.table`)
    this.#device = run('losetup', '--find', '--show', '-o', `${START}`, path).trim()
    this.lvm('pvcreate', '-y', this.#device)
    this.lvm('vgcreate', '-s', `${EXTENT}b`, 'office', this.#device)
  }

  lvm(...words: string[]): string {
    const apart = ['--driverloaded', 'n', '--devices', this.#device, '--config', 'backup { backup = 0 archive = 0 }']
    return run('lvm', ...words, ...apart)
  }

  /** As many extents as are asked for in each step, other volumes between them. */
  create(name: string, extents: number): void {
    this.lvm('lvcreate', '-y', '-an', '-Zn', '-Wn', '-l', `${extents}`, '-n', name, 'office')
  }

  extend(name: string, extents: number): void {
    this.lvm('lvextend', '-l', `+${extents}`, `office/${name}`)
  }

  /** Writes the image of a logical volume into its segments; gives their number. */
  write(name: string, image: string): number {
    const report = this.lvm('lvs', '--noheadings', '-o', 'seg_pe_ranges', '-O', 'seg_start', `office/${name}`)
    const first = Number(this.lvm('pvs', '--noheadings', '--nosuffix', '--units', 'b', '-o', 'pe_start'))
    const disk = openSync(this.path, 'r+')
    const bytes = readFileSync(image)
    let done = 0
    const ranges = [...report.matchAll(/:(\d+)-(\d+)/g)]
    for (const [, from, to] of ranges) {
      const length = (Number(to) + 1 - Number(from)) * EXTENT
      writeSync(disk, bytes, done, length, START + first + Number(from) * EXTENT)
      done += length
    }
    closeSync(disk)
    if (done !== bytes.length) throw new Error(`${name} has ${done} bytes`)
    return ranges.length
  }

  close(): void {
    run('losetup', '-d', this.#device)
  }
}

test('logical volumes are listed, mounted and restored', async (t) => {
  const lab = await TestLab.up(t, 3)
  const state = ['--state', lab.lab.appliance.state]
  const [root, home, disk] = [lab.path('root.img'), lab.path('home.img'), lab.path('disk.img')]
  await withDisk(root, 60, [], fill)
  await withDisk(home, 20, [], (mounted) => writeFileSync(join(mounted, 'letter'), 'Dear Anna'))
  const group = new Group(disk)
  group.create('root', 37)
  group.create('home', 20)
  group.extend('root', 23)
  t.is(group.write('root', root), 2)
  t.is(group.write('home', home), 1)
  group.close()
  run('sync')

  await lab.snapshot(t, disk)
  const listed = (await imager('ls', 'latest', ...state)).stdout
  t.regex(listed, /^\/2 +lvm2 .*raw.*\n\/2001 +ext4 .*office\/root$\n\/2002 +ext4 .*office\/home$/m)
  t.regex((await imager('show', 'latest', ...state)).stdout, /\/2001 +ext4 +office\/root/)
  const table = (await imager('map', disk, '--table', '--json')).stdout
  t.deepEqual(
    table
      .trim()
      .split('\n')
      .map((line) => (JSON.parse(line) as { index: number }).index),
    [1, 2],
  )

  writeFileSync(lab.path('list'), '/2001/etc\n/2002/letter\n')
  const back = lab.path('back')
  t.is((await imager('restore', 'latest', '--files', lab.path('list'), '--to', back, ...state)).code, 0)
  t.is(readFileSync(join(back, '2002/letter'), 'utf8'), 'Dear Anna')
  await withMounted(root, 'ro', (mounted) => {
    t.deepEqual(treeOf(join(back, '2001/etc')), treeOf(join(mounted, 'etc')))
  })

  const mountpoint = lab.mountpoint(t)
  t.is((await imager('mount', 'latest', mountpoint, ...state)).code, 0)
  t.deepEqual(readdirSync(join(mountpoint, 'files')).sort(), ['2001', '2002'])
  t.is(readFileSync(join(mountpoint, 'files/2002/letter'), 'utf8'), 'Dear Anna')
  t.deepEqual(readdirSync(join(mountpoint, 'volumes')).sort(), ['1.img', '2.img', '2001.img', '2002.img'])
  await withMounted(root, 'ro', (mounted) => {
    t.deepEqual(treeOf(join(mountpoint, 'files/2001/etc')), treeOf(join(mounted, 'etc')))
  })
  // The volume's image reads through both segments: it is a whole file system.
  const image = lab.path('copy.img')
  run('cp', join(mountpoint, 'volumes/2001.img'), image)
  run('e2fsck', '-fn', image)
  await withMounted(image, 'ro', async (copied) => {
    await withMounted(root, 'ro', (mounted) => {
      t.deepEqual(treeOf(copied), treeOf(mounted))
    })
  })
  await imager('unmount', mountpoint)

  const restored = lab.path('restored.img')
  t.is((await imager('restore', 'latest', '--to', restored, ...state)).code, 0)
  for (const { start, length } of (await imager('map', disk, '--allocated', '--json')).stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { start: number; length: number })) {
    t.true(bytesOf(disk, start, length).equals(bytesOf(restored, start, length)), `${length} bytes at ${start}`)
  }
})

function bytesOf(path: string, start: number, length: number): Buffer {
  const file = openSync(path, 'r')
  const bytes = Buffer.alloc(length)
  readSync(file, bytes, 0, length, start)
  closeSync(file)
  return bytes
}
