import { usage } from '../arguments.js'
import { defineCommand } from '../command.js'
import { readWords } from '../words-input.js'

export const command = defineCommand({
  usage: 'move <duty> <hosts..>',
  describe: 'Give a duty to other hosts, with the 24 words; from then on only they let hosts in and remove them',
  example: ['imager duties move enroller admin-pc --words-file words.txt', 'up to three hosts'],
  builder: (yargs) =>
    yargs
      .positional('duty', { choices: ['enroller'] as const, demandOption: true, describe: 'The duty' })
      .positional('hosts', {
        type: 'string',
        array: true,
        demandOption: true,
        describe: 'Who holds it from now on: names as in imager hosts, or keys',
      })
      .option('words-file', {
        type: 'string',
        demandOption: true,
        requiresArg: true,
        describe: 'File with the 24 words; - asks for them',
      }),
  async run(args, context) {
    if (args.hosts.length === 0) throw usage('Say which host', 'duties move')
    const { management } = await context.fleet()
    const words = (await readWords(args['words-file'], 'duties move', context)) ?? ''
    const membership = await management.moveEnroller(args.hosts, words)
    const { listDuties } = await import('../../keys/duties.js')
    const { term, duties, oneMachine } = listDuties(membership)
    const enrollers = duties.filter(({ duty }) => duty === 'enroller').map(({ name }) => name)
    context.output.report({ status: 'done', term, duties, oneMachine }, () =>
      [
        `Term ${term}: ${enrollers.join(', ')} ${enrollers.length === 1 ? 'lets' : 'let'} hosts in, and nobody else.`,
        'There type `imager invite` and `imager remove` from now on.',
      ].join('\n'),
    )
  },
})
