import { resolve } from 'node:path'
import { defineCommand } from '../command.js'

export const command = defineCommand({
  usage: 'unmount <mountpoint>',
  describe: 'Take a mounted snapshot away, also when its process hangs or is dead',
  example: ['imager unmount /mnt/restore', 'who still reads there may finish'],
  builder: (yargs) =>
    yargs.positional('mountpoint', { type: 'string', demandOption: true, describe: 'Where it is mounted' }),
  async run({ mountpoint }, context) {
    const { unmountPath } = await import('../../mount/unmount.js')
    const path = resolve(mountpoint)
    await unmountPath(path)
    context.output.report({ status: 'unmounted', mountpoint: path }, () => `Unmounted ${path}`)
  },
})
