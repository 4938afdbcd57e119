import { formatCount, formatSeconds } from '../../base/units.js'
import type { Policy, VolumePolicy } from '../../catalog/types.js'
import { defineCommand } from '../command.js'
import { table } from '../output.js'

export const command = defineCommand({
  usage: 'show',
  describe: 'Show how many hosts may be missing, and how old the newest snapshot of each disk may be',
  example: ['imager policy show', 'what `imager policy set` changes'],
  builder: (yargs) => yargs,
  async run(_args, context) {
    const { catalog } = await context.fleet()
    context.output.report(await catalog.policies(), render)
  },
})

function render({ fleet, volumes }: { fleet: Policy; volumes: VolumePolicy[] }): string {
  const rows = volumes.map(({ applianceName, source, tolerate, target, maxAgeMs, retired }) => [
    applianceName,
    source,
    tolerate === null ? `${formatCount(target, 'host')} (auto)` : formatCount(tolerate, 'host'),
    retired ? 'retired' : age(maxAgeMs),
  ])
  const whole = fleet.tolerate === null ? 'auto' : formatCount(fleet.tolerate, 'host')
  rows.push(['every other', '', whole, age(fleet.maxAgeMs)])
  return table(['HOST', 'SOURCE', 'MAY BE MISSING', 'ALARM AT AGE'], rows)
}

function age(maxAgeMs: number | null): string {
  if (maxAgeMs === null) return 'auto'
  return maxAgeMs === 0 ? 'never' : formatSeconds(maxAgeMs / 1000)
}
