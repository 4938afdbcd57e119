import { formatTime } from '../../base/units.js'
import { defineCommand } from '../command.js'

interface Locked {
  status: 'locked' | 'nothing'
  /** Whose snapshots could be opened here; empty where what lay here did not verify. */
  appliances: string[]
  /** Until when they would have been. */
  wasOpenUntil: number | null
}

export const command = defineCommand({
  usage: 'lock',
  describe: 'Forget the keys that a recovery opened here; from then on --words-file opens snapshots',
  example: ['imager lock', 'when everything that burned is restored'],
  builder: (yargs) => yargs,
  async run(_args, context) {
    const [{ findOpenedKeys, removeOpenedKeys }, { nameOf }, { systemClock }, home] = await Promise.all([
      import('../../keys/opened-keys.js'),
      import('../../keys/vault.js'),
      import('../../base/clock.js'),
      context.home(),
    ])
    const opened = findOpenedKeys(home, systemClock.now())
    const removed = removeOpenedKeys(home.state)
    const isOpen = 'until' in opened
    const report: Locked = {
      status: isOpen || removed || opened.why !== '' ? 'locked' : 'nothing',
      appliances: isOpen ? opened.appliances.map((appliance) => nameOf(home, appliance)) : [],
      wasOpenUntil: isOpen ? opened.until : null,
    }
    context.output.report(report, render)
  },
})

function render({ status, appliances, wasOpenUntil }: Locked): string {
  if (status === 'nothing') return 'Nothing to lock: this host keeps no key to the snapshots of others.'
  const whose = appliances.length > 0 ? `the snapshots of ${appliances.join(', ')}` : 'snapshots'
  const until = wasOpenUntil === null ? '' : ` (they would have been kept until ${formatTime(wasOpenUntil)})`
  return [
    `Locked: the keys to ${whose} are gone from this host${until}.`,
    'With --words-file restore, mount, ls and show open them again, for one command each. A mount that runs goes on until `imager unmount`.',
  ].join('\n')
}
