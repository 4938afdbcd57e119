import { usage } from '../arguments.js'
import { defineCommand } from '../command.js'
import { table } from '../output.js'

/** A stripe is at most 32 wide; more peers than twice that show nothing new on one computer. */
const PEERS_MAX = 64

export const command = defineCommand({
  usage: 'up <dir>',
  describe: 'Start a whole fleet on this computer, to try things out',
  example: ['imager lab up /tmp/lab --peers 6', 'then: export IMAGER_STATE=/tmp/lab/appliance'],
  builder: (yargs) =>
    yargs
      .positional('dir', { type: 'string', demandOption: true, describe: 'Folder for everything the lab writes' })
      .option('peers', { type: 'number', default: 3, requiresArg: true, describe: 'How many peers' }),
  async run(args, { output, signal, program }) {
    if (!Number.isInteger(args.peers) || args.peers < 1 || args.peers > PEERS_MAX) {
      throw usage(`--peers takes a number from 1 to ${PEERS_MAX}`, 'lab up')
    }
    const { labUp } = await import('../../daemon/lab.js')
    const report = await labUp({ dir: args.dir, peers: args.peers, program, signal })
    output.report(report, ({ coordinator, peers, appliance, wordsFile }) =>
      [
        'A coordinator and its peers are up:',
        table(
          ['NAME', 'PROCESS', 'ADDRESS'],
          [{ name: 'coordinator', ...coordinator }, ...peers].map(({ name, pid, address }) => [
            name,
            `${pid}`,
            address,
          ]),
        ),
        `Recovery words: ${wordsFile}`,
        `Use them with:  export IMAGER_STATE=${appliance.state}`,
        `End them with:  imager lab down ${args.dir}`,
      ].join('\n'),
    )
  },
})
