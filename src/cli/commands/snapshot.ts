import { Exit } from '../../base/errors.js'
import { formatBytes, formatCount, formatSeconds } from '../../base/units.js'
import { VIEWS } from '../../disk/view.js'
import type { SnapshotReport } from '../../jobs/snapshot/snapshot.js'
import { parseLabel, usage } from '../arguments.js'
import { defineCommand } from '../command.js'
import { limiting, limitPeers } from '../limit.js'
import { progressOf } from '../progress.js'
import { describeLeftOut, describeTorn, describeUnreadable, describeUnsigned } from '../words.js'

const FLAWS_SHOWN = 10
const UNSIGNED_HELP =
  'The coordinator has hosts that are on read it again and sign; `imager status` says when they have.'
const HIGHEST_LEVEL = 19

export const command = defineCommand({
  usage: 'snapshot <source>',
  describe: 'Image a disk, a partition or an image file onto the peers',
  example: ['imager snapshot /dev/sdb', 'a whole disk; the next run stores only what is new'],
  builder: (yargs) =>
    limiting(yargs, 'snapshot')
      .positional('source', { type: 'string', demandOption: true, describe: 'Block device or image file' })
      .option('tolerate', { type: 'number', describe: 'Hosts that may be missing at a restore' })
      .option('scheme', { type: 'string', describe: 'Data and parity shards of each stripe, as 4+2' })
      .conflicts('tolerate', 'scheme')
      .option('full-read', {
        type: 'boolean',
        default: false,
        describe: 'Read also the files that did not change since the last snapshot',
      })
      .option('everything', {
        type: 'boolean',
        default: false,
        describe: 'Store also swap, page and hibernation files, and empty journals',
      })
      .option('level', {
        type: 'string',
        default: 'auto',
        describe: 'How hard zstd compresses, 1 to 19; auto: harder while the network is what the run waits for',
      })
      .option('wait', {
        type: 'boolean',
        default: false,
        describe: 'Where a run of this disk goes on already, begin when it has ended (else: BUSY)',
      })
      .option('label', { type: 'string', default: '', coerce: parseLabel, describe: 'A text to find it by' })
      .option('view', {
        choices: VIEWS,
        default: 'auto' as const,
        describe:
          'How a disk in use is held still: by an LVM snapshot, by freezing its file systems for some seconds, or by waiting until nothing is written; auto takes the first that is possible',
      })
      .option('quiet', {
        type: 'number',
        default: 3,
        describe: 'Seconds without writes to wait for, where it comes to that',
      })
      .option('give-up', { type: 'number', default: 80, describe: 'Seconds to wait for them, over all' }),
  async run(args, context) {
    const [{ takeSnapshot }, { Meter }, { parseScheme }, { home, patient, peers, clock }] = await Promise.all([
      import('../../jobs/snapshot/snapshot.js'),
      import('../../jobs/progress.js'),
      import('../../stripes/scheme.js'),
      context.fleet(),
    ])
    if (args.tolerate !== undefined && !(Number.isInteger(args.tolerate) && args.tolerate >= 1)) {
      throw usage('--tolerate takes a number of hosts, 1 or more', 'snapshot')
    }
    const options = {
      source: args.source,
      label: args.label,
      everything: args.everything,
      fullRead: args['full-read'],
      level: parseLevel(args.level),
      wait: args.wait,
      view: { choice: args.view, quietMs: args.quiet * 1000, giveUpMs: args['give-up'] * 1000 },
      ...(args.tolerate === undefined ? {} : { tolerate: args.tolerate }),
      ...(args.scheme === undefined ? {} : { scheme: parseScheme(args.scheme) }),
    }
    limitPeers({ peers, clock }, args.limit)
    const { output, signal } = context
    const progress = progressOf(output)
    const meter = new Meter('waiting', 0, clock, progress)
    const catalog = patient(signal, (error) => meter.wait(`${error.message}; asking again`))
    const report = await takeSnapshot(options, { home, catalog, peers, clock, report: progress, signal })
    output.report({ status: 'done', ...report }, render)
    if (report.unreadable.bytes > 0 || report.torn.bytes > 0) return Exit.sourceDamaged
    return report.state === 'sealed' || report.state === 'incomplete' ? Exit.belowTarget : Exit.done
  },
})

/** undefined: the run decides. */
function parseLevel(text: string): number | undefined {
  if (text === 'auto') return undefined
  const level = Number(text)
  if (Number.isInteger(level) && level >= 1 && level <= HIGHEST_LEVEL) return level
  throw usage(`--level takes auto or a number from 1 to ${HIGHEST_LEVEL}, not ${text}`, 'snapshot')
}

function unread(bytes: number): string {
  return `${formatBytes(bytes)} were not read: they belong to files that did not change. Every run reads a twentieth of these to be sure.`
}

function render(report: SnapshotReport): string {
  const {
    snapshot,
    sourceBytes,
    allocatedBytes,
    readBytes,
    newBytes,
    storedBytes,
    seconds,
    survives,
    receipted,
    target,
    cosigned,
    notes,
    leftOut,
    unreadable,
    torn,
  } = report
  const rate = formatBytes(allocatedBytes / Math.max(seconds, 0.001))
  const lines = [
    `Snapshot ${snapshot.slice(0, 8)} is stored: ${formatBytes(allocatedBytes)} in use of ${formatBytes(sourceBytes)}, in ${formatSeconds(seconds)} (${rate}/s).`,
    ...(readBytes < allocatedBytes ? [unread(allocatedBytes - readBytes)] : []),
    `New: ${formatBytes(newBytes)}; ${formatBytes(storedBytes)} on the peers, parity included (${report.scheme}).`,
    `It survives the loss of any ${formatCount(survives, 'host')}.`,
  ]
  if (survives < target)
    lines.push(
      `Asked were ${target}: part of it lies on too few hosts. Bring missing ones back or add some, then run it again.`,
    )
  if (survives >= target && receipted < target) lines.push(`${describeUnsigned(report)}.`, UNSIGNED_HELP)
  if (!cosigned)
    lines.push(
      'Too few PCs have signed the list that it is on: a coordinator that is set back would not be told of it. Switch more on; the coordinator has them sign by itself.',
    )
  if (leftOut.length > 0)
    lines.push(`Left out: ${leftOut.map(describeLeftOut).join('; ')}. --everything stores that too.`)
  if (unreadable.bytes > 0) {
    lines.push(`The source is damaged: ${describeUnreadable(unreadable, FLAWS_SHOWN)}.`)
    lines.push('All the rest is stored; a restore fills these bytes with a marked pattern. Replace that disk.')
  }
  if (torn.bytes > 0) {
    lines.push(`Not at rest: ${describeTorn(torn, FLAWS_SHOWN)}.`)
    lines.push('All the rest is as it was at one moment. Stop what writes to these files, and run it again.')
  }
  return [...lines, ...notes.map((note) => `Note: ${note}`)].join('\n')
}
