import { fullName } from '../../catalog/choose.js'
import { namingSnapshot } from '../arguments.js'
import { defineCommand } from '../command.js'
import { chosenNote, findSnapshot } from '../which-snapshot.js'
import { readWords, takingWords } from '../words-input.js'

export const command = defineCommand({
  usage: 'mount <snapshot> <mountpoint>',
  describe: 'Show a snapshot as a folder: disk.img, volumes/, files/',
  example: ['imager mount latest /mnt/restore', 'then: cp /mnt/restore/files/1/etc/fstab .'],
  builder: (yargs) =>
    takingWords(namingSnapshot(yargs))
      .positional('mountpoint', { type: 'string', demandOption: true, describe: 'An empty folder' })
      .option('foreground', { type: 'boolean', default: false, describe: 'Stay, and unmount on Ctrl-C' }),
  async run({ foreground, ...args }, context) {
    const { mountpoint } = args
    const { state, output, signal, program } = context
    if (!foreground) {
      const { mountInBackground } = await import('../../daemon/background.js')
      const words = await readWords(args['words-file'], 'mount', context)
      const ready = await mountInBackground({ ...args, words, state, program, signal })
      output.aside(chosenNote(ready.snapshot))
      return output.report(ready, (done) => `Mounted on ${done.mountpoint} by process ${done.pid}`)
    }
    const { tellParent } = await import('../../daemon/parent.js')
    try {
      const words = await readWords(args['words-file'], 'mount', context)
      const [{ serveMount }, { unlocking }, fleet] = await Promise.all([
        import('../../daemon/mount.js'),
        import('../../fleet/unlock.js'),
        context.fleet(),
      ])
      const unlock = unlocking(fleet, words, signal)
      const found = await findSnapshot(args, fleet.catalog, output)
      const { id, source, applianceName, time, arrived, others } = found
      const snapshot = { id, source, applianceName, time, arrived, others }
      const ready = (path: string) => {
        const report = { status: 'mounted', mountpoint: path, pid: process.pid, snapshot } as const
        if (!tellParent(report)) output.report(report, () => `Mounted on ${path}; Ctrl-C unmounts it`)
      }
      const corrected = await serveMount({ snapshot: fullName(found), mountpoint, state, unlock, ready, signal }, fleet)
      if (corrected > 0) output.note(`Corrected ${corrected} damaged shards on the way.`)
    } catch (error) {
      tellParent(error)
      throw error
    }
  },
})
