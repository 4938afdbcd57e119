import { computerName, parseAddress } from '../arguments.js'
import { defineCommand } from '../command.js'

export const command = defineCommand({
  usage: 'join <token>',
  describe: 'Make this host a member, with a token from imager invite',
  example: [
    'imager join "$(cat token)" --name pc-7 --domain room-2',
    'then, on a peer: imager peer --store /srv/imager',
  ],
  builder: (yargs) =>
    yargs
      .positional('token', { type: 'string', demandOption: true, describe: 'imager1.… (or - to read it from stdin)' })
      .option('name', { type: 'string', default: computerName(), requiresArg: true, describe: 'Name of this host' })
      .option('domain', { type: 'string', requiresArg: true, describe: 'What fails together (default: the name)' })
      .option('listen', {
        type: 'string',
        requiresArg: true,
        coerce: parseAddress('listen', 'join'),
        describe: 'HOST:PORT a peer will listen on (default: 0.0.0.0:7421)',
      }),
  async run(args, { state, output }) {
    const { joinFleet } = await import('../../fleet/join.js')
    const token = args.token === '-' ? (await import('node:fs')).readFileSync(0, 'utf8') : args.token
    const listen = args.listen ?? null
    const home = await joinFleet({ token, state, name: args.name, domain: args.domain ?? args.name, listen })
    output.report(
      { status: 'done', fleet: home.fleet, host: home.host, name: home.name, role: home.role, state },
      () => `${home.name} is now a member of fleet ${home.fleet}, as ${home.role}.`,
    )
    if (home.role === 'peer') output.note('Lend disk space with `imager peer --store DIR`.')
    if (home.role === 'appliance') output.note('Back up a disk with `imager snapshot /dev/…`.')
  },
})
