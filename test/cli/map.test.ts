/** `imager map` against what the kernel says of the same disk. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { main } from '../../src/cli/main.js'
import { type MappedFile, type Range, scanSource, type Whereabouts } from '../../src/jobs/map/map.js'
import { diskTest, fill, run, withDisk, withMounted } from '../e2e/tree.js'

function folder(t: ExecutionContext): string {
  const path = mkdtempSync(join(tmpdir(), 'imager-map-'))
  t.teardown(() => rmSync(path, { recursive: true, force: true }))
  return path
}

async function imager(...argv: string[]) {
  let [stdout, stderr] = ['', '']
  const streams = {
    stdout: { write: (text: string) => (stdout += text) },
    stderr: { write: (text: string) => (stderr += text) },
  }
  const code = await main(argv, streams, new AbortController().signal)
  return { code, stdout, stderr }
}

async function json<T>(...argv: string[]): Promise<T[]> {
  const { stdout } = await imager(...argv, '--json')
  return stdout.split('\n').flatMap((line) => (line === '' ? [] : [JSON.parse(line) as T]))
}

interface Extent {
  logical: number
  disk: number
  length: number
  unwritten?: true
}

/** Rows of `filefrag -v` as extents in bytes. */
function kernelExtents(path: string): Extent[] {
  const text = run('filefrag', '-v', path)
  const unit = Number(/blocks? of (\d+) bytes/.exec(text)?.[1])
  return [...text.matchAll(/^ *\d+: +(\d+)\.\. *\d+: +(\d+)\.\. *\d+: +(\d+):(.*)$/gm)].map((row) => ({
    logical: Number(row[1]) * unit,
    disk: Number(row[2]) * unit,
    length: Number(row[3]) * unit,
    ...(row[4]?.includes('unwritten') && { unwritten: true as const }),
  }))
}

/** Neighbours as one: how a run is cut into extents is the file system's business. */
function joined(extents: readonly Extent[]): Extent[] {
  const runs: Extent[] = []
  for (const extent of extents) {
    const last = runs.at(-1)
    const follows =
      last &&
      last.unwritten === extent.unwritten &&
      last.logical + last.length === extent.logical &&
      last.disk + last.length === extent.disk
    if (follows) last.length += extent.length
    else runs.push({ ...extent })
  }
  return runs
}

for (const [title, options] of [
  ['blocks of 1 KiB', ['-b', '1024']],
  ['blocks of 4 KiB and inline data', ['-b', '4096', '-O', 'inline_data']],
] as const) {
  diskTest(`every file of an ext4 disk lies where the kernel says: ${title}`, async (t) => {
    const disk = join(folder(t), 'disk.img')
    await withDisk(disk, 96, options, fill)
    const { code, stdout } = await imager('map', disk, '--json')
    t.is(code, 0)
    const lines = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as MappedFile)
    await withMounted(disk, 'ro', (mounted) => {
      const found = run('find', mounted, '-mindepth', '1', '-printf', 'x').length
      t.is(lines.length, found)
      for (const line of lines) {
        if (line.path === null) {
          t.deepEqual(Object.keys(line), ['partition', 'path', 'inode', 'size', 'resident', 'extents'])
          continue
        }
        const path = join(mounted, line.path)
        if (line.kind !== undefined) continue
        t.deepEqual(Object.keys(line), ['partition', 'path', 'size', 'resident', 'extents'])
        t.is(line.size, statSync(path).size, line.path)
        if (!line.resident) t.deepEqual(joined(line.extents), joined(kernelExtents(path)), line.path)
      }
    })
    const of = (path: string) => lines.find((line) => line.path === path)
    t.is(of('/etc/small')?.resident, options.includes('-O' as never))
    t.true(of('/etc/unwritten')?.extents.every((extent) => extent.unwritten))
    t.is(of('/etc')?.kind, 'directory')
    t.is(of('/etc/fast link')?.kind, 'symlink')
    t.is(of('/etc/null')?.kind, 'character')
    t.is(of('/lost+found')?.kind, 'directory')
    t.deepEqual(of('/etc/small')?.extents, of('/etc/deep/second name')?.extents)

    const large = of('/etc/large')?.extents[0]?.disk ?? 0
    const at = async (offset: number) => (await json<Whereabouts>('map', disk, '--at', `${offset}`))[0]
    t.deepEqual(await at(large + 77), {
      ...{ offset: large + 77, partition: 0, holds: 'file' as const },
      files: [
        { path: '/etc/large', inode: of('/etc/large') ? ((await at(large))?.files[0]?.inode ?? 0) : 0, logical: 77 },
      ],
    })
    t.like(await at(1024), { holds: 'metadata', files: [] })
    const allocated = await json<Range>('map', disk, '--allocated', '--everything')
    const inUse = allocated.reduce((sum, range) => sum + range.length, 0)
    const gap = allocated.findIndex((range, index) => range.start + range.length < (allocated[index + 1]?.start ?? 0))
    const before = allocated[gap] as Range
    t.like(await at(before.start + before.length), { holds: 'free' })
    const free = Number(/^Free blocks: +(\d+)$/m.exec(run('dumpe2fs', '-h', disk))?.[1])
    t.is(inUse, statSync(disk).size - free * Number(options[1]))
    t.deepEqual(await json('map', disk, '--path', '/0/etc/large'), [of('/etc/large') as object])
    t.regex((await imager('map', disk)).stdout, /^\/0 +ext4 +- +101 MB +/m)
    t.regex((await imager('map', disk, '--path', '/0/etc/large')).stdout, /^\/0\/etc\/large {2}file {2}5243003 bytes/)
  })
}

test('partitions, raw volumes, and nothing known at all', async (t) => {
  const dir = folder(t)
  const blank = join(dir, 'blank.img')
  writeFileSync(blank, '')
  truncateSync(blank, 4 << 20)
  const raw = await json<Record<string, unknown>>('map', blank)
  t.is(raw.length, 1)
  t.like(raw[0], { partition: 0, fallback: 'raw' })
  t.deepEqual(Object.keys(raw[0] as object), ['partition', 'fallback', 'reason'])
  t.is((await imager('map', blank)).code, 0)
  t.like((await json('map', blank, '--at', '5000'))[0], { partition: 0, holds: 'raw' })

  const parted = join(dir, 'parted.img')
  writeFileSync(
    parted,
    mbr([
      [1, 0x83, 2048, 2048],
      [3, 0x07, 6144, 2048],
    ]),
  )
  truncateSync(parted, 5 << 20)
  t.deepEqual(await json('map', parted, '--table'), [
    { index: 1, start: 2048 * 512, size: 2048 * 512, type: '0x83' },
    { index: 3, start: 6144 * 512, size: 2048 * 512, type: '0x07' },
  ])
  t.deepEqual(
    (await json<{ partition: number }>('map', parted)).map(({ partition }) => partition),
    [1, 3],
  )
  t.like((await json('map', parted, '--at', '100'))[0], { partition: null, holds: 'table' })
})

/** A master boot record with [slot, type, first sector, sectors]. */
function mbr(rows: readonly (readonly [number, number, number, number])[]): Buffer {
  const sector = Buffer.alloc(512)
  sector.writeUInt16LE(0xaa55, 510)
  for (const [slot, type, first, sectors] of rows) {
    const at = 446 + 16 * (slot - 1)
    sector[at + 4] = type
    sector.writeUInt32LE(first, at + 8)
    sector.writeUInt32LE(sectors, at + 12)
  }
  return sector
}

test('the parsers are confined as far as the kernel can, the process is not', async (t) => {
  const disk = join(folder(t), 'small.img')
  writeFileSync(disk, Buffer.alloc(70_000))
  const { confined } = (await scanSource(disk, false)).facts()
  const status = readFileSync('/proc/thread-self/status', 'utf8')
  t.is(confined.includes('seccomp'), status.includes('Seccomp_filters:'))
  t.log(`confined by ${confined.join(' and ') || 'nothing: this kernel offers neither'}`)
  // Opened by the threads of the pool, one of which ran the scan.
  const copies = await Promise.all(Array.from({ length: 16 }, () => readFile(disk)))
  t.true(copies.every((copy) => copy.length === 70_000))
  t.is(run('echo', 'free').trim(), 'free')
})

test('what cannot be mapped is an error of its own', async (t) => {
  const dir = folder(t)
  const disk = join(dir, 'small.img')
  writeFileSync(disk, Buffer.alloc(70_000))
  const errors: [argv: string[], code: string, exit: number][] = [
    [[join(dir, 'none')], 'SOURCE_MISSING', 1],
    [[dir], 'SOURCE_UNREADABLE', 1],
    [['/dev/null'], 'SOURCE_UNREADABLE', 1],
    [[disk, '--path', '/1/none'], 'NOT_MAPPED', 1],
    [[disk, '--at', '70000'], 'USAGE', 2],
    [[disk, '--at', 'somewhere'], 'USAGE', 2],
    [[disk, '--table', '--allocated'], 'USAGE', 2],
  ]
  for (const [argv, code, exit] of errors) {
    const outcome = await imager('map', ...argv, '--json')
    t.is(outcome.code, exit, argv.join(' '))
    t.like(JSON.parse(outcome.stdout), { status: 'error', code })
  }
  t.deepEqual(readdirSync(dir), ['small.img'])
})
