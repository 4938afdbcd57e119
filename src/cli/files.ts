/** `restore --files`: the command's other half, loaded only when it is asked for. */
import { ImagerError } from '../base/errors.js'
import { formatBytes, formatCount, formatSeconds } from '../base/units.js'
import { fullName } from '../catalog/choose.js'
import { type FilesReport, planRestoreFiles, runRestoreFiles } from '../jobs/restore/files.js'
import type { Unlock } from '../keys/vault.js'
import type { Context } from './context.js'
import { oneLine } from './output.js'
import { progressOf } from './progress.js'
import { describeDamaged, describeEstimate } from './words.js'

const SHOWN = 20

export interface FilesArguments {
  readonly snapshot: string
  readonly files: string
  readonly nul: boolean
  readonly to: string
  readonly force: boolean
  readonly dryRun: boolean
  readonly unlock: Unlock
}

/** Gives the exit code. */
export async function restoreFiles(args: FilesArguments, context: Context): Promise<number> {
  const { home, catalog, peers, clock } = await context.fleet()
  const { output, signal } = context
  const parts = { home, catalog, peers, clock, unlock: args.unlock, report: progressOf(output), signal }
  const plan = await planRestoreFiles(args, parts)
  if (args.dryRun) {
    const { findRate } = await import('../jobs/restore/estimate.js')
    const { files, bytes, missing, failed, opened } = plan
    const rate = await findRate(fullName(opened.row), opened.packs, parts)
    const estimate = { seconds: bytes / rate.bytesPerSecond, ...rate }
    const planned = { snapshot: opened.row.id, target: args.to, files, bytes, missing, failed }
    const what = `Would restore ${formatCount(files, 'file')}, ${formatBytes(bytes)}, to ${args.to}.`
    output.report({ status: 'planned', ...planned, ...estimate }, () =>
      [`${what} ${describeEstimate(estimate)}`, ...lacks(planned)].join('\n'),
    )
    return 0
  }
  if (plan.resumed) output.note('A restore of these files into that folder was cut short; it goes on.')
  const { exit, ...report } = await runRestoreFiles(plan, args, parts)
  output.report({ status: 'done', ...report }, render)
  return exit
}

function render(report: Omit<FilesReport, 'exit'>): string {
  const { files, bytes, seconds, corrected, notes, target } = report
  const lines = [
    `Restored ${formatCount(files, 'file')} to ${target}: ${formatBytes(bytes)} in ${formatSeconds(seconds)}.`,
  ]
  if (corrected > 0) lines.push(describeDamaged(report.damaged))
  const damaged = report.unreadable.map(({ path, bytes: lost }) => {
    return oneLine(`Damaged: ${path}: a marked pattern stands for ${lost} bytes that its disk did not give any more`)
  })
  const shown = [...damaged.slice(0, SHOWN), ...(damaged.length > SHOWN ? [`and ${damaged.length - SHOWN} more`] : [])]
  return [...lines, ...notes.map((note) => oneLine(`Note: ${note}`)), ...shown, ...lacks(report)].join('\n')
}

function lacks({ missing, failed, snapshot }: Pick<FilesReport, 'missing' | 'failed' | 'snapshot'>): string[] {
  const lines = [
    ...missing.map((path) => `Not in the snapshot: ${path}`),
    ...failed.map(({ path, why }) => `Not restored: ${path}: ${why}`),
  ]
  const more = lines.length - SHOWN
  const shown = lines.slice(0, SHOWN).map(oneLine)
  if (more > 0) shown.push(`and ${more} more; --json lists all`)
  const { remedy } = new ImagerError('NO_SUCH_FILE', { path: missing[0] ?? '', snapshot: snapshot.slice(0, 8) })
  return missing.length > 0 ? [...shown, remedy] : shown
}
