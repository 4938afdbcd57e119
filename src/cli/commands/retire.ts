import { defineCommand } from '../command.js'
import { findVolume } from '../volume.js'

export const command = defineCommand({
  usage: 'retire <volume>',
  describe: 'Raise no alarm any more for a disk that nobody backs up; its snapshots stay',
  example: ['imager retire old-server:/dev/sdb', 'for a server that was sold'],
  builder: (yargs) =>
    yargs
      .positional('volume', {
        type: 'string',
        demandOption: true,
        describe: 'The source as in imager status, HOST:SOURCE, or the id of the volume',
      })
      .option('undo', { type: 'boolean', default: false, describe: 'Raise alarms again' }),
  async run(args, context) {
    const { catalog, management } = await context.fleet()
    const { volumes } = await catalog.policies()
    // Also one of which no run has come to anything yet.
    const tried = (await catalog.runs()).filter((run) => !volumes.some(({ volume }) => volume === run.volume))
    const found = findVolume([...volumes, ...tried], args.volume, 'retire')
    await management.retire(found, !args.undo)
    const { appliance, applianceName, volume, source } = found
    const report = { status: 'done', appliance, applianceName, volume, source, retired: !args.undo }
    context.output.report(report, () =>
      report.retired
        ? `${source} on ${applianceName} is retired: it raises no alarm, and its snapshots stay.`
        : `${source} on ${applianceName} raises alarms again.`,
    )
  },
})
