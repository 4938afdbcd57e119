import { advertised } from '../../fleet/address.js'
import { asCoordinator } from '../arguments.js'
import { defineCommand } from '../command.js'

export const command = defineCommand({
  usage: 'init',
  describe: 'Found a fleet: this host becomes its coordinator',
  example: ['imager init --listen 0.0.0.0:7420', 'then: imager coordinator'],
  builder: (yargs) =>
    asCoordinator(yargs, 'init', 'the coordinator').option('words-file', {
      type: 'string',
      requiresArg: true,
      describe: 'Write the 24 words there, not here',
    }),
  async run(args, { state, output }) {
    const [{ initFleet }, { wordsInFile }, { unfinishedRoot }] = await Promise.all([
      import('../../fleet/init.js'),
      import('../../fleet/words-file.js'),
      import('../../keys/home.js'),
    ])
    const { name, 'words-file': wordsFile } = args
    const listen = args.listen as string
    const address = args.address ?? advertised(listen)
    const options = { state, name, domain: args.domain, listen, address }
    if (wordsFile !== undefined) {
      const { fleet, host } = initFleet({ ...options, ...wordsInFile(wordsFile, state) })
      const report = { status: 'done', fleet, host, address, state, wordsFile }
      output.report(report, () => `Fleet ${fleet} is founded. The words are in ${wordsFile}.`)
    } else {
      if (unfinishedRoot(state)) output.note('An `init` was cut short here. Words that it may have shown are void.')
      initFleet({
        ...options,
        // Shown before there is a fleet: one whose words nobody has must not come to be.
        keepWords: (words, founded) =>
          output.reportOnce({ status: 'done', ...founded, address, state, words }, () => onPaper(words)),
      })
    }
    output.note(`This machine holds all duties for now; ${output.typed('duties')} lists them.`)
    output.note(`Start it with ${output.typed('coordinator')}, then let hosts in with ${output.typed('invite')}.`)
  },
})

/** Four lines of six, numbered: to be written down and read back. */
function onPaper(words: string): string {
  const numbered = words.split(' ').map((word, index) => `${String(index + 1).padStart(2)} ${word.padEnd(8)}`)
  const lines = [0, 6, 12, 18].map((from) => `  ${numbered.slice(from, from + 6).join('  ')}`.trimEnd())
  return `The 24 recovery words. Write them down now: they are stored nowhere and cannot be shown again.
Whoever has them can read every backup; without them a lost coordinator cannot be rebuilt.

${lines.join('\n')}
`
}
