import { resolve } from 'node:path'
import { computerName, parseAddress, usage } from '../arguments.js'
import { defineCommand } from '../command.js'
import { readWords } from '../words-input.js'

export const command = defineCommand({
  usage: 'join [token]',
  describe: 'Make this host a member, with a token from imager invite; without one it asks for it',
  example: ['imager join --name pc-7 --domain room-2', 'then, on a peer: imager peer --store /srv/imager'],
  builder: (yargs) =>
    yargs
      .positional('token', {
        type: 'string',
        describe:
          '- reads it from standard input. Given here itself, other users of this host can read it while this runs',
      })
      .option('token-file', { type: 'string', requiresArg: true, describe: 'Read it from this file' })
      .option('name', {
        type: 'string',
        requiresArg: true,
        describe: 'Name of this host (default: of this computer, or of whose place it takes)',
      })
      .option('domain', {
        type: 'string',
        requiresArg: true,
        describe: 'What fails together (default: this host alone)',
      })
      .option('replaces', {
        type: 'string',
        requiresArg: true,
        describe:
          "Take the place of a server that is gone: its backups and its name are this one's, and it is let in no more",
      })
      .option('words-file', {
        type: 'string',
        requiresArg: true,
        describe: 'With --replaces: file with the 24 words; - asks for them',
      })
      .option('admin-key', {
        type: 'string',
        requiresArg: true,
        describe:
          'With --replaces, instead of the words: file with the key of an admin; old backups stay locked without the words',
      })
      .option('even-if-alive', { type: 'boolean', describe: 'With --replaces: also where that server is still there' })
      .option('listen', {
        type: 'string',
        requiresArg: true,
        coerce: parseAddress('listen', 'join'),
        describe: 'HOST:PORT a peer will listen on (default: 0.0.0.0:7421)',
      }),
  async run(args, { state, output, signal }) {
    const [{ joinFleet }, { readToken }] = await Promise.all([
      import('../../fleet/join.js'),
      import('../token-input.js'),
    ])
    const replaces = await readReplacing(args, { output, signal })
    const token = await readToken({ token: args.token, file: args['token-file'] }, signal)
    const listen = args.listen ?? null
    const asked = args.name ?? (replaces ? undefined : computerName())
    const home = await joinFleet({ token, state, name: asked, domain: args.domain, listen, replaces })
    output.report(
      {
        status: 'done',
        fleet: home.fleet,
        host: home.host,
        name: home.name,
        asked: asked ?? home.name,
        role: home.role,
        state,
        // What was backed up before takes the words.
        ...(replaces && typeof replaces.by !== 'string' && { locked: true }),
      },
      () => `${home.name} is now a member of fleet ${home.fleet}, as ${home.role}.`,
    )
    if (replaces)
      output.note(`It has the place of ${replaces.name}: list its backups with ${output.typed('snapshots')}.`)
    if (replaces && typeof replaces.by !== 'string') {
      const read = output.typed('restore SNAPSHOT --to TARGET --words-file words.txt')
      output.note(`An admin has no keys: what was backed up before is read here with the words only, ${read}.`)
    }
    if (asked !== undefined && home.name !== asked) {
      output.note(
        `There is a host ${asked} already. For another name, on the coordinator: imager rename ${home.name} NAME`,
      )
    }
    if (home.role === 'peer') output.note(`Lend disk space with ${output.typed('peer --store DIR')}.`)
    if (home.role === 'appliance') output.note(`Back up a disk with ${output.typed('snapshot /dev/…')}.`)
  },
})

interface ReplacingArgs {
  readonly replaces?: string | undefined
  readonly 'words-file'?: string | undefined
  readonly 'admin-key'?: string | undefined
  readonly 'even-if-alive'?: boolean | undefined
  readonly token?: string | undefined
  readonly 'token-file'?: string | undefined
}

/** Throws USAGE where neither the words nor an admin's key is named, or they are of no use; NOT_ADMIN, SECRET_EXPOSED. */
async function readReplacing(args: ReplacingArgs, context: Parameters<typeof readWords>[2]) {
  const { replaces: name, 'words-file': file, 'admin-key': key } = args
  const evenIfAlive = args['even-if-alive'] === true
  if (name === undefined) {
    if (file !== undefined || key !== undefined || evenIfAlive)
      throw usage('--words-file, --admin-key and --even-if-alive belong to --replaces', 'join')
    return undefined
  }
  if ((file === undefined) === (key === undefined))
    throw usage('--replaces takes the 24 words, --words-file FILE, or the key of an admin, --admin-key FILE', 'join')
  if (key !== undefined) {
    const { loadAdminKey } = await import('../../keys/admin-key.js')
    return { name, evenIfAlive, by: loadAdminKey(resolve(key)) }
  }
  if (file === undefined) return undefined
  if (file === '-' && args.token === '-') throw usage('Only one of token and words comes from standard input', 'join')
  return { name, evenIfAlive, by: (await readWords(file, 'join', context)) ?? '' }
}
