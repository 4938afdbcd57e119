import { formatBytes } from '../../base/units.js'
import { parseAddress, parseBytes } from '../arguments.js'
import { defineCommand } from '../command.js'

export const command = defineCommand({
  usage: 'coordinator',
  describe: 'Run the coordinator of a fleet that was founded here (stays in the foreground)',
  example: ['imager coordinator', 'as imager init said'],
  builder: (yargs) =>
    yargs
      .option('listen', {
        type: 'string',
        requiresArg: true,
        coerce: parseAddress('listen', 'coordinator'),
        describe: 'HOST:PORT to listen on (default: as given to init)',
      })
      .option('filter-memory', {
        type: 'string',
        requiresArg: true,
        coerce: parseBytes('filter-memory'),
        describe: 'Memory for knowing new blocks without the disk: 1.5 bytes a block (default: at most 1 GiB)',
      }),
  async run(args, context) {
    const [{ startCoordinator }, { untilAborted }, home] = await Promise.all([
      import('../../daemon/coordinator.js'),
      import('../../daemon/running.js'),
      context.home(),
    ])
    const listen = args.listen ?? home.config.listen ?? '0.0.0.0:7420'
    const daemon = await startCoordinator(home, {
      ...{ listen, report: context.output.warn },
      ...(args['filter-memory'] !== undefined && { filterBytes: args['filter-memory'] }),
    })
    context.output.report({ status: 'ready', address: daemon.address }, () => `Coordinator ready at ${daemon.address}`)
    await untilAborted(context.signal)
    await daemon.close()
    const { total, byCall } = daemon.traffic
    const sizes = `${formatBytes(total.receivedBytes)} received, ${formatBytes(total.sentBytes)} sent`
    context.output.report({ status: 'ended', traffic: byCall }, () => `Answered ${total.calls} calls: ${sizes}`)
  },
})
