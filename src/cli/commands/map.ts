import { formatBytes } from '../../base/units.js'
import type { MappedFile, Whereabouts } from '../../jobs/map/map.js'
import type { DiskScanHandle, VolumeFacts } from '../../native.js'
import { parseBytes, usage } from '../arguments.js'
import { defineCommand } from '../command.js'
import type { Drawn } from '../draw.js'
import { oneLine, table } from '../output.js'

export const command = defineCommand({
  usage: 'map <source>',
  describe: 'What a disk or image file holds: partitions, file systems, files and where they lie',
  example: ['imager map /dev/sdb', 'a summary of each volume; --json lists every file'],
  builder: (yargs) =>
    yargs
      .positional('source', { type: 'string', demandOption: true, describe: 'Block device or image file' })
      .option('table', { type: 'boolean', describe: 'Only the partitions' })
      .option('allocated', { type: 'boolean', describe: 'Only the byte ranges that a snapshot reads' })
      .option('everything', {
        type: 'boolean',
        default: false,
        describe: 'With --allocated: also what a snapshot leaves out',
      })
      .option('path', { type: 'string', requiresArg: true, describe: 'One file, as /1/etc/fstab' })
      .option('at', {
        type: 'string',
        requiresArg: true,
        coerce: parseBytes('at', 'map'),
        describe: 'What lies at this byte of the source',
      })
      .option('svg', { type: 'string', requiresArg: true, describe: 'Draw the disk into this file' })
      .option('force', { type: 'boolean', default: false, describe: 'With --svg: replace a file of that name' }),
  async run({ source, table: partitions, allocated, everything, path, at, svg, force }, { output, signal }) {
    const asked = Object.entries({ table: partitions, allocated, path, at, svg }).filter(
      ([, value]) => value !== undefined,
    )
    if (asked.length > 1) throw usage(`Only one of ${asked.map(([name]) => `--${name}`).join(', ')} at a time`, 'map')
    if (svg !== undefined)
      return output.report(await (await import('../draw.js')).drawMap(source, svg, force), renderDrawn)
    const map = await import('../../jobs/map/map.js')
    const scan = await map.scanSource(source, everything || !allocated)
    if (partitions) return output.lines(tableOf(scan), renderPartition)
    if (allocated) return output.lines(map.allocatedRanges(scan), ({ start, length }) => `${start}  ${length}`)
    if (path !== undefined) return output.lines(await map.mappedPath(scan, source, path, signal), renderFile)
    if (at !== undefined) {
      if (at >= scan.sizeBytes) throw usage(`The source ends at byte ${scan.sizeBytes}`, 'map')
      return output.report(await map.whatLiesAt(scan, at, signal), renderWhereabouts)
    }
    if (!output.json) return output.report(scan.facts(), () => renderSummary(source, scan))
    output.lines(map.rawVolumes(scan), () => '')
    for await (const files of map.mappedFiles(scan, signal)) output.lines(files, () => '')
  },
})

function renderDrawn({ svg }: Drawn): string {
  return `Drawn to ${svg}`
}

function tableOf(scan: DiskScanHandle) {
  const partitions = scan.facts().volumes.filter(({ within }) => within === null)
  return partitions.map(({ index, start, length, kind }) => ({ index, start, size: length, type: kind }))
}

function renderPartition({ index, start, size, type }: ReturnType<typeof tableOf>[number]): string {
  return `/${index}  at ${start}  ${formatBytes(size)}  ${type || 'no type'}`
}

function renderSummary(source: string, scan: DiskScanHandle): string {
  const { size, table: kind, sectorBytes, doubts, volumes } = scan.facts()
  const tables = kind === 'none' ? 'no partition table' : `${kind.toUpperCase()} partition table`
  const lines = [`${source}: ${formatBytes(size)}, ${tables}, sectors of ${sectorBytes} bytes`]
  const mapped = volumes.filter((volume) => volume.raw === null)
  if (mapped.length > 0) lines.push('', table(COLUMNS, mapped.map(columns)))
  const raw = volumes.filter((volume) => volume.raw !== null)
  if (raw.length > 0) lines.push('')
  for (const volume of raw) {
    const { fileSystem, length, raw: why } = volume
    lines.push(oneLine(`${titleOf(volume)}  ${fileSystem}, ${formatBytes(length)}, is read raw: ${why}`))
  }
  const notes = [...doubts, ...volumes.flatMap((volume) => volume.doubts.map((doubt) => `/${volume.index}: ${doubt}`))]
  for (const { index, dirty } of volumes) {
    if (dirty) notes.unshift(`/${index}: dirty, its journal holds changes that the tables do not show yet`)
  }
  return [...lines, ...notes.map((note) => oneLine(`Note: ${note}`))].join('\n')
}

const COLUMNS = [
  'VOLUME',
  'TYPE',
  'LABEL',
  'SIZE',
  'CLUSTER',
  'FILES',
  'RESIDENT',
  'IN THEM',
  'EXTENTS',
  'FRAGMENTED',
  'ALLOCATED',
  'METADATA',
  'FREE',
]

/** A logical volume has a name to be known by. */
function titleOf({ index, within, name }: VolumeFacts): string {
  return within === null ? `/${index}` : `/${index} ${name}`
}

function columns(volume: VolumeFacts): string[] {
  const { fileSystem, label, length, clusterBytes, allocated, contentBytes } = volume
  return [
    titleOf(volume),
    fileSystem,
    label || '-',
    formatBytes(length),
    `${clusterBytes}`,
    `${volume.files}`,
    `${volume.residentFiles}`,
    formatBytes(volume.residentBytes),
    `${volume.extents}`,
    `${volume.fragmentedFiles}`,
    formatBytes(allocated),
    formatBytes(Math.max(0, allocated - contentBytes)),
    formatBytes(length - allocated),
  ]
}

function renderFile({ partition, path, inode, kind, size, resident, extents }: MappedFile): string {
  const name = path === null ? `/${partition} inode ${inode}` : `/${partition}${path}`
  const where = resident ? 'resident' : extents.map(({ disk, length }) => `${disk}+${length}`).join(' ') || 'no extents'
  return `${name}  ${kind ?? 'file'}  ${size} bytes  ${where}`
}

function renderWhereabouts({ offset, partition, holds, files }: Whereabouts): string {
  if (partition === null) return `Byte ${offset} lies outside of all partitions`
  const what = {
    file: files.map(({ path, inode, logical }) => `byte ${logical} of ${path ?? `inode ${inode}`}`).join(', '),
    metadata: "the file system's own tables, or a folder",
    free: 'free space',
    raw: 'a volume that is read raw',
    table: '',
  }
  return oneLine(`Byte ${offset} lies in /${partition}: ${what[holds]}`)
}
