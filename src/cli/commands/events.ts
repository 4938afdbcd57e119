import { formatTime } from '../../base/units.js'
import type { EventRow } from '../../catalog/registry.js'
import { defineCommand } from '../command.js'

const POLL_MS = 1_000

export const command = defineCommand({
  usage: 'events',
  describe: 'Show what happened: who joined or left, what was refused, alarms; newest last',
  example: ['imager events --follow', 'and each new one, until Ctrl-C'],
  builder: (yargs) =>
    yargs.option('follow', { type: 'boolean', default: false, describe: 'Go on, and show each new one' }),
  async run(args, context) {
    const [{ Follower }, { setTimeout: sleep }, { management, clock }] = await Promise.all([
      import('../follow.js'),
      import('node:timers/promises'),
      context.fleet(),
    ])
    const { output, signal } = context
    const follower = new Follower()
    for (;;) {
      output.lines(follower.take(await management.events(follower.after), clock.now()), render)
      if (!args.follow) return
      await sleep(POLL_MS, undefined, { signal }).catch(() => undefined)
      if (signal.aborted) return
    }
  },
})

function render({ time, kind, sentence, count }: EventRow): string {
  return `${formatTime(time, 'seconds')}  ${kind.padEnd(10)}  ${sentence}${count > 1 ? ` (${count} times in a minute)` : ''}`
}
