/** How a join token reaches this process: in no argument, where every user of the machine could read and use it first. */
import { addAbortSignal } from 'node:stream'
import { usage } from './arguments.js'
import { askUnseen } from './ask-unseen.js'

/** A token is below 600 characters. */
const TOKEN_BYTES = 4096

export interface TokenArguments {
  /** The token itself, or `-` for standard input. */
  readonly token: string | undefined
  readonly file: string | undefined
}

/** From the arguments, a file, standard input, or whoever sits at the terminal. */
export async function readToken({ token, file }: TokenArguments, signal: AbortSignal): Promise<string> {
  if (token !== undefined && file !== undefined) throw usage('Give a token or --token-file, not both', 'join')
  if (file !== undefined) return await readFileStart(file)
  if (token !== undefined && token !== '-') return token
  if (process.stdin.isTTY) return (await askUnseen('Join token', signal, () => true)).trimEnd()
  if (token === '-') return await readFirstLine(signal)
  throw usage('Give the token: `imager join -` reads it from standard input, --token-file FILE from a file', 'join')
}

async function readFileStart(file: string): Promise<string> {
  const { openSync, readSync, closeSync } = await import('node:fs')
  const descriptor = openSync(file, 'r')
  try {
    const bytes = Buffer.alloc(TOKEN_BYTES)
    return bytes.toString('utf8', 0, readSync(descriptor, bytes))
  } finally {
    closeSync(descriptor)
  }
}

async function readFirstLine(signal: AbortSignal): Promise<string> {
  let text = ''
  for await (const chunk of addAbortSignal(signal, process.stdin)) {
    text += String(chunk)
    if (text.trimStart().includes('\n') || text.length > TOKEN_BYTES) break
  }
  return text.trimStart().split('\n')[0]?.slice(0, TOKEN_BYTES) ?? ''
}
