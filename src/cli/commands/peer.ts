import { parseAddress, parseBytes } from '../arguments.js'
import { defineCommand } from '../command.js'

export const command = defineCommand({
  usage: 'peer',
  describe: "Lend this host's unused disk space (stays in the foreground)",
  example: ['imager peer --store /srv/imager --max-bytes 500G', 'at most 500 GiB, and never the last 5 %'],
  builder: (yargs) =>
    yargs
      .option('store', { type: 'string', demandOption: true, requiresArg: true, describe: 'Folder for sealed shards' })
      .option('listen', {
        type: 'string',
        requiresArg: true,
        coerce: parseAddress('listen', 'peer'),
        describe: 'HOST:PORT to listen on (default: as given to join)',
      })
      .option('max-bytes', {
        type: 'string',
        requiresArg: true,
        coerce: parseBytes('max-bytes'),
        describe: 'Never store more than this',
      })
      .option('keep-free', {
        type: 'string',
        requiresArg: true,
        coerce: parseBytes('keep-free'),
        describe: 'Leave this much of the disk free (default: 5 %, at least 1 GiB)',
      }),
  async run(args, context) {
    const [{ startPeer }, { untilAborted }, home] = await Promise.all([
      import('../../daemon/peer.js'),
      import('../../daemon/running.js'),
      context.home(),
    ])
    const daemon = await startPeer(home, {
      store: args.store,
      report: context.output.warn,
      listen: args.listen ?? home.config.listen ?? '0.0.0.0:7421',
      ...(args['max-bytes'] !== undefined && { maxBytes: args['max-bytes'] }),
      ...(args['keep-free'] !== undefined && { keepFreeBytes: args['keep-free'] }),
    })
    context.output.report({ status: 'ready', address: daemon.address }, () => `Peer ready at ${daemon.address}`)
    await untilAborted(context.signal)
    await daemon.close()
  },
})
