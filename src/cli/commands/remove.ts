import { formatCount } from '../../base/units.js'
import { readAdminKey, takingAdminKey } from '../admin-key.js'
import { defineCommand } from '../command.js'

export const command = defineCommand({
  usage: 'remove <host>',
  describe: 'Take a host out of the fleet for good; its part of the backups counts as missing',
  example: ['imager remove pc-7', 'for a PC that was thrown away'],
  builder: (yargs) =>
    takingAdminKey(yargs)
      .positional('host', { type: 'string', demandOption: true, describe: 'Name as in imager hosts, or its key' })
      .option('force', {
        type: 'boolean',
        default: false,
        describe: 'Even where snapshots cannot be restored without it',
      }),
  async run(args, context) {
    const { management } = await context.fleet()
    const admin = await readAdminKey(args['admin-key'], context, (enrolls) => enrolls)
    const removed = await management.remove(args.host, args.force, admin)
    context.output.report({ status: 'done', ...removed }, ({ host, snapshotsBelowTarget: below }) => {
      const lines = [`${host} is not a member any more.`]
      if (below > 0) {
        const needs = below === 1 ? 'survives' : 'survive'
        lines.push(`${formatCount(below, 'snapshot')} ${needs} fewer losses than asked; see \`imager status\`.`)
      }
      return lines.join('\n')
    })
  },
})
