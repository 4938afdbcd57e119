import { defineCommand } from '../command.js'

export const command = defineCommand({
  usage: 'move <host>',
  describe: 'Move the coordinator to another machine, without the 24 words; on the coordinator, or on the enroller',
  example: ['imager coordinator move new-server', 'once imager coordinator runs there and stands by'],
  builder: (yargs) =>
    yargs.positional('host', {
      type: 'string',
      demandOption: true,
      describe: 'Who becomes the coordinator: a host that joined as admin; its name as in imager hosts, or its key',
    }),
  async run(args, context) {
    const { management } = await context.fleet()
    const waiting = (stage: string) =>
      context.output.note(`The catalog is ${stage === 'copying' ? 'being copied' : stage} ...`)
    const { name } = await management.moveCoordinator(args.host, waiting, context.signal)
    context.output.report({ status: 'done', coordinator: name }, () =>
      [
        `${name} is the coordinator. PCs and servers follow by themselves, those that are off once they are back.`,
        'Here `imager coordinator` still tells who asks where it is; end it when all have been there, and delete its folder.',
      ].join('\n'),
    )
  },
})
