/** `imager map --svg`: a bounded, well-formed picture that counts every byte, and never costs a file that was there. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { main } from '../../src/cli/main.js'
import { renderSvg } from '../../src/cli/svg.js'
import { type Bytes, type Picture, pictureOf, REGIONS, sum } from '../../src/jobs/map/picture.js'
import { scanDisk, type VolumeFacts } from '../../src/native.js'
import { diskTest, fill, withDisk } from '../e2e/tree.js'
import { lacksTools, testWhere } from '../machine.js'

function folder(t: ExecutionContext): string {
  const path = mkdtempSync(join(tmpdir(), 'imager-svg-'))
  t.teardown(() => rmSync(path, { recursive: true, force: true }))
  return path
}

async function draw(...argv: string[]) {
  let stdout = ''
  const streams = { stdout: { write: (text: string) => (stdout += text) }, stderr: { write: () => {} } }
  const code = await main(['map', ...argv, '--json'], streams, new AbortController().signal)
  return { code, line: JSON.parse(stdout) as { code?: string; size: number; bytes: Bytes } }
}

/** What an XML parser that is not ours makes of it: the text of every title, and how many shapes there are. */
function parsed(svg: string): { titles: string[]; shapes: number } {
  const program =
    'import sys,json,xml.dom.minidom as m;d=m.parseString(sys.stdin.buffer.read());' +
    'print(json.dumps({"titles":[t.firstChild.data for t in d.getElementsByTagName("title")],' +
    '"shapes":len(d.getElementsByTagName("rect"))}))'
  return JSON.parse(execFileSync('python3', ['-c', program], { input: svg, encoding: 'utf8' }))
}

diskTest('every byte of a disk is in its picture, under the kind that the map gives it', async (t) => {
  const disk = join(folder(t), 'disk.img')
  await withDisk(disk, 96, ['-b', '4096'], fill)
  const scan = await scanDisk(disk, false)
  const { strips, bytes, sizeBytes } = pictureOf(scan, disk)
  const total = (of: Bytes) => REGIONS.reduce((all, region) => all + of[region], 0)
  t.is(total(bytes), sizeBytes)
  const allocated = scan.allocated().reduce((all, number, at) => all + (at % 2 === 1 ? Number(number) : 0), 0)
  t.is(sizeBytes - bytes.free - bytes.leftOut, allocated)
  const [volume] = scan.facts().volumes as [VolumeFacts]
  t.is(bytes.files, volume.contentBytes)
  t.is(
    bytes.leftOut,
    scan.leftOut().reduce((all, one) => all + one.bytes, 0),
  )
  t.true(bytes.leftOut > 0)
  t.is(strips.length, 2)
  t.deepEqual(sum(strips[1]?.cells ?? []), bytes)
  t.true(strips.every(({ cells }) => cells.length % 100 === 0))
})

test('a file that is there stays, whatever it is', async (t) => {
  const dir = folder(t)
  const [disk, svg, link] = [join(dir, 'disk.img'), join(dir, 'disk.svg'), join(dir, 'link.svg')]
  writeFileSync(disk, Buffer.alloc(5_000_000))
  writeFileSync(svg, 'mine')
  symlinkSync(svg, link)
  for (const [target, force, code] of [
    [svg, false, 'TARGET_NOT_EMPTY'],
    [link, true, 'TARGET_MISSING'],
    [dir, true, 'TARGET_MISSING'],
    [disk, true, 'TARGET_MISSING'],
    [join(dir, 'none', 'disk.svg'), false, 'TARGET_MISSING'],
  ] as const) {
    const { code: exit, line } = await draw(disk, '--svg', target, ...(force ? ['--force'] : []))
    t.deepEqual([exit, line.code], [1, code], target)
  }
  t.is(readFileSync(svg, 'utf8'), 'mine')
  t.is((await draw(disk, '--svg', svg, '--table')).line.code, 'USAGE')
  t.is(statSync(disk).size, 5_000_000)
  const { code, line } = await draw(disk, '--svg', svg, '--force')
  t.is(code, 0)
  t.like(line, { size: 5_000_000, bytes: { raw: 5_000_000, free: 0 } })
  t.regex(readFileSync(svg, 'utf8'), /^<svg /)
  t.deepEqual(readdirSync(dir).sort(), ['disk.img', 'disk.svg', 'link.svg'])
})

const parsedTest = testWhere(lacksTools('python3'))
parsedTest('many volumes, and names that are hostile to XML, give a small well-formed picture', (t) => {
  const none: Bytes = { outside: 0, metadata: 0, files: 0, free: 0, raw: 0, unsettled: 0, leftOut: 0 }
  const label = '</text><script>"&\u0000\ud800\ufffe\u202e'
  const facts = { fileSystem: 'ext4', label, raw: null, files: 7, within: null } as VolumeFacts
  // Every second cell of another kind: the most shapes there can be.
  const cells = (rows: number) =>
    Array.from({ length: rows * 100 }, (_, at) => ({ ...none, [REGIONS[at % 7] ?? 'free']: 1000, free: 7 }))
  const volumes = Array.from({ length: 10 }, (_, index) => ({ ...facts, index }))
  const picture: Picture = {
    ...{ source: label, sizeBytes: 1.5e6, table: 'gpt', sectorBytes: 512, residentBytes: 5, hidden: 30 },
    bytes: sum(cells(15)),
    strips: [
      { volume: null, lengthBytes: 2e5, cells: cells(2) },
      ...volumes.map((volume) => ({ volume, lengthBytes: 1e5, cells: cells(1) })),
    ],
  }
  const svg = renderSvg(picture)
  t.true(svg.length < 400_000, `${svg.length}`)
  t.false(svg.includes('<script'))
  const found = parsed(svg)
  t.true(found.titles.some((title) => /^\/9, from byte 0 to 1000: outside of volumes 99 %, free 0.7 %$/.test(title)))
  t.true(found.titles.length > 1000 && found.shapes < 2000)
})
