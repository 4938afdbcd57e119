import { parseAddress } from '../arguments.js'
import { defineCommand } from '../command.js'

export const command = defineCommand({
  usage: 'coordinator',
  describe: 'Run the coordinator of a fleet that was founded here (stays in the foreground)',
  example: ['imager coordinator', 'as imager init said'],
  builder: (yargs) =>
    yargs.option('listen', {
      type: 'string',
      requiresArg: true,
      coerce: parseAddress('listen', 'coordinator'),
      describe: 'HOST:PORT to listen on (default: as given to init)',
    }),
  async run(args, context) {
    const [{ startCoordinator }, { untilAborted }, home] = await Promise.all([
      import('../../daemon/coordinator.js'),
      import('../../daemon/running.js'),
      context.home(),
    ])
    const listen = args.listen ?? home.config.listen ?? '0.0.0.0:7420'
    const daemon = await startCoordinator(home, { listen, report: context.output.warn })
    context.output.report({ status: 'ready', address: daemon.address }, () => `Coordinator ready at ${daemon.address}`)
    await untilAborted(context.signal)
    await daemon.close()
  },
})
