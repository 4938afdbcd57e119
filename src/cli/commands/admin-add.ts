import { resolve } from 'node:path'
import { usualAdminKey } from '../admin-key.js'
import { usage } from '../arguments.js'
import { defineCommand } from '../command.js'
import { readWords } from '../words-input.js'

const VERB = 'admin add'

export const command = defineCommand({
  usage: 'add <name>',
  describe:
    'Make a person an admin, with the 24 words: the key is a file of that person, and works on any machine of the fleet',
  example: ['imager admin add Anna --words-file words.txt', 'writes the key into a file, unless it lies there already'],
  builder: (yargs) =>
    yargs
      .positional('name', { type: 'string', demandOption: true, describe: 'How the person is called' })
      .option('words-file', {
        type: 'string',
        demandOption: true,
        requiresArg: true,
        describe: 'File with the 24 words; - asks for them',
      })
      .option('admin-key', {
        type: 'string',
        requiresArg: true,
        describe: 'File of the key (default ~/.config/imager/admin.key)',
      }),
  async run(args, context) {
    const [{ is }, { Name }] = await Promise.all([import('valibot'), import('../../keys/fields.js')])
    if (!is(Name, args.name)) throw usage('A name has 1 to 64 letters, and no control characters', VERB)
    const file = resolve(args['admin-key'] ?? usualAdminKey())
    const { management } = await context.fleet()
    const words = (await readWords(args['words-file'], VERB, context)) ?? ''
    const { name, key } = await management.addAdmin(args.name, words, file)
    context.output.report({ status: 'done', name, key, file }, () =>
      [
        `${name} is an admin. The key is in ${file}: it belongs to that person, not to this machine.`,
        'On any machine of the fleet, --admin-key with that file lets hosts in and removes them.',
      ].join('\n'),
    )
  },
})
