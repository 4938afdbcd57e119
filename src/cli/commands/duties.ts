import { DUTY_WORDS } from '../../keys/delegation.js'
import { defineCommand } from '../command.js'
import { table } from '../output.js'

export const command = defineCommand({
  usage: 'duties',
  describe: 'List who may do what for the fleet: sign, let hosts in, hand out keys, delete',
  example: ['imager duties', 'says when one machine holds all of them'],
  builder: (yargs) => yargs,
  async run(_args, context) {
    const { listDuties } = await import('../../keys/duties.js')
    const report = listDuties(await (await context.fleet()).membership())
    context.output.report({ ...report }, ({ duties, oneMachine }) => {
      const rows = duties.map(({ duty, name, term }) => [duty, name, String(term), DUTY_WORDS[duty]])
      const notes = oneMachine
        ? [
            '! One machine holds all duties: whoever takes it over lets in whom he likes.',
            '  With a second one: `imager duties move enroller HOST --words-file FILE`.',
          ]
        : []
      return [table(['DUTY', 'HOST', 'TERM', 'MAY'], rows), ...notes].join('\n')
    })
  },
})
