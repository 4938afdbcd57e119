import { formatBytes } from '../../base/units.js'
import type { Home } from '../../keys/home.js'
import { parseAddress, parseBytes } from '../arguments.js'
import { defineCommand } from '../command.js'
import type { Context } from '../context.js'

export const command = defineCommand({
  usage: 'coordinator',
  describe:
    'Run the coordinator of a fleet that was founded here (stays in the foreground); on a machine that joined as admin: stand by to become it',
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
    const given = args.listen ?? home.config.listen ?? '0.0.0.0:7420'
    const own = home.role === 'coordinator' ? home : await waitForPlace(home, given, context)
    if (!own) return
    // Where it stood by, also where that was a free port.
    const listen = own === home ? given : (own.config.listen ?? given)
    const daemon = await startCoordinator(own, {
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

/** Until the coordinator moves here; undefined where it was ended before. */
async function waitForPlace(home: Home, listen: string, { signal, output }: Context): Promise<Home | undefined> {
  const [{ standBy }, { systemClock }] = await Promise.all([
    import('../../daemon/standing-by.js'),
    import('../../base/clock.js'),
  ])
  const ready = (address: string) => {
    output.report({ status: 'standing by', address }, () =>
      [
        `Standing by at ${address}: the coordinator is still ${home.coordinator.address}.`,
        `There type \`imager coordinator move ${home.name}\`.`,
      ].join('\n'),
    )
  }
  return standBy(home, { listen, clock: systemClock, report: output.warn, signal, ready })
}
