import { defineCommand } from '../command.js'
import { table } from '../output.js'

export const command = defineCommand({
  usage: 'list',
  describe: 'List the admins: persons who say what is forgotten, held and kept, and who belongs to the fleet',
  example: ['imager admin list', 'with the beginning of the key of each'],
  builder: (yargs) => yargs,
  async run(_args, context) {
    const membership = await (await context.fleet()).membership()
    const admins = membership.admins.map(({ name, key }) => ({ name, key }))
    context.output.report({ term: membership.term, admins }, () => {
      const rows = admins.map(({ name, key }) => [name, key.slice(0, 16)])
      if (rows.length === 0) return 'Nobody is an admin. `imager admin add NAME --words-file FILE` makes one.'
      return table(['ADMIN', 'KEY'], rows)
    })
  },
})
