/**
 * How the 24 words reach this process: in a file, by standard input, or typed at the terminal. In no argument, where every
 * user of the machine could read them.
 */
import { addAbortSignal } from 'node:stream'
import type { Argv } from 'yargs'
import { usage } from './arguments.js'
import { askUnseen } from './ask-unseen.js'
import type { Context } from './context.js'

/** 24 words with numbers and line ends between them are far below this. */
const WORDS_BYTES = 4096
const WORDS = 24

/** The option of commands that read what a snapshot holds. */
export function takingWords<T>(yargs: Argv<T>) {
  return yargs.option('words-file', {
    type: 'string',
    requiresArg: true,
    describe: 'Of a host without the keys: file with the 24 words, for this command alone; - asks for them',
  })
}

/** Undefined where no file is named. Throws USAGE for a file that holds more. */
export async function readWords(
  file: string | undefined,
  verb: string,
  { output, signal }: Pick<Context, 'output' | 'signal'>,
): Promise<string | undefined> {
  if (file === undefined) return undefined
  const { keepMemoryPrivate } = await import('../native.js')
  keepMemoryPrivate()
  const text = file === '-' ? await readInput(signal) : await readStart(file, (what) => output.note(what))
  if (text.length > WORDS_BYTES) throw usage(`${named(file)} holds more than ${WORDS} words`, verb)
  return withoutNumbers(text)
}

async function readInput(signal: AbortSignal): Promise<string> {
  const isWhole = (text: string) => text.length > WORDS_BYTES || (text.endsWith('\n') && countWords(text) >= WORDS)
  if (process.stdin.isTTY) return await askUnseen('Recovery words', signal, isWhole)
  let text = ''
  for await (const chunk of addAbortSignal(signal, process.stdin)) {
    text += String(chunk)
    if (isWhole(text)) break
  }
  return text
}

/** One byte more than there may be. */
async function readStart(file: string, note: (what: string) => void): Promise<string> {
  const { openSync, fstatSync, readSync, closeSync } = await import('node:fs')
  const descriptor = openSync(file, 'r')
  try {
    const { mode } = fstatSync(descriptor)
    if (mode & 0o077) note(`Other users of this host may read ${file}. Delete it when this is done.`)
    const bytes = Buffer.alloc(WORDS_BYTES + 1)
    let length = 0
    for (let read = -1; read !== 0 && length < bytes.length; length += read) {
      read = readSync(descriptor, bytes, length, bytes.length - length, null)
    }
    return bytes.toString('utf8', 0, length)
  } finally {
    closeSync(descriptor)
  }
}

/** As `init` prints them, and as people copy them: `1 apple  2. bird`. */
function withoutNumbers(words: string): string {
  return words.replace(/\d+[.:)]?/g, ' ')
}

function countWords(text: string): number {
  return withoutNumbers(text).split(/\s+/).filter(Boolean).length
}

function named(file: string): string {
  return file === '-' ? 'Standard input' : file
}
