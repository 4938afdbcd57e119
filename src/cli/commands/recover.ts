import { Exit } from '../../base/errors.js'
import { formatBytes, formatSeconds, formatTime } from '../../base/units.js'
import { advertised } from '../../fleet/address.js'
import type { RecoverReport } from '../../jobs/recover/recover.js'
import { asCoordinator, parseAddress, usage } from '../arguments.js'
import { defineCommand } from '../command.js'
import { progressOf } from '../progress.js'
import { readWords } from '../words-input.js'

/** Where a peer listens unless told otherwise. */
const PEER_PORT = 7421

export const command = defineCommand({
  usage: 'recover',
  describe: 'Rebuild a lost coordinator here, from the 24 words and any peer that lives',
  example: ['imager recover --words-file words.txt --peer 192.168.1.20', 'then: imager restore latest --to /dev/sdX'],
  builder: (yargs) =>
    asCoordinator(
      yargs
        .option('words-file', {
          type: 'string',
          demandOption: true,
          requiresArg: true,
          describe: 'File with the 24 words; - asks for them',
        })
        .option('peer', {
          type: 'string',
          demandOption: true,
          requiresArg: true,
          coerce: parseAddress('peer', 'recover', PEER_PORT),
          describe: 'HOST or HOST:PORT of any peer of the fleet (default port: 7421)',
        }),
      'recover',
      'the new coordinator',
    ),
  async run(args, { state, output, signal }) {
    const [{ planRecover, runRecover }, { systemClock }] = await Promise.all([
      import('../../jobs/recover/recover.js'),
      import('../../base/clock.js'),
    ])
    const { name } = args
    const words = (await readWords(args['words-file'], 'recover', { output, signal })) ?? ''
    const listen = args.listen as string
    const address = args.address ?? advertised(listen)
    if (address.endsWith(':0'))
      throw usage('Peers will look for the coordinator there: --listen needs a port', 'recover')
    const options = {
      ...{ state, words, peer: args.peer as string },
      ...{ name, domain: args.domain, listen, address },
    }
    const parts = { clock: systemClock, report: progressOf(output), signal }
    const plan = await planRecover(options, parts)
    try {
      const report = await runRecover(plan, options, parts)
      output.report({ status: 'done', ...report, state }, (done) => render(done, state))
      return report.suffice === '' && report.unreadable.length === 0 ? Exit.done : Exit.notRestorable
    } finally {
      plan.close()
    }
  },
})

function render(report: RecoverReport, state: string): string {
  const { fleet, term, peers, shards, stripes, snapshots, unreadable, rivals, suffice, seconds } = report
  const restorable = snapshots.filter((one) => one.state !== 'incomplete').length
  const odd = [
    ...(shards.damaged > 0 ? [`${shards.damaged} damaged`] : []),
    ...(shards.foreign > 0 ? [`${shards.foreign} of nobody known`] : []),
  ]
  const lines = [
    `Fleet ${fleet} is recovered in ${formatSeconds(seconds)}; this host is its coordinator (term ${term}).`,
    `Peers: ${peers.reached.length} answered${peers.missing.length > 0 ? `, ${peers.missing.length} did not:` : '.'}`,
    ...peers.missing.map(({ name, why }) => `  ${name}: ${why}`),
    ...peers.returned.map(
      (name) => `  ${name} had been removed, and belongs to the fleet again. If that is wrong: imager remove ${name}`,
    ),
    `${shards.shards} shards were found${odd.length > 0 ? ` (and ${odd.join(', ')})` : ''}; ${stripes.readable} stripes are whole enough to read, ${stripes.lacking + stripes.unreadable} are not.`,
    `${restorable} of ${snapshots.length + unreadable.length} snapshots can be restored now:`,
    ...snapshots.map(
      ({ id, applianceName, source, time, state, survives, summary }) =>
        `  ${id.slice(0, 8)}  ${formatTime(time)}  ${applianceName} ${source}, ${formatBytes(summary.allocatedBytes)}: ${
          state === 'incomplete'
            ? 'NOT NOW, parts of it are on hosts that are missing'
            : `survives the loss of ${survives} more`
        }`,
    ),
    ...unreadable.map(
      ({ snapshot, appliance, time, why, code }) =>
        `  ${snapshot.slice(0, 8)}  ${time === null ? 'time unknown' : formatTime(time)}  ${appliance}: ${code === 'FORGED' ? 'NOT RESTORABLE' : 'NOT NOW'}, ${why}`,
    ),
  ]
  for (const { snapshot, appliance, time, why } of rivals)
    lines.push(
      `Not taken: a head of ${snapshot.slice(0, 8)}, ${time === null ? 'time unknown' : formatTime(time)}, signed by ${appliance}: ${why}.`,
    )
  if (restorable > 0) lines.push(`Not proved: ${report.notProved.join('; ')}.`)
  if (report.keysOpenUntil !== null) {
    const until = formatTime(report.keysOpenUntil)
    lines.push(`Until ${until} this host opens these snapshots without the words; \`imager lock\` ends that.`)
  }
  if (report.setAside) lines.push(`The files that were here before are in ${report.setAside}.`)
  if (suffice !== '') lines.push(`For the others bring back ${suffice}, and run recover again with another --state.`)
  return [
    ...lines,
    'Next:',
    ...(restorable > 0 ? [`  imager restore latest --to /dev/sdX --state ${state}`] : []),
    `  imager coordinator --state ${state}`,
  ].join('\n')
}
