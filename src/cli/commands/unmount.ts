import { defineCommand } from '../command.js'

export const command = defineCommand({
  usage: 'unmount <mountpoint>',
  describe: 'Take a mounted snapshot away, also when its process hangs or is dead',
  example: ['imager unmount /mnt/restore', 'who still reads there may finish'],
  builder: (yargs) =>
    yargs.positional('mountpoint', { type: 'string', demandOption: true, describe: 'Where it is mounted' }),
  async run({ mountpoint }, context) {
    const { unmountPath } = await import('../../mount/unmount.js')
    await unmountPath(mountpoint)
    context.output.report({ status: 'unmounted', mountpoint }, () => `Unmounted ${mountpoint}`)
  },
})
