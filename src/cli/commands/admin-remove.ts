import { readAdminKey, takingAdminKey } from '../admin-key.js'
import { usage } from '../arguments.js'
import { defineCommand } from '../command.js'
import { readWords } from '../words-input.js'

const VERB = 'admin remove'

export const command = defineCommand({
  usage: 'remove <admin>',
  describe: 'End an admin for good, by another admin or with the 24 words: what that key signed counts no more',
  example: ['imager admin remove Anna --words-file words.txt', 'a key that was lost or stolen'],
  builder: (yargs) =>
    takingAdminKey(
      yargs
        .positional('admin', {
          type: 'string',
          demandOption: true,
          describe: 'Name as in imager admin list, or the beginning of the key',
        })
        .option('words-file', {
          type: 'string',
          requiresArg: true,
          describe: 'File with the 24 words; - asks for them',
        }),
    ),
  async run(args, context) {
    const { management } = await context.fleet()
    const words = await readWords(args['words-file'], VERB, context)
    const admin = words === undefined ? await readAdminKey(args['admin-key'], context, () => false) : undefined
    const by = words ?? admin
    if (by === undefined) throw usage('Name --words-file, or --admin-key of another admin', VERB)
    const { name, key, letIn } = await management.removeAdmin(args.admin, by)
    context.output.report({ status: 'done', name, key, letIn }, () => {
      const hosts =
        letIn.length > 0
          ? [`${name} had let in: ${letIn.join(', ')}. Look at them: they stay until you \`imager remove\` them.`]
          : []
      return [
        `${name} is no admin any more; what that key signed counts no more. Say again what is to hold.`,
        ...hosts,
      ].join('\n')
    })
  },
})
