import { Exit } from '../../base/errors.js'
import { formatBytes, formatCount } from '../../base/units.js'
import type { CheckReport } from '../../jobs/check.js'
import { defineCommand } from '../command.js'
import { progressOf } from '../progress.js'

export const command = defineCommand({
  usage: 'check',
  describe: 'Compare what the peers hold with what the snapshots need',
  example: ['imager check --read-data', 'read and verify every shard, too'],
  builder: (yargs) =>
    yargs.option('read-data', { type: 'boolean', default: false, describe: 'Read and verify every shard' }),
  async run(args, context) {
    const [{ runCheck }, { home, catalog, peers, clock }] = await Promise.all([
      import('../../jobs/check.js'),
      context.fleet(),
    ])
    const parts = { home, catalog, peers, clock, report: progressOf(context.output), signal: context.signal }
    const report = await runCheck(args['read-data'], parts)
    context.output.report({ status: 'done', ...report }, render)
    if (report.damage.length > 0) return Exit.damaged
    return report.snapshots.every((snapshot) => snapshot.restorable) ? Exit.done : Exit.notRestorable
  },
})

function render({ stripes, shards, readBytes, damage, unreachable, snapshots }: CheckReport): string {
  const read = readBytes > 0 ? `, ${formatBytes(readBytes)} read and verified` : ''
  const lines = [
    `${formatCount(snapshots.length, 'snapshot')}, ${formatCount(stripes, 'stripe')}, ${formatCount(shards, 'shard')}${read}.`,
  ]
  for (const { host, shard, stripe, what } of damage)
    lines.push(`${host}: shard ${shard} of stripe ${stripe} is ${what}`)
  if (unreachable.length > 0) lines.push(`Not reached: ${unreachable.join(', ')}.`)
  for (const { snapshot, restorable, suffice } of snapshots) {
    if (restorable) continue
    const bring = suffice.length > 0 ? `; bring back ${suffice.join(' and ')}` : ' any more'
    lines.push(`Snapshot ${snapshot.slice(0, 8)} cannot be restored now${bring}.`)
  }
  if (damage.length === 0 && unreachable.length === 0) lines.push('Everything is there.')
  return lines.join('\n')
}
