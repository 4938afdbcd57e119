import { advertised } from '../../fleet/address.js'
import { asCoordinator, usage } from '../arguments.js'
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
    const [{ initFleet }, { existsSync, writeFileSync }] = await Promise.all([
      import('../../fleet/init.js'),
      import('node:fs'),
    ])
    const { name, 'words-file': wordsFile } = args
    const listen = args.listen as string
    const address = args.address ?? advertised(listen)
    let words = ''
    const home = initFleet({
      state,
      name,
      domain: args.domain ?? name,
      listen,
      address,
      keepWords(text) {
        if (wordsFile === undefined) words = text
        else if (existsSync(wordsFile))
          throw usage(`${wordsFile} exists already: it may hold the words of another fleet`, 'init')
        else writeFileSync(wordsFile, `${text}\n`, { mode: 0o600, flag: 'wx', flush: true })
      },
    })
    const kept = wordsFile === undefined ? { words } : { wordsFile }
    output.report({ status: 'done', fleet: home.fleet, host: home.host, address, state, ...kept }, () =>
      wordsFile === undefined ? onPaper(words) : `Fleet ${home.fleet} is founded. The words are in ${wordsFile}.`,
    )
    output.note('Start the coordinator with `imager coordinator`, then let hosts in with `imager invite`.')
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
