import { CLOCK_SKEW_NOTE_MS } from '../../base/limits.js'
import { formatBytes, formatSeconds } from '../../base/units.js'
import type { HostRow } from '../../catalog/types.js'
import { describeSkew } from '../../coordinator/clock-skew.js'
import type { Members } from '../../fleet/members.js'
import { isKeptFree } from '../../keys/fields.js'
import { defineCommand } from '../command.js'
import { table } from '../output.js'
import { describePlace } from '../words.js'

export const command = defineCommand({
  usage: 'hosts',
  describe: 'List the hosts of the fleet: who is there, and how much space they lend',
  example: ['imager hosts --json', 'one object with all hosts'],
  builder: (yargs) => yargs,
  async run(_args, context) {
    const [{ readMembers }, { strangers }, fleet] = await Promise.all([
      import('../../fleet/members.js'),
      import('../../fleet/problems.js'),
      context.fleet(),
    ])
    const members = await readMembers(fleet)
    context.output.report({ ...members }, () =>
      [
        render(members, Date.now()),
        ...members.hosts.flatMap(remarks),
        ...strangers(members).flatMap(({ sentence, remedy }) => [`! ${sentence}`, `  ${remedy}`]),
      ].join('\n'),
    )
  },
})

function render({ hosts, unlisted, unsigned }: Members, now: number): string {
  const isUnsigned = new Set(unsigned.map(({ host }) => host))
  const rows = hosts.map((host) => {
    const lends = host.storage !== ''
    return [
      host.name,
      host.role,
      host.domain === host.host ? '-' : host.domain,
      isUnsigned.has(host.host) ? 'NOT SIGNED IN' : presence(host, now),
      lends ? formatBytes(host.freeBytes) : '-',
      lends ? formatBytes(host.usedBytes) : '-',
      host.role === 'peer' ? `${Math.round(host.uptime * 100)} %` : '-',
      host.addresses[0] ?? '-',
    ]
  })
  for (const { name, role } of unlisted) rows.push([name, role, '-', 'NOT LISTED', '-', '-', '-', '-'])
  return table(['NAME', 'ROLE', 'DOMAIN', 'STATE', 'FREE', 'USED', 'UPTIME', 'ADDRESS'], rows)
}

/** An appliance or an admin comes and goes; only daemons are missed. */
function presence({ role, state, lastSeen }: HostRow, now: number): string {
  const ago = formatSeconds(Math.max(0, now - lastSeen) / 1000)
  if (state === 'never-seen') return 'never seen'
  if (state === 'away') return role === 'peer' || role === 'coordinator' ? `away ${ago}` : `seen ${ago} ago`
  return state
}

function remarks({ name, role, suspect, clockSkewMs, tookPlaceOf = [] }: HostRow): string[] {
  const off = clockSkewMs !== null && Math.abs(clockSkewMs) >= CLOCK_SKEW_NOTE_MS
  return [
    ...tookPlaceOf.map((one) => `  ${describePlace(name, one)}`),
    ...(isKeptFree(role)
      ? [`! ${name}: the role ${role} is of a later version of imager; here it may do nothing`]
      : []),
    ...(suspect === '' ? [] : [`! ${name}: ${suspect}`]),
    ...(off ? [`! ${describeSkew(name, clockSkewMs)}`] : []),
  ]
}
