import { statSync } from 'node:fs'
import { Exit } from '../../base/errors.js'
import { formatBytes, formatSeconds, formatTime } from '../../base/units.js'
import { fullName } from '../../catalog/choose.js'
import type { RestorePlan, RestoreReport } from '../../jobs/restore/disk.js'
import type { Estimate } from '../../jobs/restore/estimate.js'
import { namingSnapshot, usage } from '../arguments.js'
import { defineCommand } from '../command.js'
import { confirm } from '../confirm.js'
import { limiting, limitPeers } from '../limit.js'
import { progressOf } from '../progress.js'
import { findSnapshot } from '../which-snapshot.js'
import { describeDamaged, describeEstimate, describeTorn, describeUnreadable } from '../words.js'
import { readWords, takingWords } from '../words-input.js'

const FLAWS_SHOWN = 10

export const command = defineCommand({
  usage: 'restore <snapshot>',
  describe: 'Write a snapshot onto a new disk or into a file, or some of its files into a folder',
  example: ['imager restore latest --to /dev/sdc', 'the newest snapshot onto an empty disk'],
  builder: (yargs) =>
    takingWords(limiting(namingSnapshot(yargs), 'restore'))
      .option('to', { type: 'string', demandOption: true, describe: 'Target device or file; with --files a folder' })
      .option('files', {
        type: 'string',
        requiresArg: true,
        describe: 'Only the files and folders listed in this file, a path as /1/etc a line; - is stdin',
      })
      .option('nul', { type: 'boolean', alias: '0', default: false, describe: 'The list is separated by zero bytes' })
      .option('force', { type: 'boolean', default: false, describe: 'Overwrite a target that is not empty' })
      .option('yes', {
        type: 'boolean',
        default: false,
        describe: 'Do not ask before a device is written; without a terminal nobody is asked',
      })
      .option('delta', {
        type: 'boolean',
        default: false,
        describe: 'The target holds an older state: fetch and write only what differs',
      })
      .option('verify', {
        type: 'boolean',
        describe: 'At the end read everything back from the target; of a device, unless --no-verify is said',
      })
      .option('dry-run', {
        type: 'boolean',
        default: false,
        describe: 'Say what would be done, what is to fetch and how long that takes; write nothing',
      }),
  async run(args, context) {
    const { files } = args
    if (files === '-' && args['words-file'] === '-') throw usage('Standard input gives one of both', 'restore')
    const words = await readWords(args['words-file'], 'restore', context)
    const [{ unlocking }, fleet] = await Promise.all([import('../../fleet/unlock.js'), context.fleet()])
    const unlock = unlocking(fleet, words, context.signal)
    limitPeers(fleet, args.limit)
    const snapshot = fullName(await findSnapshot(args, fleet.catalog, context.output))
    if (files !== undefined) {
      const { restoreFiles } = await import('../files.js')
      return await restoreFiles({ ...args, snapshot, files, dryRun: args['dry-run'], unlock }, context)
    }
    const { planRestore, runRestore } = await import('../../jobs/restore/disk.js')
    const { home, catalog, peers, clock } = fleet
    const { signal, output } = context
    const parts = {
      home,
      catalog,
      peers,
      clock,
      unlock,
      report: progressOf(output),
      note: (what: string) => output.note(what),
      signal,
    }
    const { force, delta } = args
    const verify = args.verify ?? isDevice(args.to)
    const options = { snapshot, to: args.to, force, delta, verify }
    const plan = await planRestore(options, parts)
    if (args['dry-run']) {
      const { estimateRestore } = await import('../../jobs/restore/estimate.js')
      const estimate = await estimateRestore(plan, parts)
      output.report({ status: 'planned', ...planned(plan), ...estimate }, () =>
        [renderPlan(plan), renderEstimate(plan, estimate)].join('\n'),
      )
      return Exit.done
    }
    output.note(renderPlan(plan))
    if (plan.target.kind === 'device' && !args.yes && !output.json) await confirm(question(plan), signal)
    const report = await runRestore(plan, parts)
    output.report({ status: 'done', ...report }, renderReport)
    const isWhole = report.unreadable.bytes === 0 && report.torn.bytes === 0 && report.leftOutBytes === 0
    return isWhole ? Exit.done : Exit.sourceDamaged
  },
})

function isDevice(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isBlockDevice() ?? false
}

function question(plan: RestorePlan): string {
  const loss = isCompared(plan) ? 'What differs on it will be overwritten' : 'All that is on it will be lost'
  return `Write to ${plan.target.title}? ${loss}.`
}

function planned({ snapshot, target, missing, stripes }: RestorePlan) {
  const { sizeBytes, source } = snapshot.description
  return { snapshot: snapshot.row.id, source, target, sizeBytes, missing, stripes }
}

function renderPlan({ snapshot, target, missing, standing }: RestorePlan): string {
  const { row, description } = snapshot
  const size = target.kind === 'device' ? ` (${formatBytes(target.sizeBytes)})` : ` (${target.kind})`
  const lines = [
    `Snapshot ${row.id.slice(0, 8)} of ${description.source}, ${formatTime(row.time)}, ${formatBytes(description.sizeBytes)}`,
    `goes to ${target.title}${size}.`,
  ]
  if (standing === 'known')
    lines.push('A restore of it onto that target was cut short; it goes on, and compares what is there.')
  if (standing === 'doubtful')
    lines.push('A restore of it was cut short; whether that is the same target, its content will tell.')
  if (missing.length > 0) lines.push(`Missing and not needed: ${missing.join(', ')}.`)
  return lines.join('\n')
}

function renderEstimate(plan: RestorePlan, estimate: Estimate): string {
  const most = isCompared(plan) ? ' at most; what is right on the target already is not fetched' : ''
  return `To fetch: ${formatBytes(estimate.fetchBytes)}${most}. ${describeEstimate(estimate)}`
}

function isCompared({ delta, standing }: RestorePlan): boolean {
  return delta || standing === 'known' || standing === 'doubtful'
}

function renderReport(report: RestoreReport): string {
  const { target, writtenBytes, sameBytes, verifiedBytes, sizeBytes, seconds, corrected, damaged, unreadable } = report
  const rate = formatBytes((writtenBytes + sameBytes) / Math.max(seconds, 0.001))
  const lines = [
    `Restored ${formatBytes(sizeBytes)} to ${target}: ${formatBytes(writtenBytes)} written and verified in ${formatSeconds(seconds)} (${rate}/s), the rest is zeros.`,
  ]
  if (sameBytes > 0) lines.push(`${formatBytes(sameBytes)} were there already, compared and left as they are.`)
  if (verifiedBytes > 0) lines.push(`${formatBytes(verifiedBytes)} were read back from the target, and are right.`)
  if (corrected > 0) lines.push(describeDamaged(damaged))
  if (unreadable.bytes > 0) {
    lines.push(`The source was damaged when the snapshot was taken, ${describeUnreadable(unreadable, FLAWS_SHOWN)}.`)
    lines.push('A marked pattern ("imager: byte N of the source could not be read") stands there now.')
  }
  if (report.leftOutBytes > 0) {
    lines.push(`${formatBytes(report.leftOutBytes)} were left out of the snapshot on purpose.`)
    lines.push('A marked pattern ("imager: byte N of the source was left out of the snapshot") stands there now.')
  }
  if (report.torn.bytes > 0) {
    lines.push(`The source was in use when the snapshot was taken; ${describeTorn(report.torn, FLAWS_SHOWN)}.`)
  }
  return lines.join('\n')
}
