import { defineCommand } from '../command.js'

export const command = defineCommand({
  usage: 'down <dir>',
  describe: 'End the processes of a lab, and only those; its folders stay',
  example: ['imager lab down /tmp/lab', 'works too when some were killed or folders deleted'],
  builder: (yargs) =>
    yargs.positional('dir', { type: 'string', demandOption: true, describe: 'The folder given to lab up' }),
  async run(args, { output }) {
    const { labDown } = await import('../../daemon/lab.js')
    const report = await labDown(args.dir)
    output.report({ status: 'done', ...report }, ({ ended }) => `Ended ${ended} processes.`)
  },
})
