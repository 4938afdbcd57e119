import { Exit } from '../../base/errors.js'
import { formatBytes, formatCount, formatSeconds, formatTime } from '../../base/units.js'
import type { PeerStatusReport } from '../../fleet/peer-status.js'
import type { StatusReport } from '../../fleet/status.js'
import { defineCommand } from '../command.js'

export const command = defineCommand({
  usage: 'status',
  describe: 'Say in a few lines whether the backups are safe (exit code 8 if not)',
  example: ['imager status || echo "look at the backups"', 'for a cron job'],
  builder: (yargs) => yargs,
  async run(_args, context) {
    const home = await context.home()
    if (home.role === 'peer') {
      const { readPeerStatus } = await import('../../fleet/peer-status.js')
      const own = await readPeerStatus(home)
      context.output.report(own, renderPeer)
      return own.safe ? Exit.done : Exit.notSafe
    }
    const [{ readStatus }, fleet] = await Promise.all([import('../../fleet/status.js'), context.fleet()])
    const report = await readStatus(fleet)
    context.output.report(report, render)
    return report.safe ? Exit.done : Exit.notSafe
  },
})

function renderPeer({
  fleet,
  name,
  coordinator,
  away,
  usedBytes,
  freeBytes,
  problems,
  safe,
}: PeerStatusReport): string {
  return [
    `${name}, a peer of fleet ${fleet}; coordinator at ${coordinator}`,
    `${away ? 'Away' : 'Here'}: holds ${formatBytes(usedBytes)} for the fleet, ${formatBytes(freeBytes)} more may come`,
    ...problems.flatMap(({ code, sentence, remedy }) => [`! ${sentence}. [${code}]`, `  ${remedy}`]),
    safe ? 'All is well here.' : 'Something is wrong here.',
  ].join('\n')
}

function render(report: StatusReport): string {
  const { peers, volumes, coordinator } = report
  const lines = [
    `Fleet ${report.fleet}, seen from ${report.name} (${report.role}); coordinator at ${coordinator}`,
    `Peers: ${peers.here} of ${peers.total} here, ${formatBytes(peers.freeBytes)} free, ${formatBytes(peers.usedBytes)} used`,
    ...volumes.map(
      ({ applianceName, source, id, ageSeconds, doubtfulTime, state, survives }) =>
        `${applianceName} ${source}: snapshot ${id.slice(0, 8)}, ${age(ageSeconds, doubtfulTime)}, ${state}, survives the loss of ${formatCount(Math.max(0, survives), 'host')}`,
    ),
    ...(report.retired.length > 0 ? [`Retired, not looked at: ${report.retired.join(', ')}`] : []),
    ...(report.keysOpenUntil === null ? [] : [openKeys(report.keysOpenUntil, report.keysOpenFor)]),
    ...report.problems.flatMap(({ code, sentence, remedy }) => [`! ${sentence}. [${code}]`, `  ${remedy}`]),
    ...report.notes.map((note) => `Note: ${note}`),
    report.safe ? 'Safe.' : 'NOT SAFE.',
  ]
  return lines.join('\n')
}

function openKeys(until: number, appliances: readonly string[]): string {
  return `Keys: this host opens the snapshots of ${appliances.join(', ')} without the words until ${formatTime(until)}; \`imager lock\` ends that`
}

function age(seconds: number | null, doubtful: boolean): string {
  if (seconds === null) return 'of unknown age'
  return `${formatSeconds(seconds)} old${doubtful ? ' (its own clock says otherwise)' : ''}`
}
