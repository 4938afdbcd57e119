import { formatBytes, formatTime } from '../../base/units.js'
import { doubtfulTime } from '../../catalog/order.js'
import type { SnapshotRow } from '../../catalog/types.js'
import { defineCommand } from '../command.js'
import { oneLine, table } from '../output.js'
import { describeDoubt, describeOrdered } from '../words.js'

export const command = defineCommand({
  usage: 'snapshots',
  describe: 'List the snapshots, in the order in which they came',
  example: ['imager snapshots', 'the first column is what restore, mount, show and ls take'],
  builder: (yargs) => yargs,
  async run(_args, context) {
    const [{ findHidden }, { hiding }, { catalog, clock, home }] = await Promise.all([
      import('../../fleet/witnessed.js'),
      import('../../fleet/problems.js'),
      context.fleet(),
    ])
    const hidden = await findHidden(home, () => catalog.snapshots(), context.signal)
    const rows = await catalog.snapshots()
    const snapshots = rows.map((row) => ({ ...row, doubtful: doubtfulTime(row, clock.now()) }))
    context.output.report({ snapshots, hidden }, () =>
      [render(snapshots), ...hiding(hidden).flatMap(({ sentence, remedy }) => [`! ${sentence}`, `  ${remedy}`])].join(
        '\n',
      ),
    )
  },
})

function render(snapshots: readonly (SnapshotRow & { doubtful: boolean })[]): string {
  if (snapshots.length === 0) return 'There are no snapshots yet. Make one with `imager snapshot SOURCE`.'
  const rows = snapshots.map(({ id, time, arrived, doubtful, source, label, summary, survives, state }) => [
    id.slice(0, 8),
    doubtful ? `${formatTime(arrived || time)} ?` : formatTime(time),
    source,
    label || '-',
    formatBytes(summary.allocatedBytes),
    formatBytes(summary.newBytes),
    survives < 0 ? '-' : `${survives} ${survives === 1 ? 'host' : 'hosts'}`,
    state,
  ])
  const doubts = snapshots.filter((row) => row.doubtful).map((row) => `? ${row.id.slice(0, 8)}: ${describeDoubt(row)}`)
  const orders = snapshots.flatMap(({ id, ordered }) =>
    ordered ? [`- ${id.slice(0, 8)}: ${describeOrdered(ordered)}`] : [],
  )
  const listed = table(['ID', 'TIME', 'SOURCE', 'LABEL', 'IN USE', 'NEW', 'SURVIVES', 'STATE'], rows)
  return [listed, ...[...doubts, ...orders].map(oneLine)].join('\n')
}
