import { formatBytes } from '../../base/units.js'
import type { SnapshotRow } from '../../catalog/types.js'
import { defineCommand } from '../command.js'
import { table } from '../output.js'
import { formatTime } from '../words.js'

export const command = defineCommand({
  usage: 'snapshots',
  describe: 'List the snapshots, newest last',
  example: ['imager snapshots', 'the first column is what restore, mount, show and ls take'],
  builder: (yargs) => yargs,
  async run(_args, context) {
    const { catalog } = await context.fleet()
    const snapshots = await catalog.snapshots()
    context.output.report({ snapshots }, () => render(snapshots))
  },
})

function render(snapshots: readonly SnapshotRow[]): string {
  if (snapshots.length === 0) return 'There are no snapshots yet. Make one with `imager snapshot SOURCE`.'
  const rows = snapshots.map(({ id, time, source, label, summary, survives, state }) => [
    id.slice(0, 8),
    formatTime(time),
    source,
    label || '-',
    formatBytes(summary.allocatedBytes),
    formatBytes(summary.newBytes),
    survives < 0 ? '-' : `${survives} ${survives === 1 ? 'host' : 'hosts'}`,
    state,
  ])
  return table(['ID', 'TIME (UTC)', 'SOURCE', 'LABEL', 'IN USE', 'NEW', 'SURVIVES', 'STATE'], rows)
}
