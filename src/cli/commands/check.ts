import { Exit } from '../../base/errors.js'
import { formatBytes, formatCount } from '../../base/units.js'
import type { CheckReport, Damage } from '../../jobs/check.js'
import { defineCommand } from '../command.js'
import { progressOf } from '../progress.js'

export const command = defineCommand({
  usage: 'check',
  describe: 'Compare what the peers hold with what the snapshots need; what is found is remembered',
  example: ['imager check --read-data', 'read and verify every shard, too'],
  builder: (yargs) =>
    yargs.option('read-data', { type: 'boolean', default: false, describe: 'Read and verify every shard' }),
  async run(args, context) {
    const [{ runCheck }, { home, catalog, peers, clock }] = await Promise.all([
      import('../../jobs/check.js'),
      context.fleet(),
    ])
    const { output, signal } = context
    const onDamage = (damage: Damage) => output.report({ status: 'damage', ...damage }, renderDamage)
    const parts = { home, catalog, peers, clock, report: progressOf(output), onDamage, signal }
    const report = await runCheck(args['read-data'], parts)
    output.report({ status: 'done', ...report }, render)
    if (!report.snapshots.every((snapshot) => snapshot.restorable)) return Exit.notRestorable
    if (report.damaged > 0) return Exit.damaged
    return report.unreachable.length > 0 ? Exit.notSafe : Exit.done
  },
})

function renderDamage({ host, shard, stripe, what }: Damage): string {
  return `${host}: shard ${shard} of stripe ${stripe} is ${what}`
}

function render({ stripes, shards, readBytes, damaged, unreachable, snapshots }: CheckReport): string {
  const read = readBytes > 0 ? `, ${formatBytes(readBytes)} read and verified` : ''
  const lines = [
    `${formatCount(snapshots.length, 'snapshot')}, ${formatCount(stripes, 'stripe')}, ${formatCount(shards, 'shard')}${read}.`,
  ]
  if (unreachable.length > 0) lines.push(`Not reached: ${unreachable.join(', ')}.`)
  for (const { snapshot, restorable, suffice } of snapshots) {
    if (restorable) continue
    const bring = suffice.length > 0 ? ` now; bring back ${suffice.join(' and ')}` : ' any more'
    lines.push(`Snapshot ${snapshot.slice(0, 8)} cannot be restored${bring}.`)
  }
  return [...lines, verdict(damaged, unreachable.length, snapshots)].join('\n')
}

function verdict(damaged: number, unreachable: number, snapshots: CheckReport['snapshots']): string {
  const bad = snapshots.filter((snapshot) => !snapshot.restorable).length
  if (bad > 0 && snapshots.at(-1)?.restorable) {
    return `${bad} of ${formatCount(snapshots.length, 'snapshot')} cannot be restored; \`imager status\` says how the newest of each disk stand.`
  }
  if (bad > 0) return `NOT SAFE: ${bad} of ${formatCount(snapshots.length, 'snapshot')} cannot be restored.`
  if (damaged > 0) {
    const what = `${formatCount(damaged, 'shard')} damaged`
    return `Every snapshot can be restored; ${what}. \`imager snapshot\` stores again what survives too little.`
  }
  if (unreachable > 0)
    return `Every snapshot can be restored with the hosts that answer; the others were not looked at.`
  return 'Everything is there.'
}
