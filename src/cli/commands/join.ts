import { computerName, parseAddress } from '../arguments.js'
import { defineCommand } from '../command.js'

export const command = defineCommand({
  usage: 'join [token]',
  describe: 'Make this host a member, with a token from imager invite; without one it asks for it',
  example: ['imager join --name pc-7 --domain room-2', 'then, on a peer: imager peer --store /srv/imager'],
  builder: (yargs) =>
    yargs
      .positional('token', {
        type: 'string',
        describe:
          '- reads it from standard input. Given here itself, other users of this host can read it while this runs',
      })
      .option('token-file', { type: 'string', requiresArg: true, describe: 'Read it from this file' })
      .option('name', { type: 'string', default: computerName(), requiresArg: true, describe: 'Name of this host' })
      .option('domain', {
        type: 'string',
        requiresArg: true,
        describe: 'What fails together (default: this host alone)',
      })
      .option('listen', {
        type: 'string',
        requiresArg: true,
        coerce: parseAddress('listen', 'join'),
        describe: 'HOST:PORT a peer will listen on (default: 0.0.0.0:7421)',
      }),
  async run(args, { state, output, signal }) {
    const [{ joinFleet }, { readToken }] = await Promise.all([
      import('../../fleet/join.js'),
      import('../token-input.js'),
    ])
    const token = await readToken({ token: args.token, file: args['token-file'] }, signal)
    const listen = args.listen ?? null
    const home = await joinFleet({ token, state, name: args.name, domain: args.domain, listen })
    output.report(
      { status: 'done', fleet: home.fleet, host: home.host, name: home.name, asked: args.name, role: home.role, state },
      () => `${home.name} is now a member of fleet ${home.fleet}, as ${home.role}.`,
    )
    if (home.name !== args.name) {
      output.note(
        `There is a host ${args.name} already. For another name, on the coordinator: imager rename ${home.name} NAME`,
      )
    }
    if (home.role === 'peer') output.note(`Lend disk space with ${output.typed('peer --store DIR')}.`)
    if (home.role === 'appliance') output.note(`Back up a disk with ${output.typed('snapshot /dev/…')}.`)
  },
})
