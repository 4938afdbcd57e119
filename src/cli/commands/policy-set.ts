import type { Policy } from '../../catalog/types.js'
import { readAdminKey, takingAdminKey } from '../admin-key.js'
import { usage } from '../arguments.js'
import { defineCommand } from '../command.js'
import { findVolume } from '../volume.js'

const VERB = 'policy set'
const UNITS = { h: 3_600_000, d: 86_400_000 } as const
const MOST_HOSTS = 31

export const command = defineCommand({
  usage: 'set [source]',
  describe: 'Decide, for one disk or for all, how many hosts may be missing and when an alarm is due',
  example: ['imager policy set /dev/sdb --tolerate 2 --max-age 26h', 'auto takes a decision back'],
  builder: (yargs) =>
    takingAdminKey(yargs)
      .positional('source', {
        type: 'string',
        describe: 'As `imager snapshots` lists it, or HOST:SOURCE; left out: every disk without a decision of its own',
      })
      .option('tolerate', {
        type: 'string',
        requiresArg: true,
        describe: 'Hosts that may be missing at a restore, or auto: as many as the fleet allows',
      })
      .option('max-age', {
        type: 'string',
        requiresArg: true,
        describe: 'Age of the newest snapshot at which status raises an alarm: 26h, 40d, never, or auto',
      }),
  async run(args, context) {
    const policy: Partial<Policy> = {
      ...(args.tolerate === undefined ? {} : { tolerate: parseTolerate(args.tolerate) }),
      ...(args['max-age'] === undefined ? {} : { maxAgeMs: parseAge(args['max-age']) }),
    }
    if (Object.keys(policy).length === 0) throw usage('Nothing to set: give --tolerate or --max-age', VERB)
    const { catalog, management, home } = await context.fleet()
    const volume = args.source === undefined ? null : findVolume((await catalog.policies()).volumes, args.source, VERB)
    const admin = await readAdminKey(args['admin-key'], context, () => home.role === 'admin')
    await management.setPolicy(volume && { appliance: volume.appliance, volume: volume.volume }, policy, admin)
    const of = volume ? `${volume.applianceName}:${volume.source}` : null
    context.output.report(
      { status: 'done', of, ...policy },
      () => `Decided for ${of ?? 'every disk without a decision of its own'}.`,
    )
  },
})

function parseTolerate(text: string): number | null {
  if (text === 'auto') return null
  const hosts = Number(text)
  if (Number.isInteger(hosts) && hosts >= 1 && hosts <= MOST_HOSTS) return hosts
  throw usage(`--tolerate takes a number of hosts from 1 to ${MOST_HOSTS}, or auto, not ${text}`, VERB)
}

/** Milliseconds; 0: never. */
function parseAge(text: string): number | null {
  if (text === 'auto') return null
  if (text === 'never') return 0
  const [, number, unit] = /^(\d{1,5})([hd])$/.exec(text) ?? []
  if (Number(number) >= 1) return Number(number) * UNITS[unit as keyof typeof UNITS]
  throw usage(`--max-age takes hours or days such as 26h or 40d, never, or auto, not ${text}`, VERB)
}
