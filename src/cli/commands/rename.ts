import { usage } from '../arguments.js'
import { defineCommand } from '../command.js'

export const command = defineCommand({
  usage: 'rename <host> <name>',
  describe: 'Call a host by another name',
  example: ['imager rename debian-2 reception', 'names are unique in a fleet'],
  builder: (yargs) =>
    yargs
      .positional('host', { type: 'string', demandOption: true, describe: 'Name as in imager hosts, or its key' })
      .positional('name', { type: 'string', demandOption: true, describe: 'What it shall be called' }),
  async run(args, context) {
    const [{ is }, { Name }] = await Promise.all([import('valibot'), import('../../keys/fields.js')])
    if (!is(Name, args.name)) throw usage('A name has 1 to 64 characters, none of which moves a cursor', 'rename')
    const { management } = await context.fleet()
    const renamed = await management.rename(args.host, args.name)
    context.output.report({ status: 'done', ...renamed }, ({ host, name }) => `${host} is called ${name} now.`)
  },
})
