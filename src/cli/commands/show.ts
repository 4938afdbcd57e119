import { formatBytes, formatSeconds, formatTime } from '../../base/units.js'
import { doubtfulTime } from '../../catalog/order.js'
import type { SnapshotRow } from '../../catalog/types.js'
import { namingSnapshot } from '../arguments.js'
import { defineCommand } from '../command.js'
import { findSnapshot } from '../which-snapshot.js'
import {
  describeDoubt,
  describeLeftOut,
  describeOrdered,
  describeTorn,
  describeUnreadable,
  describeUnsigned,
  formatShares,
} from '../words.js'
import { readWords, takingWords } from '../words-input.js'

const TYPES_SHOWN = 8
const FLAWS_SHOWN = 20

interface Shown extends SnapshotRow {
  /** Its appliance's clock was wrong. */
  doubtful: boolean
  /** The bytes that this run put on each host. */
  hosts: { host: string; name: string; bytes: number }[]
}

export const command = defineCommand({
  usage: 'show <snapshot>',
  describe: 'What a snapshot holds, how it was taken, where it lies',
  example: ['imager show latest', 'the newest one'],
  builder: (yargs) => takingWords(namingSnapshot(yargs)),
  async run(args, context) {
    const words = await readWords(args['words-file'], 'show', context)
    const [{ unlocking }, fleet] = await Promise.all([import('../../fleet/unlock.js'), context.fleet()])
    const { catalog, home, clock } = fleet
    const unlock = unlocking(fleet, words, context.signal)
    const { head: _, ...row } = await findSnapshot(args, catalog, context.output)
    // What a snapshot holds is shown to whom it would be given.
    await unlock(row.appliance, row.takenBy?.host)
    const doubtful = doubtfulTime(row, clock.now())
    const { hosts: members } = home.membership()
    const hosts = Object.entries(row.summary.perHost).map(([host, bytes]) => {
      return { host, name: members.find((member) => member.host === host)?.name ?? host.slice(0, 8), bytes }
    })
    context.output.report({ ...row, doubtful, hosts }, render)
  },
})

function render({
  id,
  time,
  arrived,
  doubtful,
  source,
  label,
  applianceName,
  takenBy,
  summary,
  survives,
  receipted,
  target,
  state,
  ordered,
  hosts,
}: Shown): string {
  const { sourceBytes, allocatedBytes, newBytes, storedBytes, files, seconds, k, m } = summary
  const perHost = Object.fromEntries(hosts.map(({ name, bytes }) => [name, bytes]))
  const lines = [
    `Snapshot   ${id}${label && ` "${label}"`}`,
    `Taken      ${formatTime(time)} on ${takenBy?.name ?? applianceName}, in ${formatSeconds(seconds)}`,
    ...(takenBy
      ? [`Taken by   ${takenBy.name} (key ${takenBy.host.slice(0, 16)}...): ${applianceName} took its place`]
      : []),
    ...(doubtful ? [`Doubtful   ${describeDoubt({ applianceName, time, arrived })}`] : []),
    `Source     ${source}, ${formatBytes(sourceBytes)}, ${formatBytes(allocatedBytes)} in use, ${files} files`,
    `View       ${summary.view}`,
    ...summary.volumes.map(({ index, fileSystem, files: count, label: name }, at) => {
      return `${at === 0 ? 'Volumes ' : '        '}   ${[`/${index}`, fileSystem, name, `${count} files`].filter(Boolean).join('  ')}`
    }),
    `New        ${formatBytes(newBytes)}; ${formatBytes(storedBytes)} on the peers, parity included (${k}+${m})`,
    `Per host   ${formatShares(perHost, hosts.length)}`,
    ...summary.leftOut.map((one, at) => `${at === 0 ? 'Left out' : '        '}   ${describeLeftOut(one)}`),
    `Types      ${formatShares(summary.fileTypes, TYPES_SHOWN)}`,
    `Owners     ${formatShares(summary.owners, TYPES_SHOWN)}`,
    ...(summary.torn.bytes > 0 ? [`Torn       ${describeTorn(summary.torn, FLAWS_SHOWN)}`] : []),
    ...(summary.unreadable.bytes > 0 ? [`Damaged    ${describeUnreadable(summary.unreadable, FLAWS_SHOWN)}`] : []),
    survives < 0
      ? `Survives   nothing: it is ${state}, see \`imager check\``
      : `Survives   the loss of any ${survives} ${survives === 1 ? 'host' : 'hosts'} (${state})`,
    ...(ordered ? [`Ordered    ${describeOrdered(ordered)}`] : []),
    ...(survives >= target && receipted < target ? [`Unsigned   ${describeUnsigned({ receipted, target })}`] : []),
  ]
  return [...lines, ...summary.notes.map((note) => `Note       ${note}`)].join('\n')
}
