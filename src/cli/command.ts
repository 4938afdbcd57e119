/**
 * What a command file exports: how it is called, what it is for, an example that runs, its options, and what it does.
 * Adding a command is such a file and a line in the table of `main.ts`. A command file imports nothing heavy at its top.
 */
import type { Argv } from 'yargs'
import type { Context } from './context.js'

export interface Command {
  /** yargs' form: `join <token>`. */
  readonly usage: string
  readonly describe: string
  readonly example: readonly [line: string, meaning: string]
  readonly builder: (yargs: Argv) => Argv
  /** Gives the exit code where it is not 0. */
  readonly run: (args: Record<string, unknown>, context: Context) => Promise<number | undefined>
}

/** Gives `run` the types of what `builder` declares. */
export function defineCommand<A>(command: {
  usage: string
  describe: string
  example: readonly [line: string, meaning: string]
  builder(yargs: Argv): Argv<A>
  // biome-ignore lint/suspicious/noConfusingVoidType: most commands give no code
  run(args: A, context: Context): Promise<number | void>
}): Command {
  return {
    usage: command.usage,
    describe: command.describe,
    example: command.example,
    builder: (yargs) => command.builder(yargs) as unknown as Argv,
    run: async (args, context) => (await command.run(args as A, context)) ?? undefined,
  }
}
