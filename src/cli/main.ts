/**
 * The command line: finds the command, parses, runs, prints, exits with the code of the error table. Only the command
 * that was asked for is loaded, so that a start stays short.
 */
import { setMaxListeners } from 'node:events'
import { realpathSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { Argv } from 'yargs'
import { Exit, ImagerError } from '../base/errors.js'
import type { Command } from './command.js'
import { Context, defaultState } from './context.js'
import { Output, type Streams } from './output.js'
import { writeStdout } from './standard-output.js'
import { nearest } from './suggest.js'

/** Every command, in the order of `imager --help`. */
const COMMANDS: Record<string, () => Promise<{ command: Command }>> = {
  init: () => import('./commands/init.js'),
  invite: () => import('./commands/invite.js'),
  join: () => import('./commands/join.js'),
  coordinator: () => import('./commands/coordinator.js'),
  peer: () => import('./commands/peer.js'),
  hosts: () => import('./commands/hosts.js'),
  rename: () => import('./commands/rename.js'),
  remove: () => import('./commands/remove.js'),
  duties: () => import('./commands/duties.js'),
  'coordinator move': () => import('./commands/coordinator-move.js'),
  'duties move': () => import('./commands/duties-move.js'),
  'admin add': () => import('./commands/admin-add.js'),
  'admin list': () => import('./commands/admin-list.js'),
  'admin remove': () => import('./commands/admin-remove.js'),
  events: () => import('./commands/events.js'),
  status: () => import('./commands/status.js'),
  retire: () => import('./commands/retire.js'),
  snapshot: () => import('./commands/snapshot.js'),
  snapshots: () => import('./commands/snapshots.js'),
  show: () => import('./commands/show.js'),
  ls: () => import('./commands/ls.js'),
  map: () => import('./commands/map.js'),
  mount: () => import('./commands/mount.js'),
  unmount: () => import('./commands/unmount.js'),
  restore: () => import('./commands/restore.js'),
  lock: () => import('./commands/lock.js'),
  check: () => import('./commands/check.js'),
  'policy show': () => import('./commands/policy-show.js'),
  'policy set': () => import('./commands/policy-set.js'),
  recover: () => import('./commands/recover.js'),
  'lab up': () => import('./commands/lab-up.js'),
  'lab down': () => import('./commands/lab-down.js'),
}

const HELP_COLUMNS = 110
/** A lone `-` on its way through yargs, which else takes it for an option without a name. */
const DASH = '\0-'
/** The file that `node` runs. */
const PROGRAM = fileURLToPath(import.meta.url)

/** Runs one command line; resolves with the exit code. */
export async function main(typed: readonly string[], streams: Streams, signal: AbortSignal): Promise<number> {
  const argv = asOptions(typed)
  const output = new Output(argv.includes('--json'), streams)
  let context: Context | undefined
  try {
    const name = commandName(argv)
    if (name === undefined) return output.exit(await withoutCommand(argv, output))
    const { command } = await (COMMANDS[name] as () => Promise<{ command: Command }>)()
    const args = await parse(name, command, argv, output)
    if (args === undefined) return output.exit(Exit.done)
    context = new Context(args, output, signal, PROGRAM, argv)
    try {
      return output.exit((await command.run(args, context)) ?? Exit.done)
    } finally {
      await context.close()
    }
  } catch (error) {
    if (signal.aborted && !(error instanceof ImagerError)) return output.fail(new ImagerError('INTERRUPTED'))
    return output.fail(context?.explain(error) ?? error)
  }
}

/** `imager help restore` is `imager restore --help`; `version` and `-V` are `--version`. */
function asOptions(argv: readonly string[]): readonly string[] {
  const [first, ...others] = argv
  if (first === 'help') return [...others, '--help']
  if (first === 'version' || first === '-V') return ['--version', ...others]
  return argv.map((word) => (word === '-h' ? '--help' : word))
}

/** The name in the table; undefined where none was given. Throws USAGE on one that does not exist. */
function commandName(argv: readonly string[]): string | undefined {
  const words = argv.filter((word, at) => !word.startsWith('-') && argv[at - 1] !== '--state')
  const [first, second] = words
  if (first === undefined) return undefined
  const pair = `${first} ${second}`
  if (Object.hasOwn(COMMANDS, pair)) return pair
  if (Object.hasOwn(COMMANDS, first)) return first
  const names = Object.keys(COMMANDS)
  const group = names.filter((name) => name.startsWith(`${first} `))
  if (group.length > 0 && argv.includes('--help')) return undefined
  if (group.length > 0) throw usage(`${first} needs one of: ${group.join(', ')}`, first)
  const close = nearest(first, names) ?? nearest(pair, names)
  throw usage(`There is no command ${JSON.stringify(first)}${close ? `. Did you mean ${close}?` : ''}`)
}

/** undefined where help was asked for and printed. */
async function parse(name: string, command: Command, argv: readonly string[], output: Output) {
  const { default: yargs } = await import('yargs')
  const words = name.split(' ')
  const rest = argv.map((word) => (word === '-' ? DASH : word))
  // Of any command but its default one yargs composes the help at each start; of that one it shows it less well.
  const asDefault = !argv.includes('--help')
  const prefix = asDefault ? words : words.slice(0, -1)
  for (const word of prefix) {
    rest.splice(
      rest.findIndex((one, at) => one === word && rest[at - 1] !== '--state'),
      1,
    )
  }
  let parsed: Record<string, unknown> | undefined
  const parser: Argv = yargs(rest)
    .scriptName(['imager', ...prefix].join(' '))
    .locale('en')
    .parserConfiguration({ 'duplicate-arguments-array': false, 'parse-positional-numbers': false })
    .command(
      asDefault ? command.usage.replace(/^\S+/, '$0') : command.usage,
      command.describe,
      (inner: Argv) =>
        command
          .builder(inner)
          .option('state', { type: 'string', describe: `State folder (or IMAGER_STATE; default ${defaultState()})` })
          .option('json', { type: 'boolean', describe: 'Print JSON, one object a line' })
          .example(...command.example),
      (args) => {
        parsed = Object.fromEntries(Object.entries(args).map(([key, value]) => [key, value === DASH ? '-' : value]))
      },
    )
    .wrap(HELP_COLUMNS)
    .strict()
    .version(false)
    .exitProcess(false)
    .fail((message: string, error: Error | undefined) => {
      // yargs wraps what an option's check throws into an error of its own.
      if (error && error.name !== 'YError') throw error
      throw usage(plain(message || (error?.message ?? ''), command), name)
    })
  let help = ''
  try {
    await parser.parseAsync(rest, {}, (_error: unknown, _args: unknown, text: string) => {
      help = text
    })
  } catch (error) {
    if (error instanceof ImagerError && error.code === 'USAGE') throw await withSuggestion(error, parser, name, argv)
    throw error
  }
  if (help) output.print(help)
  return help ? undefined : parsed
}

/** yargs' sentences where a person would say it otherwise. */
function plain(message: string, command: Command): string {
  if (message.startsWith('Not enough non-option')) return `Something is missing. It is called as: ${command.usage}`
  const [, option, given, choices] = /Argument: (\S+), Given: (.*), Choices: (.*)/.exec(message) ?? []
  return option === undefined ? message : `--${option} takes one of ${choices?.replaceAll('"', '')}, not ${given}`
}

/** `Unknown argument: peer` -> the option that was meant; also where yargs misses the one that `--too` was to be. */
async function withSuggestion(
  error: ImagerError,
  parser: Argv,
  name: string,
  argv: readonly string[],
): Promise<ImagerError> {
  const what = String(error.details.what)
  const options: string[] = (await parser.getHelp()).match(/(?<=--)[a-z][a-z-]*/g) ?? []
  const known = (option: string) => options.includes(option) || options.includes(option.replace(/^no-/, ''))
  const mistyped = argv.filter((word) => /^--[a-z]/.test(word)).map(optionName)
  const unknown =
    /^Unknown arguments?: ([^,]+)/.exec(what)?.[1] ??
    (what.startsWith('Missing required') ? mistyped.find((option) => !known(option)) : undefined)
  if (unknown === undefined) return error
  const close = nearest(unknown, options)
  return usage(`Unknown option or argument: ${unknown}${close ? `. Did you mean --${close}?` : ''}`, name)
}

async function withoutCommand(argv: readonly string[], output: Output): Promise<number> {
  if (argv.includes('--version')) {
    const { version } = await import('../native.js')
    output.print(version())
    return Exit.done
  }
  const known = ['help', 'json', 'state', 'version']
  const unknown = argv.find((word) => word.startsWith('-') && !known.includes(optionName(word)))
  if (unknown !== undefined) {
    const close = nearest(optionName(unknown), known)
    throw usage(`Unknown option ${unknown}${close ? `. Did you mean --${close}?` : ''}`)
  }
  if (!argv.includes('--help')) throw usage('No command given')
  const group = argv.find(
    (word) => !word.startsWith('-') && Object.keys(COMMANDS).some((name) => name.startsWith(word)),
  )
  output.print(await overview(group ?? ''))
  return Exit.done
}

/** Of all commands, or of those that begin with the word. */
async function overview(word: string): Promise<string> {
  const lines: string[] = []
  for (const [name, load] of Object.entries(COMMANDS)) {
    if (!name.startsWith(word)) continue
    const { command } = await load()
    const words = command.usage.split(' ')
    lines.push(`  ${[name, ...words.slice(1)].join(' ').padEnd(34)} ${command.describe}`)
  }
  return `imager: a server's disk, kept on the unused disk of ordinary computers

Usage: imager COMMAND [options]

${lines.join('\n')}

  --state DIR   state folder (or IMAGER_STATE; default ${defaultState()})
  --json        print JSON, one object a line
  --help        after a command: its options and an example (also: imager help COMMAND)
  --version     which version this is (also: imager version, -V)

Try it on this computer: imager lab up /tmp/lab --peers 3
`
}

function optionName(word: string): string {
  return word.replace(/^-+/, '').replace(/=.*/, '')
}

function usage(what: string, verb?: string): ImagerError {
  return verb === undefined ? new ImagerError('INVALID', { what }) : new ImagerError('USAGE', { what, verb })
}

async function start(): Promise<void> {
  const controller = new AbortController()
  // Every request in flight listens.
  setMaxListeners(0, controller.signal)
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(name, () => {
      if (name === 'SIGHUP') process.stderr.write('imager: the terminal was closed (SIGHUP); ending\n')
      // A terminal that closes may say so more than once.
      else if (controller.signal.aborted) process.exit(Exit.interrupted)
      controller.abort(new ImagerError('INTERRUPTED'))
    })
  }
  // Where nobody hears what goes wrong, the work goes on all the same.
  process.stderr.on('error', () => undefined)
  const streams = { stdout: { write: writeStdout }, stderr: process.stderr }
  process.exitCode = await main(process.argv.slice(2), streams, controller.signal)
}

if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === PROGRAM) void start()
