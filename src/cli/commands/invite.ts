import { formatTime } from '../../base/units.js'
import type { JoinRole } from '../../keys/token.js'
import { readAdminKey, takingAdminKey } from '../admin-key.js'
import { defineCommand } from '../command.js'

const ROLES: readonly JoinRole[] = ['peer', 'appliance', 'admin']

export const command = defineCommand({
  usage: 'invite',
  describe: 'Make a token with which one host may join, once, within an hour',
  example: ['imager invite --role appliance', 'then, on the server: imager join, and paste the token'],
  builder: (yargs) =>
    takingAdminKey(yargs).option('role', {
      choices: ROLES,
      default: 'peer' as JoinRole,
      requiresArg: true,
      describe: 'peer: lends disk. appliance: is backed up. admin: a machine that sees all',
    }),
  async run(args, context) {
    const fleet = await context.fleet()
    const admin = await readAdminKey(args['admin-key'], context, (enrolls) => enrolls)
    const { token, expires } = await fleet.invite(args.role, admin)
    context.output.report({ status: 'done', token, role: args.role, expires }, () => token)
    context.output.note(
      `For one ${args.role}, once, until ${formatTime(expires)}. There run \`imager join\`, and paste it.`,
    )
  },
})
